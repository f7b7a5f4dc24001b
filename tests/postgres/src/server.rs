//! A server that accepts connections, and the databases that tests create on it.
//!
//! Invariant: a database belongs to one handle and is gone when that is dropped, whoever is still connected to it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use crate::programs;

/// A server, known by its URL.
#[derive(Debug, Clone)]
pub struct Server {
    /// Up to the port.
    base: String,
    /// From the question mark on.
    query: String,
    /// The database to connect to for creating and dropping others.
    maintenance: String,
    /// How it copies a template fastest: file by file, except where each would be synced to the disk.
    strategy: &'static str,
    psql: PathBuf,
}

impl Server {
    /// The server at `postgres://user@host:port/database?parameters`; it must answer and be new enough.
    pub fn at(url: &str) -> Result<Self> {
        let mut server = Self::parse(url)?;
        let told = server.run(&server.maintenance, &["SHOW server_version_num", "SHOW fsync"])?;
        let (version, fsync) = told.split_once('\n').unwrap_or((&told, "on"));
        let version: u32 = version.parse().context("the server told no version")?;
        ensure!(
            version >= 130_000,
            "PostgreSQL {} is too old; 13 is the oldest that will do",
            version / 10_000
        );
        if version >= 150_000 && fsync == "off" {
            server.strategy = "STRATEGY file_copy";
        }
        Ok(server)
    }

    /// As [`Self::at`], for a server that need not run yet.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (address, query) = url.find('?').map_or((url, ""), |at| url.split_at(at));
        let split = address.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        let database = split.map(|(_, database)| database).filter(|database| !database.is_empty());
        let database =
            database.context("a PostgreSQL URL has the form postgres://user@host:port/database")?;
        Ok(Self {
            base: address.trim_end_matches(database).trim_end_matches('/').to_owned(),
            query: query.to_owned(),
            maintenance: database.to_owned(),
            strategy: "",
            psql: programs::psql(),
        })
    }

    /// The URL of a database on this server.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.base, self.query)
    }

    /// Creates an empty database with a name that nobody has.
    pub fn create_database(&self) -> Result<Database> {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 {}", self.strategy);
        self.run(&self.maintenance, &[&create])?;
        Ok(Database { server: self.clone(), url: self.url(&name), name })
    }

    /// Runs statements one by one, each in a transaction of its own, and returns the rows of all: a line each, columns
    /// parted by `|`.
    pub fn run(&self, database: &str, statements: &[&str]) -> Result<String> {
        let mut psql = Command::new(&self.psql);
        // Without the limit, a server that was frozen would hold its test for ever.
        psql.env("PGCONNECT_TIMEOUT", "10").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]);
        psql.arg(self.url(database)).args(statements.iter().flat_map(|statement| ["-c", statement]));
        Ok(programs::output(&mut psql, String::new)?.trim_end().to_owned())
    }

    fn drop_database(&self, name: &str) -> Result<()> {
        // FORCE ends every connection except one that streams from a replication slot, so those go first.
        let end_streams = format!(
            "DO $$ BEGIN FOR i IN 1..500 LOOP \
             PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots \
             WHERE database = '{name}' AND active_pid IS NOT NULL; \
             EXIT WHEN NOT FOUND; PERFORM pg_sleep(0.01); END LOOP; END $$"
        );
        let close = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false");
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        self.run(&self.maintenance, &[&close, &end_streams, &drop])?;
        Ok(())
    }
}

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    server: Server,
    url: String,
    name: String,
}

impl Database {
    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL and returns its rows: a line each, columns parted by `|`.
    pub fn run(&self, sql: &str) -> Result<String> {
        self.server.run(&self.name, &[sql])
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = self.server.drop_database(&self.name) {
            eprintln!("the database {} stays behind: {error:#}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_takes_the_place_of_the_one_in_the_url() {
        let server = Server::parse("postgres://me@127.0.0.1:5433/me?sslmode=disable").unwrap();
        assert_eq!(server.url("other"), "postgres://me@127.0.0.1:5433/other?sslmode=disable");
        assert_eq!(server.maintenance, "me");
    }

    #[test]
    fn a_url_without_a_database_is_refused_with_the_form() {
        for url in ["localhost", "postgres://me@127.0.0.1", "postgres://me@127.0.0.1/"] {
            let error = Server::parse(url).unwrap_err().to_string();
            assert!(error.contains("postgres://user@host:port/database"), "{error}");
        }
    }
}
