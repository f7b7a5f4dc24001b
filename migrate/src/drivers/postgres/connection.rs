//! A connection to one end, with everything limited that could wait for ever and everything pinned that texts depend on.
//!
//! Invariant: every session writes dates, numbers and bytes in one form, whatever the server's settings are; a text that
//! leaves one end is read the same way at the other.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use postgres::{Client, Config, SimpleQueryMessage, SimpleQueryRow, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresOptions;
use super::fault::{broken, fault, no_session};
use super::rows::CopyRows;
use super::sql;
use super::tls::Tls;
use crate::engine::TooMuch;
use crate::error::MigrateError;

/// `row_security = off` makes a policy that hides rows an error; without it, hidden rows would count as deleted.
const SETTINGS: &str = "SET row_security = off; SET standard_conforming_strings = on; \
    SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex'; \
    SET extra_float_digits = 3; SET lc_monetary = 'C'; SET xmloption = 'content'; SET jit = off; \
    SET work_mem = '64MB'; SET synchronous_commit = on; SET client_min_messages = error";

/// Where one end is.
#[derive(Debug)]
pub(super) struct Place {
    config: Config,
    tls: rustls::ClientConfig,
    /// For messages: the end's role, host and database.
    pub(super) shown: String,
    /// How its connections behave.
    pub(super) options: PostgresOptions,
}

/// A connection.
pub(super) struct Connection {
    /// For what the helpers below do not cover.
    pub(super) client: Client,
    /// Where it leads.
    pub(super) place: Arc<Place>,
    /// Queries that the server has planned already.
    planned: HashMap<String, Statement>,
}

/// The oldest version that knows every function and column that the driver's SQL names.
const OLDEST: u32 = 13;

/// Why a row says nothing: the driver asked for another column than it reads.
pub(super) const NO_VALUE: &str = "the server answered without a value that was asked for";

impl Place {
    /// Reads a URL.
    pub(super) fn parse(end: &str, url: &str, options: PostgresOptions) -> Result<Self, MigrateError> {
        let wrong = |what: String| MigrateError::Usage(format!("the {end}'s URL is not understood: {what}"));
        let tls = Tls::of_url(url).map_err(wrong)?;
        let mut config: Config = tls
            .url
            .parse()
            .map_err(|error| wrong(format!("{error}; write postgres://user@host:port/database")))?;
        config
            .ssl_mode(tls.mode)
            .connect_timeout(options.connect)
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(60));
        let host = config.get_hosts().first().map(|host| match host {
            postgres::config::Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            postgres::config::Host::Unix(folder) => folder.display().to_string(),
        });
        let port = config.get_ports().first().map_or_else(String::new, |port| format!(":{port}"));
        let database = config.get_dbname().unwrap_or("?");
        let shown = format!("the {end} {}{port}/{database}", host.unwrap_or_default());
        Ok(Self { config, tls: tls.config, shown, options })
    }

    /// The role that connects.
    pub(super) fn role(&self) -> &str {
        self.config.get_user().unwrap_or("the role that migrate connects as")
    }

    /// Connects; `purpose` is what the server's list of sessions shows.
    pub(super) fn open(self: &Arc<Self>, purpose: &str) -> Result<Connection, MigrateError> {
        let mut config = self.config.clone();
        config.application_name(&format!("migrate {purpose}"));
        let tls = MakeRustlsConnect::new(self.tls.clone());
        let client = config.connect(tls).map_err(|error| no_session(self, error))?;
        let mut connection = Connection { client, place: Arc::clone(self), planned: HashMap::new() };
        // An old server does not know every setting, and would say that instead.
        let version = connection.number("SHOW server_version_num")?;
        needs_version(&self.shown, version)?;
        let PostgresOptions { lock, statement, idle, .. } = self.options;
        let (lock, statement, idle) = (lock.as_millis(), statement.as_millis(), idle.as_millis());
        connection.run(&format!(
            "{SETTINGS}; SET lock_timeout = {lock}; SET statement_timeout = {statement}; \
             SET idle_in_transaction_session_timeout = {idle}"
        ))?;
        Ok(connection)
    }
}

