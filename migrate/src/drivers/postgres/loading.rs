//! Loading an empty target: without indexes first, with them after.
//!
//! Chunks are read in different snapshots, so two of them may hold one unique value that moved in between. Both rows are then
//! removed, and the mapping's chunks are copied anew beside catch-up, which tells values that moved from values that a mapping
//! makes twice. An index that stays meets them at once: then the chunk is left to that time.
//!
//! For the same reason a row may refer to one that only the log knows of yet: foreign keys stand again when loading ends, and
//! are validated once catch-up has passed the last chunk's snapshot.
//!
//! Invariant: what is dropped is written down before, and what is written down is struck off only with the commit that sets
//! the phase to following, a foreign key with its validation; so a crash anywhere is healed by running the same step again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use postgres::error::SqlState;

use super::capture::silenced;
use super::catalog::{self, PARTS, USED};
use super::chunks;
use super::connection::{Connection, End, Place, column};
use super::fault::{is_conflict, words};
use super::privileges;
use super::rows::CopyRows;
use super::shape::Shape;
use super::sql::{self, value};
use super::staging::Staged;
use crate::engine::{Batch, ChunkDone, Mapping, Stream};
use crate::error::MigrateError;

/// Indexes built at once.
const BUILDERS: usize = 3;

/// Building takes as long as it takes.
const BUILD: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET maintenance_work_mem = ";
/// Several indexes are built by a process each. More memory would make that slower: sorting leaves the processor's cache for
/// fresh pages, while the runs of hundreds of millions of rows still merge in one pass.
const MEMORY_OF_SEVERAL: &str = "'32MB'";
/// One alone gets parallel workers, for each of which PostgreSQL wants 32 MB.
const MEMORY_OF_ONE: &str = "'96MB'";

/// Foreign keys that stand again, and hold for new rows only.
pub(super) const UNCHECKED: &str = "kind = 'foreign key' AND adopt IS NOT NULL";

/// A crash may take chunks back, but only whole and with their marks: then they are read anew, in newer snapshots. The commit
/// that ends loading is synced, and everything before it with it.
const NOT_SYNCED: &str = "SET LOCAL synchronous_commit = off";

/// Writes a chunk into a table that is being loaded.
pub(super) fn load(
    connection: &mut Connection,
    done: ChunkDone<'_>,
    mapping: &Mapping,
    shape: &Shape,
    batch: &Batch<CopyRows>,
) -> Result<bool, MigrateError> {
    let lease = done.lease;
    let staged = Staged::of(mapping, shape);
    connection.transaction(&format!("{}; {NOT_SYNCED}", staged.opening(&lease.stream)), |connection| {
        shape.check_target(connection)?;
        if connection.run(&chunks::mark_done(&done))? == 0 {
            return Ok(End::RollBack(false));
        }
        let into = format!("{} ({})", staged.table, sql::names("", &mapping.columns));
        let is_direct = staged.map.is_none() && shape.target.columns.iter().all(|kind| kind.takes_wire());
        connection.run("SAVEPOINT banyan")?;
        let loaded = if is_direct {
            connection.try_copy_in(&into, &batch.rows)?
        } else {
            connection.copy_in(&staged.rows, &batch.rows)?;
            let values = staged.values().join(", ");
            connection.try_run(&format!(
                "INSERT INTO {into} OVERRIDING SYSTEM VALUE SELECT {values} FROM {} r",
                staged.rows
            ))
        };
        if let Err(error) = loaded {
            if !is_conflict(&error) {
                return Err(connection.fault(error));
            }
            tracing::info!(
                "values of {} moved while it was loaded; {} rows are copied beside catch-up",
                staged.table,
                done.rows
            );
            connection.run(&format!("ROLLBACK TO banyan; {}", chunks::put_off(lease)))?;
            return Ok(End::Commit(true));
        }
        if let Some(map) = &staged.map {
            let key = staged.source_of_row().into_iter().chain(staged.key_of_row()).collect::<Vec<_>>();
            // A key of the target may have moved from one source key to another in between. Both its rows are removed when
            // the index over it is built, and copied anew, which brings the map up as well.
            let key = key.join(", ");
            connection.run(&format!(
                "INSERT INTO {map} SELECT {key} FROM {} r ON CONFLICT DO NOTHING",
                staged.rows
            ))?;
        }
        Ok(End::Commit(true))
    })
}

