//! Capture: triggers that log which rows changed, into one table per captured table.
//!
//! Invariants: the triggers fire always, whatever role or replication setting the writer has, and only the mark of
//! the stream of the other direction keeps them silent; what they write needs no permission of the writer. One small INSERT per change is all they do,
//! until a log is full ([`bound`]). A log is made anew whenever its functions were other ones: changes may have gone unlogged.

use std::thread;
use std::time::Duration;

use postgres::error::SqlState;
use twox_hash::XxHash3_64;

use super::connection::{Connection, column};
use super::fingerprint::tree;
use super::types::NAME;
use super::{bound, fingerprint, sql};
use crate::engine::Stream;
use crate::engine::driver::CaptureState;
use crate::error::MigrateError;

/// Keeps the capture of the other direction silent in the transaction in which a stream writes.
pub(super) fn silenced(writer: &str) -> String {
    format!("SET LOCAL banyan.silenced = {}", sql::value(&Stream::opposite(writer)))
}

/// How often a lock is tried before the engine hears of it, and the pause between, in which the writers that queued up behind
/// the request go on.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(300);

/// The table that [`super::PostgresSource`]'s `persist_snapshot` writes to. A handful of rows, so that workers rarely meet.
const HEARTBEAT: &str = "CREATE TABLE IF NOT EXISTS banyan.heartbeat \
    (worker int PRIMARY KEY, at timestamptz NOT NULL) WITH (fillfactor = 50)";

/// Keeps people and tidy jobs from emptying a log: nobody could tell afterwards what was in it.
const GUARD: &str = "() RETURNS trigger LANGUAGE plpgsql AS $banyan$ BEGIN \
    IF pg_catalog.current_setting('banyan.pruning', true) OPERATOR(pg_catalog.=) 'on' THEN RETURN NULL; END IF; \
    RAISE EXCEPTION 'the log % belongs to a copy that goes on; migrate removes what is no longer needed', TG_RELID::pg_catalog.regclass \
      USING HINT = 'migrate capture remove ends the copy and its log'; END $banyan$";

/// A captured table.
#[derive(Debug, Clone)]
pub(super) struct Captured {
    /// With its schema, quoted.
    pub(super) name: String,
    /// The logged columns, in the order of the log's `c0, …`.
    pub(super) columns: Vec<String>,
    /// The log's name.
    pub(super) log: String,
    /// What the names of its triggers and functions end with.
    pub(super) tag: String,
    /// The stream that it is captured for, as a literal.
    stream: String,
}

/// The name of a table's log.
pub(super) fn log_name(stream: &str, table: &str) -> String {
    format!("banyan.log_{}", tag(stream, table))
}

fn tag(stream: &str, table: &str) -> String {
    format!("{:016x}", XxHash3_64::oneshot(format!("{stream}\0{table}").as_bytes()))
}

/// What the names of the triggers' functions begin with.
pub(super) const KINDS: [&str; 4] = ["new", "changed", "old", "cleared"];

impl Captured {
    /// The tables that a stream captures.
    pub(super) fn of(connection: &mut Connection, stream: &Stream) -> Result<Vec<Self>, MigrateError> {
        let captured = stream.captured();
        let tables: Vec<&str> = captured.iter().map(|(table, _)| table.as_str()).collect();
        let names = connection.all_qualified(&tables)?;
        let one = |((table, columns), name): ((String, Vec<String>), String)| {
            let (tag, log) = (tag(&stream.name, &table), log_name(&stream.name, &table));
            Self { name, columns, log, tag, stream: sql::value(&stream.name) }
        };
        Ok(captured.into_iter().zip(names).map(one).collect())
    }

    /// Their names, each with what makes one. One fires per change: a condition in WHEN would be parsed anew by every
    /// statement and cost more than the function.
    pub(super) fn triggers(&self) -> [(String, String); 4] {
        let Self { tag, .. } = self;
        let make = |kind: &str, event: &str, each: &str| {
            let name = format!("banyan_{tag}_{kind}");
            let text = format!(
                "CREATE TRIGGER {name} AFTER {event} ON {} FOR EACH {each} EXECUTE FUNCTION banyan.{kind}_{tag}()",
                self.name
            );
            (name, text)
        };
        [
            make("new", "INSERT", "ROW"),
            make("changed", "UPDATE", "ROW"),
            make("old", "DELETE", "ROW"),
            make("cleared", "TRUNCATE", "STATEMENT"),
        ]
    }