/// The functions that positions are made of came with version 13.
fn needs_version(place: &str, version: u32) -> Result<(), MigrateError> {
    if version >= OLDEST * 10_000 {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!("{place} is PostgreSQL {}, a version too old to copy from or to", version / 10_000),
        format!("upgrade it to PostgreSQL {OLDEST} or newer first"),
    ))
}

impl Connection {
    /// Runs statements and returns how many rows the last one concerned.
    pub(super) fn run(&mut self, statements: &str) -> Result<u64, MigrateError> {
        let told = self.try_run(statements);
        told.map_err(|error| self.fault(error))
    }

    /// As [`Self::run`], for callers who know what to do about an error.
    pub(super) fn try_run(&mut self, statements: &str) -> Result<u64, postgres::Error> {
        let told = self.client.simple_query(statements)?;
        Ok(told.iter().rev().find_map(count).unwrap_or(0))
    }

    /// The rows of a query.
    pub(super) fn rows(&mut self, query: &str) -> Result<Vec<SimpleQueryRow>, MigrateError> {
        self.try_rows(query).map_err(|error| fault(&self.place, error))
    }

    /// As [`Self::rows`], for callers who know what to do about an error.
    pub(super) fn try_rows(&mut self, query: &str) -> Result<Vec<SimpleQueryRow>, postgres::Error> {
        let told = self.client.simple_query(query)?;
        Ok(told
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .collect())
    }

    /// The first column of the first row; nothing if there is no row or it is NULL.
    pub(super) fn text(&mut self, query: &str) -> Result<Option<String>, MigrateError> {
        let rows = self.rows(query)?;
        Ok(rows.first().and_then(|row| row.get(0)).map(str::to_owned))
    }

    /// The first columns of all rows.
    pub(super) fn texts(&mut self, query: &str) -> Result<Vec<String>, MigrateError> {
        Ok(self.rows(query)?.iter().filter_map(|row| row.get(0)).map(str::to_owned).collect())
    }

    /// As [`Self::texts`], for a query that comes again and again and takes longer to plan than to run.
    pub(super) fn planned_texts(&mut self, query: &str) -> Result<Vec<String>, MigrateError> {
        let Self { client, place, planned } = self;
        let statement = match planned.get(query) {
            Some(statement) => statement.clone(),
            None => {
                let statement = client.prepare(query).map_err(|error| fault(place, error))?;
                planned.insert(query.to_owned(), statement.clone());
                statement
            }
        };
        let rows = client.query(&statement, &[]).map_err(|error| fault(place, error))?;
        let first = |row: &postgres::Row| row.try_get::<_, Option<String>>(0);
        let texts: Result<Vec<Option<String>>, _> = rows.iter().map(first).collect();
        Ok(texts.map_err(|error| fault(place, error))?.into_iter().flatten().collect())
    }

    /// The first column of the first row as a number.
    pub(super) fn number<N: std::str::FromStr>(&mut self, query: &str) -> Result<N, MigrateError> {
        self.text(query)?.and_then(|text| text.parse().ok()).ok_or_else(|| MigrateError::failed(NO_VALUE))
    }

    /// Whether a condition holds.
    pub(super) fn holds(&mut self, condition: &str) -> Result<bool, MigrateError> {
        Ok(self.text(&format!("SELECT ({condition})::int"))?.as_deref() == Some("1"))
    }

    /// A query's rows in the form in which they pass.
    pub(super) fn copy_out(&mut self, query: &str) -> Result<CopyRows, MigrateError> {
        let all = self.copy_out_up_to(query, u64::MAX)?;
        all.map_err(|TooMuch { rows }| MigrateError::failed(format!("more than {rows} rows do not fit")))
    }

    /// The same, if they hold no more than `most` bytes. What the server goes on sending otherwise is thrown away as it comes.
    pub(super) fn copy_out_up_to(
        &mut self,
        query: &str,
        most: u64,
    ) -> Result<Result<CopyRows, TooMuch>, MigrateError> {
        let place = &self.place;
        let statement = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        let mut reader = self.client.copy_out(&statement).map_err(|error| fault(place, error))?;
        let mut stream = Vec::new();
        reader.by_ref().take(most).read_to_end(&mut stream).map_err(|error| broken(place, error))?;
        if stream.len() as u64 == most {
            return Ok(Err(TooMuch { rows: CopyRows::whole_tuples(&stream) }));
        }
        let rows = CopyRows::from_stream(stream);
        rows.map(Ok).map_err(|error| MigrateError::failed(format!("{}: {error}", place.shown)))
    }

