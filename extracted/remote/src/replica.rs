//! The private wire of dual-write: [`routes`] takes images of a context, [`Client`] sends them.
//!
//! ```text
//! PUT    /replica/{context}/{id}   {"version": 7, "state": {…}}
//! DELETE /replica/{context}/{id}   {"version": 8}
//! ```
//!
//! Invariant: any process that speaks this can be the other side, whatever it is written in. The answer is 200 with
//! `{"applied": "stored" | "stale" | "superseded"}`; 409 and 422 mean that sending the same again will not help yet.

mod client;
mod server;

use contracts::replication::Applied;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use client::Client;
pub use server::routes;

/// Problem types by which the two reasons for a 409 are told apart.
const CONFLICT: &str = "urn:banyan:replica:conflict";
const OWNER: &str = "urn:banyan:replica:owner";
/// Field of the problem document that names who holds a unique value.
const HOLDER: &str = "holder";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    version: i64,
    state: Value,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    version: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Taken {
    applied: Applied,
}