    /// The functions of the triggers: their kinds and what they do.
    ///
    /// Every name in them is written with its schema, operators included, so the writer's `search_path` decides nothing.
    /// Setting one for the function's time would cost a tenth of a small transaction, each time. Every 17th transaction looks
    /// how large the log is: a prime, so that no rhythm of the application's transactions goes past it for ever.
    fn functions(&self, connection: &mut Connection) -> Result<[(&'static str, String); 4], MigrateError> {
        let Self { tag, log, stream, .. } = self;
        let columns = sql::numbered("c", self.columns.len());
        let insert =
            |columns: &str, values: &str| format!("INSERT INTO {log} ({columns}) VALUES ({values});");
        let (new, old) = (sql::names("NEW.", &self.columns), sql::names("OLD.", &self.columns));
        let (log_new, log_old) = (insert(&columns, &new), insert(&columns, &old));
        let changed = format!("IF {} THEN {log_old} END IF; {log_new}", self.moved(connection)?);
        let body = |statements: &str| {
            format!(
                "BEGIN IF pg_catalog.current_setting('banyan.silenced', true) OPERATOR(pg_catalog.=) {stream} \
                 THEN RETURN NULL; END IF; {statements} \
                 IF pg_catalog.txid_current() OPERATOR(pg_catalog.%) 17 OPERATOR(pg_catalog.=) 0 \
                 THEN PERFORM banyan.bound_{tag}(); END IF; RETURN NULL; END"
            )
        };
        let cleared = insert("whole", "true");
        Ok([
            ("new", body(&log_new)),
            ("changed", body(&changed)),
            ("old", body(&log_old)),
            ("cleared", body(&cleared)),
        ])
    }

    fn function(&self, (kind, body): &(&'static str, String)) -> String {
        format!(
            "CREATE OR REPLACE FUNCTION banyan.{kind}_{}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
             AS $banyan${body}$banyan$",
            self.tag
        )
    }

    /// A condition: an update changes a logged column. Two NULLs count as a change, which costs a row of the log at most.
    fn moved(&self, connection: &mut Connection) -> Result<String, MigrateError> {
        let comparable = connection.texts(&format!(
            "SELECT a.attname FROM pg_attribute a WHERE a.attrelid = {}::regclass AND EXISTS (SELECT FROM pg_operator o \
               WHERE o.oprname = '=' AND o.oprnamespace = 'pg_catalog'::regnamespace \
               AND o.oprleft = a.atttypid AND o.oprright = a.atttypid)",
            sql::value(&self.name)
        ))?;
        if self.columns.iter().all(|column| comparable.contains(column)) {
            let unlike = self.columns.iter().map(|column| {
                let column = sql::name(column);
                format!("(OLD.{column} OPERATOR(pg_catalog.=) NEW.{column}) IS NOT TRUE")
            });
            return Ok(unlike.collect::<Vec<_>>().join(" OR "));
        }
        // `*<>` compares bytes, so it needs no equality of the type's own; it takes longer.
        Ok(format!(
            "ROW({})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({})::pg_catalog.record",
            sql::names("OLD.", &self.columns),
            sql::names("NEW.", &self.columns)
        ))
    }

    /// What the log is for, so that a log of another mapping is not taken for it.
    fn remark(&self) -> String {
        format!("banyan: {} ({})", self.name, self.columns.join(", "))
    }

    fn log_table(&self, connection: &mut Connection) -> Result<String, MigrateError> {
        let wanted: Vec<String> = self.columns.iter().map(|column| sql::value(column)).collect();
        // A domain's constraints would refuse the mark of a cleared table, whose columns are NULL.
        let columns = connection.rows(&format!(
            "WITH RECURSIVE wanted AS (SELECT * FROM unnest(ARRAY[{}]::name[]) WITH ORDINALITY w(name, at)), \
             base AS (SELECT w.name, w.at, a.atttypid AS type, a.attcollation FROM wanted w JOIN pg_attribute a \
               ON a.attrelid = {}::regclass AND a.attname = w.name AND NOT a.attisdropped \
               UNION ALL SELECT b.name, b.at, t.typbasetype, b.attcollation FROM base b \
               JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd') \
             SELECT {NAME}, (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation co \
               JOIN pg_namespace cn ON cn.oid = co.collnamespace \
               WHERE co.oid = b.attcollation AND co.collname <> 'default') \
             FROM base b JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd' \
             JOIN pg_namespace n ON n.oid = t.typnamespace ORDER BY b.at",
            wanted.join(", "),
            sql::value(&self.name)
        ))?;
        if columns.len() != self.columns.len() {
            return Err(MigrateError::refused(
                format!("{} lacks one of the columns {}", self.name, self.columns.join(", ")),
                "correct the mapping's keys and joins",
            ));
        }
        let columns = columns.iter().enumerate().map(|(at, row)| {
            let collation = row.get(1).map_or_else(String::new, |name| format!(" COLLATE {name}"));
            format!("c{at} {}{collation}", column(row, 0))
        });
        let columns: Vec<String> = columns.collect();
        let Self { log, tag, .. } = self;
        Ok(format!(
            "CREATE TABLE IF NOT EXISTS {log} ({}, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), \
               whole boolean NOT NULL DEFAULT false) \
               WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05); \
             CREATE INDEX IF NOT EXISTS log_{tag}_xid ON {log} (xid); COMMENT ON TABLE {log} IS {}; \
             CREATE OR REPLACE FUNCTION banyan.guard_{tag}{GUARD}; DROP TRIGGER IF EXISTS banyan_guard ON {log}; \
             CREATE TRIGGER banyan_guard BEFORE DELETE OR TRUNCATE ON {log} EXECUTE FUNCTION banyan.guard_{tag}(); \
             ALTER TABLE {log} ENABLE ALWAYS TRIGGER banyan_guard",
            columns.join(", "),
            sql::value(&self.remark())
        ))
    }
}

/// Puts triggers and log into the database.
pub(super) fn install(connection: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    let captured = Captured::of(connection, stream)?;
    for table in &captured {
        refuse_untriggerable(connection, table)?;
    }
    alone(connection, |connection| {
        connection.run(&format!("BEGIN; CREATE SCHEMA IF NOT EXISTS banyan; {HEARTBEAT}; COMMIT"))?;
        for table in &captured {
            refuse_other_log(connection, table)?;
            let functions = table.functions(connection)?;
            // Nobody ends capture between the question and the answer to it.
            patiently(connection, &bound::hold(table))?;
            let (log, made) =
                (table.log_table(connection)?, functions.each_ref().map(|one| table.function(one)));
            let anew = if bound::is_gap(connection, table, &functions)? {
                format!("DROP TABLE IF EXISTS {};", table.log)
            } else {
                String::new()
            };
            // Whoever asked for a bound sets it next.
            let unbound = bound::function(table, i64::MAX as u64);
            patiently(connection, &format!("{anew} {log}; {unbound}; {}", made.join("; ")))?;
            for relation in relations(connection, table)? {
                install_on(connection, &relation, table)?;
            }
        }
        Ok(())
    })
}

/// Two that install or remove at once would both miss what the other is making or taking away.
fn alone(
    connection: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<(), MigrateError>,
) -> Result<(), MigrateError> {
    patiently(connection, "SELECT pg_advisory_lock(hashtext('banyan.capture'))")?;
    let done = work(connection);
    // What failed may have left a transaction open; if the connection did, the server has let go of the lock.
    let let_go = connection.run("ROLLBACK; SELECT pg_advisory_unlock_all()");
    done.and(let_go.map(drop))
}

/// The table and everything that inherits from it, parents first.
fn relations(connection: &mut Connection, table: &Captured) -> Result<Vec<String>, MigrateError> {
    connection.texts(&format!(
        "WITH RECURSIVE {} SELECT format('%I.%I', n.nspname, c.relname) FROM tree \
         JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
         ORDER BY (SELECT count(*) FROM pg_partition_ancestors(c.oid)), c.oid",
        tree(std::slice::from_ref(&table.name))
    ))
}

fn install_on(connection: &mut Connection, relation: &str, table: &Captured) -> Result<(), MigrateError> {
    let here = Captured { name: relation.to_owned(), ..table.clone() };
    let there = connection.rows(&format!(
        "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = {}::regclass",
        sql::value(relation)
    ))?;
    let state = |name: &str| there.iter().find(|row| row.get(0) == Some(name)).map(|row| column(row, 1));
    let mut statements = Vec::new();
    for (name, create) in here.triggers() {
        match state(&name) {
            Some("A") => continue,
            Some(_) => {}
            None => statements.push(create),
        }
        statements.push(format!("ALTER TABLE ONLY {relation} ENABLE ALWAYS TRIGGER {name}"));
    }
    if statements.is_empty() {
        return Ok(());
    }
    patiently(
        connection,
        &format!("LOCK TABLE {relation} IN SHARE ROW EXCLUSIVE MODE; {}", statements.join("; ")),
    )
}

/// Runs a transaction that waits for writers, giving way to those behind it again and again.
fn patiently(connection: &mut Connection, statements: &str) -> Result<(), MigrateError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(error) = connection.try_run(&format!("BEGIN; {statements}; COMMIT")) else { return Ok(()) };
        connection.run("ROLLBACK")?;
        let busy = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        if tries == TRIES || !error.code().is_some_and(|code| busy.contains(code)) {
            return Err(connection.fault(error));
        }
        thread::sleep(PAUSE);
    }
}