    /// Puts rows into a table.
    pub(super) fn copy_in(&mut self, into: &str, rows: &CopyRows) -> Result<u64, MigrateError> {
        self.try_copy_in(into, rows)?.map_err(|error| self.fault(error))
    }

    /// As [`Self::copy_in`], for callers who know what to do about an error of the server.
    pub(super) fn try_copy_in(
        &mut self,
        into: &str,
        rows: &CopyRows,
    ) -> Result<Result<u64, postgres::Error>, MigrateError> {
        let statement = format!("COPY {into} FROM STDIN (FORMAT binary)");
        let place = &self.place;
        let mut writer = self.client.copy_in(&statement).map_err(|error| fault(place, error))?;
        // An error of the server ends the stream; `finish` then says what it was.
        let written = rows.write_stream(&mut writer).and_then(|()| writer.flush());
        match (writer.finish(), written) {
            (Ok(_), Err(error)) => Err(broken(place, error)),
            (finished, _) => Ok(finished),
        }
    }

    /// Runs `work` in a transaction that begins with `opening`; commits if it returns [`End::Commit`].
    pub(super) fn transaction<T>(
        &mut self,
        opening: &str,
        work: impl FnOnce(&mut Self) -> Result<End<T>, MigrateError>,
    ) -> Result<T, MigrateError> {
        let ended = self.run(&format!("BEGIN; {opening}")).and_then(|_| work(self));
        match ended {
            Ok(End::Commit(result)) => {
                self.run("COMMIT")?;
                Ok(result)
            }
            Ok(End::RollBack(result)) => {
                self.run("ROLLBACK")?;
                Ok(result)
            }
            Err(error) => {
                // The connection may be what failed, in which case the server rolls back by itself.
                let _ = self.client.simple_query("ROLLBACK");
                Err(error)
            }
        }
    }

    /// Sorts an error of this connection.
    pub(super) fn fault(&self, error: postgres::Error) -> MigrateError {
        fault(&self.place, error)
    }

    /// The name of a table with its schema, quoted; refused if there is none.
    pub(super) fn qualified(&mut self, table: &str) -> Result<String, MigrateError> {
        Ok(self.all_qualified(&[table])?.concat())
    }

    /// As [`Self::qualified`] for several, in their order, by one question.
    pub(super) fn all_qualified(&mut self, tables: &[&str]) -> Result<Vec<String>, MigrateError> {
        let values: Vec<String> = tables.iter().map(|table| sql::value(table)).collect();
        let found = self.rows(&format!(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
             FROM unnest(ARRAY[{}]::text[]) WITH ORDINALITY u(name, at) \
             LEFT JOIN pg_class c ON c.oid = to_regclass(u.name) LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
             ORDER BY u.at",
            values.join(", ")
        ))?;
        let named = tables.iter().zip(&found).map(|(table, row)| {
            row.get(0).map(str::to_owned).ok_or_else(|| {
                MigrateError::refused(
                    format!("{} has no table {table}", self.place.shown),
                    "bring it back, correct the mapping, or GRANT USAGE on its schema to the role that migrate connects as",
                )
            })
        });
        named.collect()
    }
}

/// How a transaction ends.
pub(super) enum End<T> {
    /// What was written stays.
    Commit(T),
    /// Nothing of it was written.
    RollBack(T),
}

/// A column of a row of text; an absent value reads as nothing.
pub(super) fn column(row: &SimpleQueryRow, at: usize) -> &str {
    row.get(at).unwrap_or_default()
}

fn count(message: &SimpleQueryMessage) -> Option<u64> {
    match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_too_old_is_refused_with_the_oldest_that_will_do() {
        let error = needs_version("the source db:5432/shop", 120_022).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        let said = error.to_string();
        assert!(
            said.contains("the source db:5432/shop is PostgreSQL 12") && said.contains("13 or newer"),
            "{said}"
        );
        assert!(needs_version("the source", 130_000).is_ok());
    }
}
