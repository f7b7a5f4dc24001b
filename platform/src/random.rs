//! Random bits for identifiers: a generator per thread, seeded once by the system, that makes no system call afterwards.
//!
//! Invariant: for identifiers only, which have to be unique; never for anything that has to be secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id()));
    static STREAM: u64 = RandomState::new().hash_one(std::process::id());
}

/// 64 random bits: SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) fn bits64() -> u64 {
    let state = STATE.with(|state| {
        state.set(state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        state.get()
    });
    mixed(state)
}

/// 128 random bits; the upper half depends on a second seed, so that two threads meet only if both seeds do.
pub(crate) fn bits128() -> u128 {
    let low = bits64();
    let high = mixed(low ^ STREAM.with(|stream| *stream));
    u128::from(high) << 64 | u128::from(low)
}

fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn threads_do_not_repeat_each_other() {
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| (0..1000).map(|_| bits128()).collect::<Vec<_>>())).collect();
        let all: Vec<u128> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let distinct: HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 4000);
    }
}
