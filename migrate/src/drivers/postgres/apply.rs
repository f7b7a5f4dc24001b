//! Makes the target hold exactly a batch's rows for a batch's keys.
//!
//! Invariants: nothing is written but under the guard, checked in the same transaction. Only mapped columns are changed, and
//! rows that are the same to the last bit are left alone. The deferred triggers that check deferrable constraints do not fire
//! for the applier, so those are checked by query before the commit.

use postgres::error::SqlState;

use super::chunks;
use super::collisions::{self, Collision, Holders};
use super::connection::{Connection, End};
use super::fault;
use super::rows::CopyRows;
use super::shape::Shape;
use super::sql;
use super::staging::{Staged, same};
use super::types::Type;
use crate::engine::{Batch, Guard, Mapping, Outcome, Position, Rows as _, Touched};
use crate::error::MigrateError;

/// One transaction of it.
pub(super) fn apply(
    connection: &mut Connection,
    guard: Guard<'_, CopyRows>,
    mapping: &Mapping,
    shape: &Shape,
    batch: &Batch<CopyRows>,
) -> Result<Outcome<CopyRows>, MigrateError> {
    let staged = Staged::of(mapping, shape);
    connection.transaction(&staged.opening(guard.stream()), |connection| {
        shape.check_target(connection)?;
        match guard {
            Guard::Claim(claim) => {
                // The lock keeps a claimant waiting until this is committed.
                let token = connection.text(&format!(
                    "SELECT token FROM banyan.stream WHERE name = {} FOR SHARE",
                    sql::value(&claim.stream)
                ))?;
                if token != Some(claim.token.to_string()) {
                    return Ok(End::RollBack(Outcome::Superseded));
                }
                staged.fill(connection, batch)?;
            }
            Guard::GivingWay { stream, chunk, touched } => {
                staged.fill(connection, batch)?;
                let next = connection.text(&format!(
                    "SELECT next FROM banyan.stream WHERE name = {} FOR SHARE",
                    sql::value(stream)
                ))?;
                let Some(next) = next.map(Position) else { return Ok(End::RollBack(Outcome::Superseded)) };
                if let Some(done) = chunk
                    && connection.run(&chunks::mark_done(&done))? == 0
                {
                    return Ok(End::RollBack(Outcome::Superseded));
                }
                match touched(&next)? {
                    Touched::Keys(keys) if keys.is_empty() => {}
                    Touched::Keys(keys) => staged.leave_out(connection, &keys)?,
                    Touched::Whole => return Ok(End::Commit(Outcome::Written(0))),
                }
            }
        }
        write(connection, &staged)
    })
}

/// A mapping that makes two rows with one key is wrong in any snapshot.
fn refuse_twice(connection: &mut Connection, staged: &Staged<'_>) -> Result<(), MigrateError> {
    let key = staged.compared_key_of_row().join(", ");
    let twice = connection.text(&format!(
        "SELECT concat_ws(', ', {key}) FROM {} r GROUP BY {key} HAVING count(*) > 1 LIMIT 1",
        staged.rows
    ))?;
    let Some(twice) = twice else { return Ok(()) };
    let (table, key) = (&staged.mapping.table, staged.mapping.key.join(", "));
    Err(MigrateError::refused(
        format!("the mapping of {table} makes two rows with one key ({key}) = ({twice})"),
        "correct its select or its key, or the rows at the source",
    ))
}

/// Writes what is staged.
fn write(connection: &mut Connection, staged: &Staged<'_>) -> Result<End<Outcome<CopyRows>>, MigrateError> {
    refuse_twice(connection, staged)?;
    if let Some(collision) = collisions::of_keys(connection, staged)? {
        return Ok(collides(collision));
    }
    let mut written = attempt(connection, &by_key(staged))?;
    if written.is_err() {
        // Values may have been exchanged within the batch; if they have not, another row holds one.
        written = attempt(connection, &by_removal(staged))?;
    }
    match written {
        Err(example) => {
            let found = collisions::of_uniques(connection, staged, Holders::OutsideTheBatch)?;
            Ok(found.map_or(End::RollBack(Outcome::Collides { holders: None, example }), collides))
        }
        Ok(rows) => {
            let deferrable = staged.shape.target.uniques.iter().any(|unique| unique.deferrable);
            if deferrable
                && let Some(collision) = collisions::of_uniques(connection, staged, Holders::Anyone)?
            {
                return Ok(collides(collision));
            }
            Ok(End::Commit(Outcome::Written(rows)))
        }
    }
}

