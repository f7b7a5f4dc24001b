//! A context's flag: who answers its reads, who owns its writes, and under which fencing token.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ControlError;
use crate::pins::Pins;
use crate::routing::{BUCKETS, bucket};

/// Refuses what no context can be called: names stand in paths, headers, settings and names of triggers.
pub fn check_context_name(name: &str) -> Result<(), String> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_part) {
        true => Ok(()),
        false => Err(format!("context `{name}`: a name is letters, digits, `-` and `_`")),
    }
}

/// One of the two places where a context can live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The monolith.
    Monolith,
    /// The extracted service.
    Service,
}

impl Side {
    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monolith => "monolith",
            Self::Service => "service",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Monolith => Self::Service,
            Self::Service => Self::Monolith,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Side {
    type Err = ControlError;

    fn from_str(text: &str) -> Result<Self, ControlError> {
        match text {
            "monolith" => Ok(Self::Monolith),
            "service" => Ok(Self::Service),
            _ => Err(ControlError::NoSide { text: text.chars().take(40).collect() }),
        }
    }
}

/// The percentage of keys that a stage applies to, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Weight(u16);

impl Weight {
    /// No key.
    pub const ZERO: Self = Self(0);
    /// Every key.
    pub const FULL: Self = Self(BUCKETS);

    /// A weight in hundredths of a percent, 0 to 10,000.
    pub fn from_basis_points(points: i64) -> Result<Self, ControlError> {
        u16::try_from(points)
            .ok()
            .filter(|points| *points <= BUCKETS)
            .map(Self)
            .ok_or_else(|| ControlError::NoWeight { text: format!("{points} hundredths") })
    }

    /// Hundredths of a percent.
    pub fn basis_points(self) -> u16 {
        self.0
    }

    /// Whether a bucket lies within.
    pub fn holds(self, bucket: u16) -> bool {
        bucket < self.0
    }
}

impl FromStr for Weight {
    type Err = ControlError;

    /// `0`, `10`, `12.5`, `99.99`, with or without `%`.
    fn from_str(text: &str) -> Result<Self, ControlError> {
        let refuse = || ControlError::NoWeight { text: text.chars().take(40).collect() };
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > 2 || whole.len() > 3 {
            return Err(refuse());
        }
        let hundredths = format!("{whole}{decimals:0<2}").parse().map_err(|_| refuse())?;
        Self::from_basis_points(hundredths).map_err(|_| refuse())
    }
}

impl TryFrom<String> for Weight {
    type Error = ControlError;

    fn try_from(text: String) -> Result<Self, ControlError> {
        text.parse()
    }
}

impl From<Weight> for String {
    fn from(weight: Weight) -> String {
        weight.to_string()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match hundredths {
            0 => write!(f, "{whole}"),
            _ if hundredths % 10 == 0 => write!(f, "{whole}.{}", hundredths / 10),
            _ => write!(f, "{whole}.{hundredths:02}"),
        }
    }
}

/// Whether the two sides have a database each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataMode {
    /// A database each: ownership moves only with the data.
    Replicated,
    /// One database for both: ownership may move at any time.
    Shared,
}

/// Where a context stands on its way; follows from the flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Everything at the monolith.
    Monolith,
    /// Data flows to the service; nobody reads there yet.
    Syncing,
    /// Some reads are answered by the service.
    Canary,
    /// The service owns the context.
    Extracted,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Monolith => "monolith",
            Self::Syncing => "syncing",
            Self::Canary => "canary",
            Self::Extracted => "extracted",
        })
    }
}

/// A context's routing state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flag {
    /// The context.
    pub context: String,
    /// Which keys' reads go to the service while the monolith owns the context.
    pub reads: Weight,
    /// The owner: where writes go.
    pub writes: Side,
    /// Fencing token; grows with every change.
    pub token: i64,
    /// Whether the owner sends its writes to the other side.
    pub dual_write: bool,
    /// Whether change capture follows the owner's writes and brings them to the other side; never beside dual-write.
    #[serde(default)]
    pub captured: bool,
    /// Whether the two sides have a database each.
    pub data: DataMode,
    /// The switch of ownership in progress.
    pub hold: Option<Hold>,
    /// Whether the present state was reached past a shut gate.
    pub forced: bool,
    /// Whether the owner just reported that its writes reach the other side too late to be read there. Follows from
    /// the reported lag; no change of the flag.
    pub late: bool,
    /// When it was last changed, in milliseconds since 1970.
    pub changed_at_ms: i64,
    /// Keys whose reads stay at one side. They may be many, so they are listed on their own.
    #[serde(skip)]
    pub pins: Pins,
}

