//! Which keys a weight applies to.
//!
//! Invariant: sticky and monotone. The bucket depends on context and key alone, so every process agrees on it, and
//! raising a weight only adds keys.

use twox_hash::XxHash3_64;

/// Number of buckets; one is a hundredth of a percent.
pub const BUCKETS: u16 = 10_000;

/// The bucket of a key: `xxh3_64(context ‖ 0x1f ‖ key) mod 10000` with seed 0.
pub fn bucket(context: &str, key: &[u8]) -> u16 {
    let mut stack = [0_u8; 128];
    let length = context.len() + 1 + key.len();
    let hash = match stack.get_mut(..length) {
        Some(buffer) => {
            join(buffer, context.as_bytes(), key);
            XxHash3_64::oneshot(buffer)
        }
        None => {
            let mut buffer = vec![0; length];
            join(&mut buffer, context.as_bytes(), key);
            XxHash3_64::oneshot(&buffer)
        }
    };
    // The remainder is below 10,000, so it fits.
    u16::try_from(hash % u64::from(BUCKETS)).unwrap_or(0)
}

fn join(buffer: &mut [u8], context: &[u8], key: &[u8]) {
    let parts = context.iter().chain(&[0x1f]).chain(key);
    for (place, byte) in buffer.iter_mut().zip(parts) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flag::{Flag, Side, Weight};

    /// Who answers a read of this key at this weight, by a flag made anew as every process makes its own.
    fn side(context: &str, key: &[u8], points: u16) -> Side {
        let reads = Weight::from_basis_points(points.into()).unwrap();
        Flag { reads, ..Flag::unmoved(context) }.side_of_read(key)
    }

    proptest! {
        #[test]
        fn every_key_has_one_weight_from_which_on_it_is_moved(
            context in "[a-z_]{1,40}",
            key in proptest::collection::vec(any::<u8>(), 0..300),
            points in 0..=BUCKETS,
        ) {
            let moved = bucket(&context, &key) < points;
            let expected = if moved { Side::Service } else { Side::Monolith };
            prop_assert_eq!(side(&context, &key, points), expected);
        }

        #[test]
        fn raising_a_weight_moves_no_key_back(
            context in "[a-z_]{1,40}",
            key in proptest::collection::vec(any::<u8>(), 0..300),
            weights in (0..=BUCKETS, 0..=BUCKETS),
        ) {
            let (low, high) = (weights.0.min(weights.1), weights.0.max(weights.1));
            let is_moved = |points| side(&context, &key, points) == Side::Service;
            prop_assert!(!is_moved(0) && is_moved(BUCKETS));
            prop_assert!(!is_moved(low) || is_moved(high));
        }
    }

    #[test]
    fn long_and_short_keys_hash_the_same_way() {
        for length in [0, 1, 100, 121, 122, 123, 500] {
            let key = vec![b'k'; length];
            let joined = [b"users\x1f".as_slice(), &key].concat();
            assert_eq!(u64::from(bucket("users", &key)), XxHash3_64::oneshot(&joined) % 10_000, "{length}");
        }
    }

    #[test]
    fn keys_spread_evenly() {
        let hits =
            (0..100_000).filter(|key: &u32| bucket("users", key.to_string().as_bytes()) < 1_000).count();
        assert!((9_500..10_500).contains(&hits), "{hits} of 100000 keys are in 10 %");
    }
}
