//! The two databases of an extraction and the direction in which rows travel between them.
//!
//! Invariant: `Source` is always the monolith's database and `Target` always the service's, whoever owns the data;
//! only a [`Flow`] knows which of them is copied from.

use std::fmt;

use control::Side;
use serde::Serialize;

/// One of the two databases of an extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The monolith's database.
    Source,
    /// The extracted service's database.
    Target,
}

impl End {
    /// The name under which a mapping's SQL sees this database.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    /// The other database.
    pub fn other(self) -> Self {
        match self {
            Self::Source => Self::Target,
            Self::Target => Self::Source,
        }
    }

    /// The side that writes to this database.
    pub fn side(self) -> Side {
        match self {
            Self::Source => Side::Monolith,
            Self::Target => Side::Service,
        }
    }
}

impl From<Side> for End {
    fn from(side: Side) -> Self {
        match side {
            Side::Monolith => Self::Source,
            Side::Service => Self::Target,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schema())
    }
}

/// A direction: from the owner's database to the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The owner's database: what it holds is right.
    pub from: End,
    /// The database that follows.
    pub to: End,
}

impl Flow {
    /// The flow out of the database that owns the data.
    pub fn from_owner(owner: End) -> Self {
        Self { from: owner, to: owner.other() }
    }
}
