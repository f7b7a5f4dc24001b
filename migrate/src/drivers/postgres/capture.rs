//! Capture: per captured table a log with typed columns, a function that writes it, and triggers that call it.
//!
//! Invariants: a change of a captured table that commits has its log row in the same transaction, whoever made it and under
//! whatever role and settings, except the applier of this very context; a log row says which transaction wrote it.

use std::time::Duration;

use twox_hash::XxHash3_64;

use super::connection::Connection;
use super::shape::{Member, Shape};
use super::sql::{columns, list, literal, numbered, quote};
use crate::engine::{CaptureState, Stream};
use crate::error::MigrateError;

/// How often the lock on a table is tried for.
const TRIES: u32 = 20;
const BASE: &str = "CREATE SCHEMA IF NOT EXISTS banyan; \
    CREATE TABLE IF NOT EXISTS banyan.heartbeat (stream text PRIMARY KEY, beats bigint NOT NULL)";

/// The value of `banyan.applier` under which capture of a context stays silent, there and back.
pub(super) fn applier_mark(stream: &str) -> &str {
    stream.strip_suffix(".back").unwrap_or(stream)
}

/// What stands in the database for one captured table.
#[derive(Debug, Clone)]
pub(super) struct Captured {
    pub(super) shape: Shape,
    /// What the manifest calls it.
    pub(super) names: Vec<String>,
    /// The columns whose values are logged as `v1`, `v2` …
    pub(super) logged: Vec<String>,
    /// The log, quoted with its schema.
    pub(super) log: String,
    /// The function, quoted with its schema, without parentheses.
    pub(super) function: String,
    trigger: String,
    source: String,
}

impl Captured {
    /// The log of a table, whose name is as in the manifest.
    fn of(stream: &Stream, shape: Shape, names: Vec<String>, logged: Vec<String>) -> Self {
        let number = XxHash3_64::oneshot(format!("{}\0{}", stream.name, shape.name).as_bytes());
        let letters = shape.name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_');
        let name = format!("{}_{number:016x}", letters.take(30).collect::<String>());
        let log = format!("banyan.{}", quote(&format!("log_{name}")));
        let function = format!("banyan.{}", quote(&format!("capture_{name}")));
        let source = body(applier_mark(&stream.name), &log, &logged);
        let trigger = format!("banyan_{number:016x}");
        Self { shape, names, logged, log, function, trigger, source }
    }

    /// One per table, by whatever names the manifest calls it.
    pub(super) fn all(conn: &mut Connection, stream: &Stream) -> Result<Vec<Self>, MigrateError> {
        let mut tables: Vec<(Shape, Vec<String>, Vec<String>)> = Vec::new();
        for (name, logged) in stream.captured() {
            let shape = Shape::read(conn, &name)?;
            match tables.iter_mut().find(|(known, ..)| known.oid == shape.oid) {
                Some((_, names, columns)) => {
                    names.push(name);
                    let new: Vec<String> =
                        logged.into_iter().filter(|column| !columns.contains(column)).collect();
                    columns.extend(new);
                }
                None => tables.push((shape, vec![name], logged)),
            }
        }
        Ok(tables.into_iter().map(|(shape, names, logged)| Self::of(stream, shape, names, logged)).collect())
    }

