//! PostgreSQL for tests: a private cluster, and a fresh database for each test.
//!
//! Invariant: a test never runs without PostgreSQL and never against somebody's own data. The server is the one that
//! [`URL`] names, else a private one that lives in a temporary folder and ends with the process that started it; where
//! neither can be had, the error says what to run.

mod cluster;
mod programs;
mod server;
mod signals;

use std::env;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};

pub use cluster::{Cluster, Mode};
pub use programs::{BIN, Programs};
pub use server::{Database, Server};

/// Names a running server for [`shared`], as `postgres://user@host:port/database`; the user must be a superuser.
pub const URL: &str = "PG_HARNESS_URL";

/// The server that all tests of this process share: for tests that neither stop it nor depend on its settings.
pub fn shared() -> Result<&'static Server> {
    // A failed start is kept too, so that each test fails at once with the same words. A cluster in here is never
    // dropped; it ends because the process does.
    static SHARED: OnceLock<Result<(Server, Option<Cluster>), String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| start_shared().map_err(|error| format!("{error:#}")));
    shared.as_ref().map(|(server, _)| server).map_err(|error| anyhow!(error.clone()))
}

/// A fresh database on the [`shared`] server.
pub fn shared_database() -> Result<Database> {
    shared()?.create_database()
}

fn start_shared() -> Result<(Server, Option<Cluster>)> {
    if let Ok(url) = env::var(URL) {
        let server = Server::at(&url).with_context(|| format!("{URL} names a server that will not do"))?;
        return Ok((server, None));
    }
    let cluster = Cluster::start()?;
    Ok((cluster.server().clone(), Some(cluster)))
}
