//! A connection with limits on everything, and errors sorted by what the caller can do.
//!
//! Invariant: what may go away by itself (network, server, locks, deadlocks) is [`MigrateError::Unreachable`]; a missing
//! permission is refused with the GRANT that gives it.

use std::io::{BufRead as _, Read as _, Write as _};
use std::time::Duration;

use postgres::error::{DbError, SqlState};
use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row};

use super::rows::{Field, PgRows};
use crate::error::MigrateError;

/// Which end a connection serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Read, and watched by capture.
    Source,
    /// Written.
    Target,
}

/// Where to connect to.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    end: End,
    name: String,
}

/// Settings that decide how values look as text, and limits that nothing runs beyond. An idle transaction may wait while the
/// other end writes a piece.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
    SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; \
    SET xmloption = 'content'; SET statement_timeout = '30min'; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '30min'; SET synchronous_commit = 'on'; SET client_min_messages = 'warning'; \
    SET standard_conforming_strings = 'on'; SET row_security = 'off'";

const OLDEST: i32 = 130_000;

impl Address {
    pub(super) fn new(url: &str, end: End) -> Result<Self, MigrateError> {
        let mut config: Config = url.parse().map_err(|error: postgres::Error| {
            MigrateError::Usage(format!("the URL of the {} is not understood: {}", end.name(), words(&error)))
        })?;
        config
            .connect_timeout(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(60))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(20))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .application_name("banyan-migrate");
        let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres").to_owned();
        let name = format!("{} (database {database})", end.name());
        Ok(Self { config, end, name })
    }

    pub(super) fn connect(&self) -> Result<Connection, MigrateError> {
        let client = self.config.connect(NoTls).map_err(|error| self.not_connected(error))?;
        let mut connection = Connection { client, address: self.clone() };
        connection.run(SETTINGS)?;
        let version: i32 = connection.one("SELECT current_setting('server_version_num')::int4", &[])?.get(0);
        if version < OLDEST {
            return Err(MigrateError::refused(
                format!("the {} is PostgreSQL {}", self.name, version / 10_000),
                "13 is the oldest that can be copied: move to a newer one first",
            ));
        }
        Ok(connection)
    }

    fn not_connected(&self, error: postgres::Error) -> MigrateError {
        if let Some(db) = error.as_db_error()
            && (db.code().code().starts_with("28") || *db.code() == SqlState::UNDEFINED_DATABASE)
        {
            return MigrateError::refused(
                format!("the {} does not let us in: {}", self.name, db.message()),
                "correct user, password and database in the URL, or pg_hba.conf",
            );
        }
        let message = format!(
            "the {} cannot be reached: {}; is it running, and the URL right?",
            self.name,
            words(&error)
        );
        MigrateError::Unreachable { message, source: Some(Box::new(error)) }
    }
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    fn privileges(self) -> &'static str {
        match self {
            Self::Source => "SELECT, TRIGGER",
            Self::Target => "SELECT, INSERT, UPDATE, DELETE",
        }
    }
}