    /// What is missing or changed, and whether anything is there at all.
    pub(super) fn state(&self, conn: &mut Connection) -> Result<CaptureState, MigrateError> {
        let name = &self.shape.name;
        let found = conn.one(
            "SELECT to_regclass($1) IS NOT NULL, p.oid, p.prosrc, (SELECT array_agg(format_type(atttypid, -1) ORDER BY attnum) \
             FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped) \
             FROM (SELECT 1) one LEFT JOIN pg_proc p ON p.oid = to_regprocedure($2)",
            &[&self.log, &format!("{}()", self.function)],
        )?;
        let (log, function, source): (bool, Option<u32>, Option<String>) =
            (found.get(0), found.get(1), found.get(2));
        let mut state = CaptureState { installed: log || function.is_some(), faults: Vec::new() };
        if !log {
            state.faults.push(format!("the log of {name} is gone"));
        } else if found.get::<_, Vec<String>>(3) != self.log_types()? {
            state.faults.push(format!("the columns of {name} that are logged changed their types"));
        }
        if source.is_none_or(|source| source != self.source) {
            state.faults.push(format!("the function {} is gone or was changed", self.function));
        }
        let triggers = conn.query(
            "SELECT tgrelid, tgname::text, tgenabled::text FROM pg_trigger WHERE tgfoid = $1",
            &[&function.unwrap_or(0)],
        )?;
        for member in &self.shape.members {
            for trigger in [self.trigger.clone(), self.truncate_trigger()] {
                let found = triggers
                    .iter()
                    .find(|row| row.get::<_, u32>(0) == member.oid && row.get::<_, String>(1) == trigger);
                match found.map(|row| row.get::<_, String>(2)).as_deref() {
                    Some("A") => {}
                    Some(_) => state
                        .faults
                        .push(format!("the trigger {trigger} on {} is not ENABLE ALWAYS", member.name)),
                    None => state.faults.push(format!("the trigger {trigger} on {} is gone", member.name)),
                }
            }
        }
        Ok(state)
    }

    fn log_types(&self) -> Result<Vec<String>, MigrateError> {
        let values = self.shape.some(&self.logged)?.into_iter().map(|column| column.base.clone());
        Ok(["xid8".to_owned(), "boolean".to_owned()].into_iter().chain(values).collect())
    }

    fn truncate_trigger(&self) -> String {
        format!("{}_truncate", self.trigger)
    }

    /// Everything that makes it, in one transaction.
    fn create(&self) -> Result<String, MigrateError> {
        let Self { log, function, source, shape, .. } = self;
        let (trigger, truncate) = (quote(&self.trigger), quote(&self.truncate_trigger()));
        let mut values = String::new();
        for (number, column) in shape.some(&self.logged)?.into_iter().enumerate() {
            let collation =
                column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
            values += &format!(", v{} {}{collation}", number + 1, column.base);
        }
        let mut sql = format!(
            "{}CREATE TABLE {log} (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), whole boolean NOT NULL DEFAULT false{values}) \
             WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05); \
             CREATE INDEX ON {log} (xid); \
             CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
             SET search_path = pg_catalog, pg_temp AS {}; ",
            self.drop(),
            literal(source)
        );
        for member in &shape.members {
            if self.fires_for(member) {
                sql += &format!(
                    "CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {function}(); ",
                    member.name
                );
            }
            sql += &format!(
                "CREATE TRIGGER {truncate} AFTER TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {function}(); ",
                member.name
            );
        }
        for member in &shape.members {
            for trigger in [&trigger, &truncate] {
                sql += &format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {trigger}; ", member.name);
            }
        }
        Ok(sql)
    }

    /// A row trigger of a partitioned table reaches its partitions; one of an inherited table does not reach its heirs.
    fn fires_for(&self, member: &Member) -> bool {
        self.shape.kind != "p" || member.oid == self.shape.oid
    }

    /// Dropping the function drops the triggers that call it, wherever they are.
    fn drop(&self) -> String {
        format!("DROP FUNCTION IF EXISTS {}() CASCADE; DROP TABLE IF EXISTS {}; ", self.function, self.log)
    }