/// Writes down what slows loading, then drops it.
pub(super) fn begin(
    connection: &mut Connection,
    stream: &Stream,
    shapes: &[Arc<Shape>],
) -> Result<(), MigrateError> {
    let tables: Vec<&str> =
        shapes.iter().filter(|shape| shape.target.ordinary).map(|shape| shape.target.name.as_str()).collect();
    if tables.is_empty() {
        return Ok(());
    }
    privileges::check_loader(connection, &tables)?;
    alone(connection, stream, |connection| drop_remembered(connection, stream, &tables))
}

/// Two processes that drop and build at the same time would leave out what one of them dropped again.
fn alone(
    connection: &mut Connection,
    stream: &Stream,
    work: impl FnOnce(&mut Connection) -> Result<(), MigrateError>,
) -> Result<(), MigrateError> {
    let lock = format!("(hashtext('banyan.loading'), hashtext({}))", value(&stream.name));
    connection.run(&format!("SELECT pg_advisory_lock{lock}"))?;
    let done = work(connection);
    // If the connection is what failed, the server has let go of the lock.
    let let_go = connection.run(&format!("SELECT pg_advisory_unlock{lock}"));
    done.and(let_go.map(drop))
}

fn drop_remembered(
    connection: &mut Connection,
    stream: &Stream,
    tables: &[&str],
) -> Result<(), MigrateError> {
    let loading = format!(
        "EXISTS (SELECT FROM banyan.stream WHERE name = {} AND phase = 'loading')",
        value(&stream.name)
    );
    if !connection.holds(&loading)? {
        return Ok(());
    }
    connection.run(&remember(&stream.name, tables))?;
    let drops = connection.rows(&format!(
        "SELECT d.relation, d.name, d.kind FROM banyan.dropped d WHERE d.stream = {} ORDER BY d.place",
        value(&stream.name)
    ))?;
    for row in &drops {
        let (relation, name, kind) = (column(row, 0), column(row, 1), column(row, 2));
        let drop = if kind == "index" {
            let schema = relation.split_once('.').map_or("", |(schema, _)| schema);
            format!("DROP INDEX IF EXISTS {schema}.{name}")
        } else {
            format!("ALTER TABLE {relation} DROP CONSTRAINT IF EXISTS {name}")
        };
        connection.run(&drop)?;
    }
    Ok(())
}

/// Foreign keys first, so that what they refer to can go. Kept: what a foreign key of another table refers to, what tells
/// replication the row's identity or CLUSTER the order, exclusion constraints, and indexes of partitioned tables.
fn remember(stream: &str, tables: &[&str]) -> String {
    let tables: Vec<String> = tables.iter().map(|table| format!("{}::regclass", value(table))).collect();
    let tables = tables.join(", ");
    let space = "CASE WHEN c.reltablespace <> 0 THEN ' TABLESPACE ' || quote_ident((SELECT spcname FROM pg_tablespace \
        WHERE oid = c.reltablespace)) ELSE '' END";
    let relation = "(SELECT format('%I.%I', n.nspname, r.relname) FROM pg_class r \
        JOIN pg_namespace n ON n.oid = r.relnamespace WHERE r.oid = {of})";
    let (of_key, of_index) = (relation.replace("{of}", "k.conrelid"), relation.replace("{of}", "i.indrelid"));
    format!(
        "INSERT INTO banyan.dropped (stream, place, relation, name, kind, build, adopt, parts, condition, attributes, is_deferrable) \
         SELECT {stream}, 0, {of_key}, quote_ident(k.conname), 'foreign key', \
           format('ALTER TABLE %s ADD CONSTRAINT %I %s', {of_key}, k.conname, \
             regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') || ' NOT VALID'), \
           CASE WHEN k.convalidated THEN format('ALTER TABLE %s VALIDATE CONSTRAINT %I', {of_key}, k.conname) END, NULL::json, NULL, NULL::json, false \
         FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid IN ({tables}) AND k.conparentid = 0 \
         UNION ALL \
         SELECT {stream}, CASE WHEN k.oid IS NULL THEN 2 ELSE 1 END, {of_index}, quote_ident(c.relname), \
           CASE WHEN k.oid IS NULL THEN 'index' ELSE 'constraint' END, pg_get_indexdef(c.oid) || {space}, \
           CASE WHEN k.oid IS NOT NULL THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I%s', {of_index}, k.conname, \
             CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, c.relname, \
             CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' \
               WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END) END, \
           CASE WHEN i.indisunique THEN {PARTS} END, pg_get_expr(i.indpred, i.indrelid), {USED}, NOT i.indimmediate \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u') \
         WHERE i.indrelid IN ({tables}) AND NOT i.indisexclusion AND NOT i.indisreplident AND NOT i.indisclustered \
           AND i.indisvalid AND NOT c.relispartition \
           AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.confrelid = i.indrelid AND f.conindid = i.indexrelid \
             AND f.contype = 'f' AND f.conrelid NOT IN ({tables})) \
         ON CONFLICT DO NOTHING",
        stream = value(stream)
    )
}

