//! Until when something is closed, and how often it has been, in one word that is read at once.
//!
//! Invariant: who was let in during one era changes nothing in the next.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Milliseconds in this many bits last for eight thousand years.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// How often something was closed or opened, modulo 65,536.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Era(u64);

/// An era and the moment until which something is closed in it; 0: it is not.
#[derive(Debug, Default)]
pub(crate) struct Closure(AtomicU64);

impl Closure {
    pub(crate) fn read(&self) -> (Era, u64) {
        let word = self.0.load(Relaxed);
        (Era(word >> TIME_BITS), word & TIME)
    }

    pub(crate) fn is_in(&self, era: Era) -> bool {
        self.read().0 == era
    }

    /// Begins the next era, unless that has happened already; only one who tries does it.
    pub(crate) fn advance(&self, from: Era, until_ms: u64) -> bool {
        let next = Era((from.0 + 1) & (u64::MAX >> TIME_BITS));
        self.write(from, |_| true, next, until_ms)
    }

    /// Another moment in the same era.
    pub(crate) fn set(&self, era: Era, until_ms: u64) -> bool {
        self.write(era, |_| true, era, until_ms)
    }

    /// The same for the first one who does so at this moment.
    pub(crate) fn postpone(&self, era: Era, from_ms: u64, until_ms: u64) -> bool {
        self.write(era, |until| until == from_ms, era, until_ms)
    }

    fn write(&self, from: Era, is_right: impl Fn(u64) -> bool, to: Era, until_ms: u64) -> bool {
        let word = to.0 << TIME_BITS | until_ms.min(TIME);
        let is_from = |word: u64| word >> TIME_BITS == from.0 && is_right(word & TIME);
        self.0.fetch_update(Relaxed, Relaxed, |before| is_from(before).then_some(word)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Closure;

    #[test]
    fn only_one_ends_an_era_and_only_one_postpones() {
        let closure = Closure::default();
        let (first, until) = closure.read();
        assert_eq!(until, 0);
        assert!(closure.advance(first, 7));
        assert!(!closure.advance(first, 9) && !closure.set(first, 9));
        let (second, until) = closure.read();
        assert_eq!((until, closure.is_in(first)), (7, false));
        assert!(closure.postpone(second, 7, 8) && !closure.postpone(second, 7, 9));
        assert_eq!(closure.read(), (second, 8));
    }

    #[test]
    fn eras_begin_anew_after_the_last() {
        let closure = Closure::default();
        let first = closure.read().0;
        (0..1 << 16).for_each(|_| assert!(closure.advance(closure.read().0, 1)));
        assert_eq!(closure.read(), (first, 1));
    }
}