/// Removes what [`install`] made.
pub(super) fn remove(connection: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    alone(connection, |connection| remove_alone(connection, stream))
}

fn remove_alone(connection: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    for (table, _) in stream.captured() {
        let (tag, log) = (tag(&stream.name, &table), log_name(&stream.name, &table));
        let drops = connection.texts(&format!(
            "SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger \
             WHERE tgname LIKE 'banyan\\_{tag}\\_%' AND tgparentid = 0"
        ))?;
        for drop in drops {
            patiently(connection, &drop)?;
        }
        let functions = KINDS.iter().chain(&["bound", "guard"]);
        let functions: Vec<String> =
            functions.map(|kind| format!("DROP FUNCTION IF EXISTS banyan.{kind}_{tag}()")).collect();
        if connection.holds("to_regnamespace('banyan') IS NOT NULL")? {
            connection.run(&format!("DROP TABLE IF EXISTS {log}; {}", functions.join("; ")))?;
        }
    }
    // The bookkeeping of another stream may stand in the same schema.
    let others = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('banyan') \
        AND relkind = 'r' AND relname <> 'heartbeat'";
    if connection.number::<u64>(others)? == 0 {
        connection.run("DROP TABLE IF EXISTS banyan.heartbeat; DROP SCHEMA IF EXISTS banyan")?;
    }
    Ok(())
}