fn collides(collision: Collision) -> End<Outcome<CopyRows>> {
    let Collision { holders, example } = collision;
    End::RollBack(Outcome::Collides { holders: Some(holders), example })
}

/// Runs statements; if a unique value is in the way, takes them back and says what the server said.
fn attempt(connection: &mut Connection, statements: &[String]) -> Result<Result<u64, String>, MigrateError> {
    let all = format!("SAVEPOINT banyan; {}; RELEASE banyan", statements.join("; "));
    let told = connection.client.simple_query(&all);
    match told {
        Ok(told) => {
            let count = |message: &postgres::SimpleQueryMessage| match message {
                postgres::SimpleQueryMessage::CommandComplete(rows) => *rows,
                _ => 0,
            };
            Ok(Ok(told.iter().map(count).sum()))
        }
        Err(error) => {
            let twice = error.code() == Some(&SqlState::CARDINALITY_VIOLATION);
            let words = error.as_db_error().map(fault::words).unwrap_or_default();
            if !twice && !fault::is_conflict(&error) {
                return Err(connection.fault(error));
            }
            connection.run("ROLLBACK TO banyan")?;
            Ok(Err(words))
        }
    }
}

/// The common case: rows are found by their keys and changed where they stand.
fn by_key(staged: &Staged<'_>) -> Vec<String> {
    let Staged { mapping, table, rows, .. } = staged;
    let mut statements = vec![remove_gone(staged)];
    let values = staged.values();
    // A key may have become another one that its index holds equal, so it is written too.
    let may_change = |column: &String, kind: &Type| !mapping.key.contains(column) || !kind.is_exact();
    let filled = mapping.columns.iter().zip(&values).zip(&staged.shape.target.columns);
    let others: Vec<(&String, &String)> =
        filled.filter(|((column, _), kind)| may_change(column, kind)).map(|(pair, _)| pair).collect();
    let columns: Vec<&String> = others.iter().map(|(column, _)| *column).collect();
    let insert = format!(
        "INSERT INTO {table} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {rows} r",
        sql::names("", &mapping.columns),
        values.join(", ")
    );
    let set = |from: &dyn Fn(&(&String, &String)) -> String| {
        let each = others.iter().map(|pair| format!("{} = {}", sql::name(pair.0), from(pair)));
        each.collect::<Vec<_>>().join(", ")
    };
    if !staged.shape.target.arbiter {
        let found = same(&staged.key("t."), &staged.key_of_row());
        if !others.is_empty() {
            let news: Vec<&str> = others.iter().map(|(_, value)| value.as_str()).collect();
            statements.push(format!(
                "UPDATE {table} t SET {} FROM {rows} r WHERE {found} AND ROW({})::record *<> ROW({})::record",
                set(&|(_, value)| (*value).clone()),
                sql::names("t.", &columns),
                news.join(", ")
            ));
        }
        statements.push(format!("{insert} WHERE NOT EXISTS (SELECT FROM {table} t WHERE {found})"));
    } else if others.is_empty() {
        statements.push(format!("{insert} ON CONFLICT ({}) DO NOTHING", sql::names("", &mapping.key)));
    } else {
        // `*<>` compares the stored bytes: 1.0 and 1.00, 0 and -0 differ, and types without equality compare as well.
        statements.push(format!(
            "{insert} ON CONFLICT ({}) DO UPDATE SET {} WHERE ROW({})::record *<> ROW({})::record",
            sql::names("", &mapping.key),
            set(&|(column, _)| format!("EXCLUDED.{}", sql::name(column))),
            sql::names("t.", &columns),
            sql::names("EXCLUDED.", &columns)
        ));
    }
    statements.extend(keep_map(staged));
    statements
}

