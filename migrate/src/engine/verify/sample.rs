//! Which parts a sample compares.
//!
//! Invariant: the seed chooses, and something is compared of every mapping, however few parts it has.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::engine::compare::Part;

/// A part as a sample meets it.
pub(super) struct Met {
    pub(super) part: Part,
    /// Its number among those of the seed.
    pub(super) chance: u64,
    pub(super) is_last: bool,
    /// It is behind the last key of the source.
    pub(super) is_empty: bool,
}

/// The part of a mapping that is compared if chance takes no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Spare {
    /// None was met yet.
    #[default]
    None,
    /// Of those met, the one with the least number.
    Least(u64, Part),
    /// Another was taken.
    Needless,
}

/// A part's number.
pub(super) fn chance(seed: u64, mapping: usize, number: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, format!("{mapping} {number}").as_bytes())
}

impl Spare {
    /// The part to compare now that another one was met; behind a mapping's last part the next mapping begins.
    pub(super) fn choose(&mut self, met: Met, percent: u8) -> Option<Part> {
        let is_taken = met.chance % 100 < u64::from(percent);
        let now = match std::mem::take(self) {
            Self::Least(_, part) if met.is_empty => return Some(part),
            Self::Needless => Self::Needless,
            _ if is_taken => Self::Needless,
            Self::Least(least, part) if least <= met.chance => Self::Least(least, part),
            _ => Self::Least(met.chance, met.part.clone()),
        };
        if !met.is_last {
            *self = now;
            return is_taken.then_some(met.part);
        }
        match now {
            Self::Least(_, part) => Some(part),
            _ => is_taken.then_some(met.part),
        }
    }
}