/// How much of it stands.
pub(super) fn state(connection: &mut Connection, stream: &Stream) -> Result<CaptureState, MigrateError> {
    let captured = Captured::of(connection, stream)?;
    let mut installed = false;
    for table in &captured {
        installed |= connection.holds(&format!("to_regclass({}) IS NOT NULL", sql::value(&table.log)))?;
    }
    let faults = if installed { fingerprint::faults(connection, &captured)? } else { Vec::new() };
    Ok(CaptureState { installed, faults })
}

fn refuse_untriggerable(connection: &mut Connection, table: &Captured) -> Result<(), MigrateError> {
    let kinds = connection.rows(&format!(
        "WITH RECURSIVE {} SELECT c.oid::regclass, c.relkind FROM tree JOIN pg_class c ON c.oid = tree.oid \
         WHERE c.relkind NOT IN ('r', 'p') OR c.relpersistence = 't'",
        tree(std::slice::from_ref(&table.name))
    ))?;
    let Some(row) = kinds.first() else { return Ok(()) };
    let kind = match column(row, 1) {
        "v" | "m" => "a view",
        "f" => "a foreign table",
        _ => "no table that keeps its rows",
    };
    Err(MigrateError::refused(
        format!("{} is {kind}, so its changes cannot be logged", column(row, 0)),
        "name the tables behind it in the mapping",
    ))
}

fn refuse_other_log(connection: &mut Connection, table: &Captured) -> Result<(), MigrateError> {
    let remark = connection
        .text(&format!("SELECT obj_description(to_regclass({}), 'pg_class')", sql::value(&table.log)))?;
    match remark {
        Some(remark) if remark != table.remark() => Err(MigrateError::refused(
            format!("{} is logged for another mapping: {remark}", table.name),
            "run `migrate capture remove`, then install it again and start anew with a backfill",
        )),
        _ => Ok(()),
    }
}