/// Rows of the batch's keys that the mapping no longer makes.
fn remove_gone(staged: &Staged<'_>) -> String {
    let table = staged.table;
    if staged.shape.same_key {
        // Each key has one row at most, so only keys without a staged row are looked for.
        let row =
            same(&staged.source_of_row(), &super::staging::expressions("k.k", &staged.shape.key_casts()));
        return format!(
            "DELETE FROM {table} t WHERE ({}) IN ({} WHERE NOT EXISTS (SELECT FROM {} r WHERE {row}))",
            staged.carries("t.").join(", "),
            staged.keys_select(),
            staged.rows
        );
    }
    format!("DELETE FROM {table} t WHERE {} AND NOT {}", staged.belongs_to_batch(), staged.has_row("t."))
}

/// Brings the key map up to the batch.
fn keep_map(staged: &Staged<'_>) -> Vec<String> {
    let Some(map) = &staged.map else { return Vec::new() };
    let (sources, keys) = (staged.shape.key_types.len(), staged.mapping.key.len());
    let mapped: Vec<String> = (0..keys).map(|at| format!("m.k{at}")).collect();
    let set = (0..sources).map(|at| format!("s{at} = EXCLUDED.s{at}")).collect::<Vec<_>>().join(", ");
    vec![
        format!(
            "DELETE FROM {map} m WHERE ({}) IN ({}) AND NOT EXISTS (SELECT FROM {} r WHERE {})",
            sql::numbered("m.s", sources),
            staged.keys_select(),
            staged.rows,
            same(&mapped, &staged.key_of_row())
        ),
        format!(
            "INSERT INTO {map} AS m SELECT {}, {} FROM {} r ON CONFLICT ({}) DO UPDATE SET {set} \
             WHERE ({}) IS DISTINCT FROM ({})",
            staged.source_of_row().join(", "),
            staged.key_of_row().join(", "),
            staged.rows,
            sql::numbered("k", keys),
            sql::numbered("m.s", sources),
            sql::numbered("EXCLUDED.s", sources)
        ),
    ]
}

/// Where unique values were exchanged: rows that change are taken out whole, unmapped columns included, and put back.
fn by_removal(staged: &Staged<'_>) -> Vec<String> {
    let Staged { mapping, table, rows, shape, .. } = staged;
    let saved = format!("saved_{}", shape.tag);
    let (key, row_key, values) = (staged.key("t."), staged.key_of_row(), staged.values());
    let found = |alias: &str| same(&staged.key(alias), &row_key);
    let set: Vec<String> = mapping
        .columns
        .iter()
        .zip(&values)
        .map(|(column, value)| format!("{} = {value}", sql::name(column)))
        .collect();
    let writable = shape.target.attributes.iter().filter(|attribute| !attribute.generated);
    let writable: Vec<&String> = writable.map(|attribute| &attribute.name).collect();
    let writable = sql::names("", &writable);
    let mut statements = vec![
        format!(
            "CREATE TEMP TABLE {saved} ON COMMIT DROP AS SELECT t.* FROM {table} t WHERE ({key}) IN \
             (SELECT {key} FROM {table} t WHERE {} UNION SELECT {} FROM {rows} r) \
             AND NOT EXISTS (SELECT FROM {rows} r WHERE {} AND ROW({})::record *= ROW({})::record)",
            staged.belongs_to_batch(),
            row_key.join(", "),
            found("t."),
            sql::names("t.", &mapping.columns),
            values.join(", "),
            key = key.join(", ")
        ),
        format!("DELETE FROM {table} t USING {saved} s WHERE {}", same(&key, &staged.key("s."))),
        format!("DELETE FROM {saved} s WHERE NOT {}", staged.has_row("s.")),
        format!("UPDATE {saved} s SET {} FROM {rows} r WHERE {}", set.join(", "), found("s.")),
        format!("INSERT INTO {table} ({writable}) OVERRIDING SYSTEM VALUE SELECT {writable} FROM {saved}"),
        format!(
            "INSERT INTO {table} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {rows} r \
             WHERE NOT EXISTS (SELECT FROM {table} t WHERE {})",
            sql::names("", &mapping.columns),
            values.join(", "),
            found("t.")
        ),
    ];
    statements.extend(keep_map(staged));
    statements
}