/// Builds it all again.
pub(super) fn finish(
    connection: &mut Connection,
    stream: &Stream,
    shapes: &[Arc<Shape>],
) -> Result<(), MigrateError> {
    alone(connection, stream, |connection| build_remembered(connection, stream, shapes))
}

fn build_remembered(
    connection: &mut Connection,
    stream: &Stream,
    shapes: &[Arc<Shape>],
) -> Result<(), MigrateError> {
    let place = &Arc::clone(&connection.place);
    let stands = |kind: &str| match kind {
        "index" => "to_regclass(split_part(d.relation, '.', 1) || '.' || d.name) IS NOT NULL",
        _ => {
            "EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = d.relation::regclass AND quote_ident(k.conname) = d.name)"
        }
    };
    let missing = |connection: &mut Connection, column: &str, kinds: &str, there: &str| {
        connection.texts(&format!(
            "SELECT {column} FROM banyan.dropped d WHERE stream = {} AND kind IN ({kinds}) AND NOT ({there}) ORDER BY place",
            value(&stream.name)
        ))
    };
    let names = missing(connection, "name", "'index', 'constraint'", stands("index"))?;
    in_parallel(place, &names, |connection, name| build(connection, stream, name))?;
    let adoptions = missing(connection, "adopt", "'constraint'", stands("constraint"))?;
    in_parallel(place, &adoptions, simply)?;
    let keys = missing(connection, "build", "'foreign key'", stands("constraint"))?;
    in_parallel(place, &keys, simply)?;
    let analyses: Vec<String> = shapes.iter().map(|shape| format!("ANALYZE {}", shape.target.name)).collect();
    in_parallel(place, &analyses, simply)?;
    let name = value(&stream.name);
    let places =
        shapes.iter().enumerate().map(|(at, shape)| format!("({at}, {})", value(&shape.target.name)));
    connection.run(&format!(
        "BEGIN; UPDATE banyan.chunk c SET done = false, rows = NULL, hash = NULL, snapshot = NULL, \
           leased_until = '-infinity' FROM (VALUES {}) p(mapping, relation) JOIN banyan.dropped d \
           ON d.relation = p.relation AND d.stream = {name} AND d.doubled \
           WHERE c.stream = {name} AND c.mapping = p.mapping; \
         UPDATE banyan.chunk SET done = false, rows = NULL, snapshot = NULL, leased_until = '-infinity' \
           WHERE stream = {name} AND done AND hash IS NULL; \
         DELETE FROM banyan.dropped WHERE stream = {name} AND NOT ({UNCHECKED}); \
         UPDATE banyan.stream SET phase = 'following' WHERE name = {name}; COMMIT",
        places.collect::<Vec<_>>().join(", ")
    ))?;
    Ok(())
}

