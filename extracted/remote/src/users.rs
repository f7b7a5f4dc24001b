//! The private wire of the users port: [`routes`] serves it, [`Client`] calls it.
//!
//! Invariant: what the port returns, errors included, arrives at the caller as it was.

mod client;
mod server;

use contracts::users::UserDetails;
use contracts::{IdempotencyKey, UserId};
use serde::{Deserialize, Serialize};

pub use client::{Client, ClientSettings};
pub use server::routes;

/// Where the wire begins on a listener.
const PREFIX: &str = "/internal/v1/users";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    details: UserDetails,
    idempotency: Option<IdempotencyKey>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ById {
    id: UserId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    id: UserId,
    details: UserDetails,
    expected: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    id: UserId,
    expected: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    after: Option<UserId>,
    limit: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ensure {
    batch: Vec<UserDetails>,
}