/// A switch of ownership in progress: facades hold the context's writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// Token under which the writes are held and the old owner is fenced.
    pub token: i64,
    /// The owner to be.
    pub to: Side,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// When facades let go by themselves, in milliseconds since 1970.
    pub deadline_ms: i64,
    /// Whether ownership has changed already, so that only the new owner's fence is left to open.
    pub flipped: bool,
}

impl Flag {
    /// The flag of a context of which nothing was ever changed: everything at the monolith.
    pub fn unmoved(context: impl Into<String>) -> Self {
        Self {
            context: context.into(),
            reads: Weight::ZERO,
            writes: Side::Monolith,
            token: 0,
            dual_write: false,
            captured: false,
            data: DataMode::Replicated,
            hold: None,
            forced: false,
            late: false,
            changed_at_ms: 0,
            pins: Pins::default(),
        }
    }

    /// Who answers a read with this key. The owner, but for canary reads; and those, too, while the service's data is
    /// known to be late.
    pub fn side_of_read(&self, key: &[u8]) -> Side {
        if self.writes == Side::Service {
            return Side::Service;
        }
        if self.late {
            return Side::Monolith;
        }
        if self.reads == Weight::FULL {
            return Side::Service;
        }
        if self.reads == Weight::ZERO || !self.reads.holds(bucket(&self.context, key)) {
            return Side::Monolith;
        }
        Side::Service
    }

    /// Who takes a write: the owner.
    pub fn side_of_write(&self) -> Side {
        self.writes
    }

    /// Whether anything keeps the side that does not own the context up to date.
    pub fn is_followed(&self) -> bool {
        self.dual_write || self.captured
    }

    /// Whether a failed read from the service may be answered by the monolith instead: its data is behind as soon
    /// as the service owns the context.
    pub fn may_fall_back(&self) -> bool {
        self.writes == Side::Monolith
    }

    /// Where the context stands.
    pub fn stage(&self) -> Stage {
        match (self.writes, self.reads, self.is_followed()) {
            (Side::Service, _, _) => Stage::Extracted,
            (_, reads, _) if reads > Weight::ZERO => Stage::Canary,
            (_, _, true) => Stage::Syncing,
            _ => Stage::Monolith,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_percentages_with_at_most_two_decimals() {
        for (text, points) in
            [("0", 0), ("10", 1000), ("12.5", 1250), ("0.01", 1), ("100", 10_000), ("50%", 5000)]
        {
            let weight: Weight = text.parse().unwrap();
            assert_eq!(weight.basis_points(), points, "{text}");
            assert_eq!(weight.to_string().parse::<Weight>().unwrap(), weight);
        }
        for text in ["", "101", "100.01", "-1", "1.234", "ten", "1e1", "+5", ".5", "5."] {
            assert!(text.parse::<Weight>().is_err(), "{text:?} was taken for a weight");
        }
    }

    #[test]
    fn late_data_is_not_read_unless_its_side_owns_it() {
        let canary = Flag { reads: Weight::FULL, late: true, ..Flag::unmoved("users") };
        assert_eq!(canary.side_of_read(b"1"), Side::Monolith);
        let owned = Flag { writes: Side::Service, ..canary };
        assert_eq!(owned.side_of_read(b"1"), Side::Service);
    }

    #[test]
    fn raising_a_weight_only_adds_keys() {
        let mut flag = Flag::unmoved("users");
        let mut before = 0;
        for points in [0, 1, 100, 1_000, 5_000, 9_999, 10_000] {
            let smaller = flag.clone();
            flag.reads = Weight::from_basis_points(points).unwrap();
            let moved = (0..5_000_u32).map(|key| key.to_string()).filter(|key| {
                let now = flag.side_of_read(key.as_bytes()) == Side::Service;
                let then = smaller.side_of_read(key.as_bytes()) == Side::Service;
                assert!(now || !then, "key {key} was moved back at {points}");
                now
            });
            let count = moved.count();
            assert!(count >= before);
            before = count;
        }
        assert_eq!(before, 5_000);
    }
}