/// Validates the foreign keys that were valid before. What does not hold stays written down, and is returned in words.
pub(super) fn check(connection: &mut Connection, stream: &Stream) -> Result<Vec<String>, MigrateError> {
    let name = value(&stream.name);
    let unchecked = connection.rows(&format!(
        "SELECT relation, name, adopt FROM banyan.dropped WHERE stream = {name} AND {UNCHECKED} ORDER BY relation, name"
    ))?;
    if unchecked.is_empty() {
        return Ok(Vec::new());
    }
    let mut checking = connection.place.open("checks foreign keys")?;
    checking.run(&format!("{BUILD}{MEMORY_OF_ONE}"))?;
    let mut broken = Vec::new();
    for row in &unchecked {
        let (relation, key, validate) = (column(row, 0), column(row, 1), column(row, 2));
        match checking.try_run(validate) {
            Ok(_) => {}
            Err(error) => match error.as_db_error() {
                Some(told) if told.code() == &SqlState::FOREIGN_KEY_VIOLATION => {
                    let words = words(told);
                    broken.push(format!(
                        "the foreign key {key} of {relation} does not hold: {words}; see `{validate}`"
                    ));
                    continue;
                }
                // Somebody removed it meanwhile.
                Some(told) if told.code() == &SqlState::UNDEFINED_OBJECT => {}
                _ => return Err(checking.fault(error)),
            },
        }
        connection.run(&format!(
            "DELETE FROM banyan.dropped WHERE stream = {name} AND relation = {} AND name = {} AND {UNCHECKED}",
            value(relation),
            value(key)
        ))?;
    }
    Ok(broken)
}

/// Builds an index; rows that share a value which it wants unique are removed first.
fn build(connection: &mut Connection, stream: &Stream, name: &str) -> Result<(), MigrateError> {
    let this = format!("stream = {} AND name = {}", value(&stream.name), value(name));
    let rows = connection.rows(&format!(
        "SELECT build, relation, parts, coalesce(condition, 'TRUE') FROM banyan.dropped WHERE {this}"
    ))?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (build, relation) = (column(row, 0), column(row, 1));
    let Err(error) = connection.try_run(build) else { return Ok(()) };
    let (Some(parts), true) = (row.get(2), is_conflict(&error)) else { return Err(connection.fault(error)) };
    let (parts, counts) = catalog::grouping(&serde_json::from_str::<Vec<_>>(parts).unwrap_or_default());
    tracing::info!(
        "values of {relation} moved while it was loaded; its rows are copied anew beside catch-up"
    );
    let silenced = silenced(&stream.name);
    connection.run(&format!(
        "BEGIN; SET LOCAL session_replication_role = replica; {silenced}; \
         DELETE FROM {relation} WHERE ctid IN (SELECT at FROM (SELECT ctid AS at, count(*) OVER (PARTITION BY {parts}) AS times \
           FROM {relation} WHERE {counts} AND ({})) d WHERE times > 1); \
         UPDATE banyan.dropped SET doubled = true WHERE {this}; COMMIT",
        column(row, 3)
    ))?;
    connection.run(build)?;
    Ok(())
}

fn simply(connection: &mut Connection, statement: &str) -> Result<(), MigrateError> {
    connection.run(statement).map(drop)
}

fn in_parallel(
    place: &Arc<Place>,
    statements: &[String],
    each: impl Fn(&mut Connection, &str) -> Result<(), MigrateError> + Sync,
) -> Result<(), MigrateError> {
    let next = AtomicUsize::new(0);
    let memory = if statements.len() > 1 { MEMORY_OF_SEVERAL } else { MEMORY_OF_ONE };
    let work = || -> Result<(), MigrateError> {
        let mut connection = None;
        while let Some(statement) = statements.get(next.fetch_add(1, Ordering::Relaxed)) {
            if connection.is_none() {
                let mut opened = place.open("builds indexes")?;
                opened.run(&format!("{BUILD}{memory}"))?;
                connection = Some(opened);
            }
            if let Some(connection) = connection.as_mut() {
                each(connection, statement)?;
            }
        }
        Ok(())
    };
    let work = &work;
    thread::scope(|scope| {
        let builders: Vec<_> = (0..BUILDERS.min(statements.len())).map(|_| scope.spawn(work)).collect();
        for builder in builders {
            builder.join().map_err(|_| MigrateError::failed("building an index ended in a panic"))??;
        }
        Ok(())
    })
}