    fn check(&self, key: Option<&[String]>) -> Result<(), MigrateError> {
        let Shape { name, kind, persistence, .. } = &self.shape;
        let strange = self.shape.members.iter().find(|member| !matches!(member.kind.as_str(), "r" | "p"));
        if let Some(member) = strange {
            let what = if kind == "v" || kind == "m" { "a view" } else { "a foreign table or no table" };
            return Err(MigrateError::refused(
                format!("{} is {what}, on which no trigger sees every change", member.name),
                "name the tables behind it in the manifest",
            ));
        }
        if persistence != "p" {
            return Err(MigrateError::refused(
                format!("{name} is unlogged or temporary: a crash empties it, and nothing is logged"),
                format!("run ALTER TABLE {name} SET LOGGED"),
            ));
        }
        let columns = self.shape.some(&self.logged)?;
        let Some(key) = key else { return Ok(()) };
        if let Some(column) = columns.iter().find(|column| key.contains(&column.name) && !column.not_null) {
            return Err(MigrateError::refused(
                format!(
                    "the key column {} of {name} may be NULL, and rows with NULL could not be told apart",
                    column.name
                ),
                format!(
                    "choose another key, or run ALTER TABLE {name} ALTER {} SET NOT NULL",
                    quote(&column.name)
                ),
            ));
        }
        if self.shape.unique.iter().any(|unique| unique.iter().all(|column| key.contains(column))) {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!("no unique index of {name} holds for every row and is within its key ({})", list(key)),
            format!(
                "choose another key, or run CREATE UNIQUE INDEX CONCURRENTLY ON {name} ({})",
                list(columns_of(key))
            ),
        ))
    }
}

fn columns_of(key: &[String]) -> Vec<String> {
    columns("", key)
}

/// The trigger's function. Image comparison, since equal values may look different (1.0 and 1.00, texts under a collation).
fn body(mark: &str, log: &str, logged: &[String]) -> String {
    let values = list(numbered("v", logged.len()));
    let (old, new) = (list(columns("OLD.", logged)), list(columns("NEW.", logged)));
    format!(
        "BEGIN\n\
         IF current_setting('banyan.applier', true) = {} THEN RETURN NULL; END IF;\n\
         IF TG_OP = 'UPDATE' THEN\n\
         INSERT INTO {log} ({values}) VALUES ({new});\n\
         IF record_image_ne(ROW({old}), ROW({new})) THEN INSERT INTO {log} ({values}) VALUES ({old}); END IF;\n\
         ELSIF TG_OP = 'INSERT' THEN INSERT INTO {log} ({values}) VALUES ({new});\n\
         ELSIF TG_OP = 'DELETE' THEN INSERT INTO {log} ({values}) VALUES ({old});\n\
         ELSE INSERT INTO {log} (whole) VALUES (true);\n\
         END IF;\n\
         RETURN NULL;\n\
         END",
        literal(mark)
    )
}

/// Installs what is missing; what is intact stays untouched, so that its fingerprint stays the same.
pub(super) fn install(conn: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    let missing = conn.one("SELECT to_regclass('banyan.heartbeat') IS NULL", &[])?;
    if missing.get(0) {
        conn.run(BASE)?;
    }
    for captured in Captured::all(conn, stream)? {
        for mapping in &stream.mappings {
            let is_root = Shape::read(conn, &mapping.root)?.oid == captured.shape.oid;
            captured.check(is_root.then_some(mapping.root_key.as_slice()))?;
        }
        let state = captured.state(conn)?;
        if !state.installed || !state.faults.is_empty() {
            let sql = format!("BEGIN; SET LOCAL lock_timeout = '2s'; {} COMMIT", captured.create()?);
            patiently(conn, &sql)?;
        }
    }
    Ok(())
}

pub(super) fn remove(conn: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    for captured in Captured::all(conn, stream)? {
        if captured.state(conn)?.installed {
            patiently(conn, &format!("BEGIN; SET LOCAL lock_timeout = '2s'; {} COMMIT", captured.drop()))?;
        }
    }
    let there = conn.one("SELECT to_regclass('banyan.heartbeat') IS NOT NULL", &[])?;
    if there.get(0) {
        conn.execute("DELETE FROM banyan.heartbeat WHERE stream = $1", &[&stream.name])?;
    }
    Ok(())
}

/// While it waits for a lock, every writer waits behind it: so it waits shortly and often.
fn patiently(conn: &mut Connection, sql: &str) -> Result<(), MigrateError> {
    let mut tried = 1;
    loop {
        let done = conn.run(sql);
        if done.is_err() {
            let _ = conn.run("ROLLBACK");
        }
        match done {
            Err(MigrateError::Unreachable { .. }) if tried < TRIES => tried += 1,
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