/// An open connection.
pub(super) struct Connection {
    client: Client,
    address: Address,
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Connection {
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Runs statements without parameters.
    pub(super) fn run(&mut self, sql: &str) -> Result<(), MigrateError> {
        let done = self.client.batch_execute(sql);
        done.map_err(|error| self.sorted(error))
    }

    pub(super) fn query(&mut self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, MigrateError> {
        let rows = self.client.query(sql, params);
        rows.map_err(|error| self.sorted(error))
    }

    pub(super) fn one(&mut self, sql: &str, params: Params<'_>) -> Result<Row, MigrateError> {
        let row = self.client.query_one(sql, params);
        row.map_err(|error| self.sorted(error))
    }

    pub(super) fn maybe(&mut self, sql: &str, params: Params<'_>) -> Result<Option<Row>, MigrateError> {
        let row = self.client.query_opt(sql, params);
        row.map_err(|error| self.sorted(error))
    }

    pub(super) fn execute(&mut self, sql: &str, params: Params<'_>) -> Result<u64, MigrateError> {
        let changed = self.client.execute(sql, params);
        changed.map_err(|error| self.sorted(error))
    }

    /// As [`Self::execute`], with the error as the database gave it.
    pub(super) fn try_execute(&mut self, sql: &str) -> Result<u64, postgres::Error> {
        self.client.execute(sql, &[])
    }

    /// The types that a select yields.
    pub(super) fn types(&mut self, sql: &str) -> Result<Vec<u32>, MigrateError> {
        let prepared = self.client.prepare(sql);
        let prepared = prepared.map_err(|error| self.sorted(error))?;
        Ok(prepared.columns().iter().map(|column| column.type_().oid()).collect())
    }

    /// What a select yields, whose columns have passable types.
    pub(super) fn copy_out(&mut self, select: &str, fields: Vec<Field>) -> Result<PgRows, MigrateError> {
        let read =
            self.client.copy_out(&format!("COPY ({select}) TO STDOUT (FORMAT binary)")).map(|mut reader| {
                let mut bytes = Vec::new();
                // The first fill says whether it was refused; reading on reports what breaks later.
                reader.fill_buf().map(|_| ()).and_then(|()| reader.read_to_end(&mut bytes)).map(|_| bytes)
            });
        match read {
            Ok(Ok(bytes)) => PgRows::parse(&bytes, fields),
            Ok(Err(error)) => Err(self.address.broken(error)),
            Err(error) => Err(self.sorted(error)),
        }
    }

    /// Fills a table or some columns of it: `into` is `table (a, b)`.
    pub(super) fn copy_in(&mut self, into: &str, rows: &PgRows) -> Result<u64, MigrateError> {
        let Self { client, address } = self;
        let written = client.copy_in(&format!("COPY {into} FROM STDIN (FORMAT binary)"));
        let mut writer = written.map_err(|error| address.sorted(error))?;
        let sent = rows.stream().into_iter().try_for_each(|part| writer.write_all(part));
        sent.map_err(|error| address.broken(error))?;
        writer.finish().map_err(|error| address.sorted(error))
    }

    /// The error by what the caller can do about it.
    pub(super) fn sorted(&self, error: postgres::Error) -> MigrateError {
        self.address.sorted(error)
    }
}

impl Address {
    fn broken(&self, error: std::io::Error) -> MigrateError {
        match error.downcast::<postgres::Error>() {
            Ok(error) => self.sorted(error),
            Err(error) => MigrateError::Unreachable {
                message: format!("the connection to the {} broke: {error}", self.name),
                source: Some(Box::new(error)),
            },
        }
    }

    fn sorted(&self, error: postgres::Error) -> MigrateError {
        let name = &self.name;
        let Some(db) = error.as_db_error() else {
            let message = format!("the {name} did not answer as expected: {}", words(&error));
            let away = error.is_closed() || is_io(&error);
            let source: Option<Box<dyn std::error::Error + Send + Sync>> = Some(Box::new(error));
            return match away {
                true => MigrateError::Unreachable { message, source },
                false => MigrateError::Failed { message, source },
            };
        };
        let message = format!("the {name}: {}", words(&error));
        match db.code().code() {
            "42501" => self.not_permitted(db),
            "53100" => MigrateError::failed(format!("{message}; free space on its disk, then run it again")),
            "40001" | "40P01" | "55P03" | "25P03" | "25P04" | "72000" => unreachable(message, error),
            code if ["08", "53", "57", "58"].contains(&code.get(..2).unwrap_or_default()) => {
                unreachable(message, error)
            }
            _ => MigrateError::Failed { message, source: Some(Box::new(error)) },
        }
    }

    fn not_permitted(&self, db: &DbError) -> MigrateError {
        let role = self.config.get_user().unwrap_or("the role");
        let role = super::sql::quote(role);
        let message = db.message();
        let object = message.rsplit_once(' ').map_or("", |(_, object)| object);
        let remedy = if message.contains("session_replication_role") {
            format!(
                "GRANT SET ON PARAMETER session_replication_role TO {role}; (before PostgreSQL 15: ALTER ROLE {role} SUPERUSER;)"
            )
        } else if message.starts_with("must be owner") {
            format!("let the owner's role run this, or GRANT the role that owns {object} TO {role};")
        } else if message.contains("for schema") {
            format!("GRANT USAGE, CREATE ON SCHEMA {object} TO {role};")
        } else if message.contains("for database") {
            format!("GRANT CREATE, TEMPORARY ON DATABASE {object} TO {role};")
        } else if message.contains("for sequence") {
            format!("GRANT SELECT, UPDATE ON SEQUENCE {object} TO {role};")
        } else if message.contains("for function") {
            format!("GRANT EXECUTE ON FUNCTION {object} TO {role};")
        } else if message.contains("row-level security") || message.contains("row security") {
            format!("ALTER ROLE {role} BYPASSRLS;")
        } else {
            let privileges = self.end.privileges();
            format!("GRANT {privileges} ON {object} TO {role};")
        };
        MigrateError::refused(format!("the {}: {message}", self.name), format!("run {remedy}"))
    }
}

fn unreachable(message: String, error: postgres::Error) -> MigrateError {
    MigrateError::Unreachable { message, source: Some(Box::new(error)) }
}

fn is_io(error: &postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What the server said, with its detail and hint, or what the client did.
pub(super) fn words(error: &postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        return format!("{error}{}", cause.unwrap_or_default());
    };
    let more = [db.detail(), db.hint(), db.where_()].into_iter().flatten().map(|more| format!(" ({more})"));
    format!("{} [{}]{}", db.message(), db.code().code(), more.collect::<String>())
}
