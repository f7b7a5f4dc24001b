//! Who stands in a batch's way: rows of other source keys that hold a key or a unique value which the batch needs.
//!
//! Invariant: a row is overwritten only if it belongs to the batch's keys; a row of nobody's never is.

use super::catalog::{Part, Unique, nulls_are_equal};
use super::connection::{Connection, column};
use super::rows::CopyRows;
use super::sql;
use super::staging::{Staged, expressions, same};
use crate::error::MigrateError;

/// What stands in the way.
pub(super) struct Collision {
    /// The source keys of the rows, in wire form.
    pub(super) holders: CopyRows,
    /// One of them, for a person.
    pub(super) example: String,
}

/// Whose rows count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holders {
    /// Those that the batch does not replace anyway.
    OutsideTheBatch,
    /// All: for values that are to be unique after everything was written.
    Anyone,
}

/// Rows that have a key of the batch's and are not the batch's.
pub(super) fn of_keys(
    connection: &mut Connection,
    staged: &Staged<'_>,
) -> Result<Option<Collision>, MigrateError> {
    if staged.shape.same_key {
        return Ok(None);
    }
    let found = same(&staged.key("t."), &staged.key_of_row());
    let source = Source::of(staged);
    let from = format!(
        "{} r JOIN {} t ON {found} {} WHERE {}",
        staged.rows,
        staged.table,
        source.join("t."),
        source.is_foreign(staged)
    );
    let example = format!("the key (%s) of {} is held by a row of another source key", staged.table);
    collision(connection, &source, &from, &example, &staged.key("t."))
}

/// Rows that hold a unique value of the batch's.
pub(super) fn of_uniques(
    connection: &mut Connection,
    staged: &Staged<'_>,
    holders: Holders,
) -> Result<Option<Collision>, MigrateError> {
    let checked = |unique: &&Unique| holders == Holders::OutsideTheBatch || unique.deferrable;
    for unique in staged.shape.target.uniques.iter().filter(checked) {
        let wanted = wanted(staged, unique);
        for nulls in null_patterns(connection, unique, &wanted)? {
            let found = of_unique(connection, staged, holders, (unique, &wanted, &nulls))?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// What the staged rows need of an index: their keys as `k0, …`, its values as `u0, …`.
fn wanted(staged: &Staged<'_>, unique: &Unique) -> String {
    format!(
        "SELECT {}, {} FROM ({}) x WHERE {}",
        numbered_as("k", staged.key("")),
        numbered_as("u", unique.parts.iter().map(Part::value).collect()),
        staged.stored(&unique.attributes),
        unique.covers()
    )
}

/// Which values of an index are NULL together in rows that exclude others, a `1` for each that is. Each pattern is a question
/// of its own, which an index answers; one for all of them would walk the table.
fn null_patterns(
    connection: &mut Connection,
    unique: &Unique,
    wanted: &str,
) -> Result<Vec<String>, MigrateError> {
    if !nulls_are_equal(&unique.parts) {
        return Ok(vec!["0".repeat(unique.parts.len())]);
    }
    let each: Vec<String> = (0..unique.parts.len()).map(|at| format!("num_nulls(f.u{at})")).collect();
    connection.texts(&format!("SELECT DISTINCT concat({}) FROM ({wanted}) f", each.join(", ")))
}

fn of_unique(
    connection: &mut Connection,
    staged: &Staged<'_>,
    holders: Holders,
    (unique, wanted, nulls): (&Unique, &str, &str),
) -> Result<Option<Collision>, MigrateError> {
    let source = Source::of(staged);
    let key_aliases =
        |alias: &str| (0..staged.mapping.key.len()).map(|at| format!("{alias}.k{at}")).collect::<Vec<_>>();
    let equal = unique.parts.iter().zip(nulls.chars()).enumerate().map(|(at, (part, null))| match null {
        '1' => format!("t.u{at} IS NULL AND f.u{at} IS NULL"),
        _ => format!("t.u{at} {} {}", part.operator, part.collated(&format!("f.u{at}"))),
    });
    let from = format!(
        "(SELECT {}{}, {} FROM {} WHERE {}) t JOIN ({wanted}) f ON {} AND NOT ({}) {} WHERE {}",
        numbered_as("k", staged.key("")),
        source.carried_columns(),
        numbered_as("u", unique.parts.iter().map(Part::value).collect()),
        unique.relation,
        unique.covers(),
        equal.collect::<Vec<_>>().join(" AND "),
        same(&key_aliases("t"), &key_aliases("f")),
        source.join_numbered("t."),
        if holders == Holders::Anyone { "TRUE".to_owned() } else { source.is_foreign(staged) },
    );
    let values: Vec<String> = (0..unique.parts.len()).map(|at| format!("f.u{at}")).collect();
    let example = format!("{} of {} has (%s) already", unique.name, unique.relation);
    collision(connection, &source, &from, &example, &values)
}

fn numbered_as(prefix: &str, expressions: Vec<String>) -> String {
    let each = expressions.iter().enumerate().map(|(at, expression)| format!("{expression} AS {prefix}{at}"));
    each.collect::<Vec<_>>().join(", ")
}

/// Where the source key of a target's row is read.
struct Source {
    /// Expressions for it.
    key: Vec<String>,
    carried: Vec<String>,
    map: Option<String>,
    own_key: Vec<String>,
    wires: Vec<String>,
}

impl Source {
    fn of(staged: &Staged<'_>) -> Self {
        let count = staged.shape.key_types.len();
        let key = match staged.map {
            Some(_) => (0..count).map(|at| format!("m.s{at}")).collect(),
            None => staged.carries("t."),
        };
        Self {
            key,
            carried: staged.carries(""),
            map: staged.map.clone(),
            own_key: staged.key(""),
            wires: staged.shape.key_types.iter().map(|kind| kind.wire().to_owned()).collect(),
        }
    }

    fn join(&self, prefix: &str) -> String {
        let own: Vec<String> = self.own_key.iter().map(|name| format!("{prefix}{name}")).collect();
        self.join_on(&own)
    }

    fn join_numbered(&self, prefix: &str) -> String {
        let own: Vec<String> = (0..self.own_key.len()).map(|at| format!("{prefix}k{at}")).collect();
        self.join_on(&own)
    }

    fn join_on(&self, own: &[String]) -> String {
        let Some(map) = &self.map else { return String::new() };
        let mapped: Vec<String> = (0..own.len()).map(|at| format!("m.k{at}")).collect();
        format!("LEFT JOIN {map} m ON {}", same(&mapped, own))
    }

    fn carried_columns(&self) -> String {
        self.carried.iter().map(|name| format!(", {name}")).collect()
    }

    /// A condition: the row's source key is none of the batch's, or there is none.
    fn is_foreign(&self, staged: &Staged<'_>) -> String {
        let keys = expressions("k.k", &staged.shape.key_casts());
        format!("NOT EXISTS (SELECT FROM {} k WHERE {})", staged.keys, same(&keys, &self.key))
    }
}

fn collision(
    connection: &mut Connection,
    source: &Source,
    from: &str,
    example: &str,
    shown: &[String],
) -> Result<Option<Collision>, MigrateError> {
    let rows = connection.rows(&format!(
        "SELECT format({}, concat_ws(', ', {})) FROM {from} LIMIT 1",
        sql::value(example),
        shown.join(", ")
    ))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let example = column(row, 0).to_owned();
    let keys = source.key.iter().zip(&source.wires).map(|(key, wire)| format!("({key})::{wire}"));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let holders = connection.copy_out(&format!(
        "SELECT DISTINCT {keys} FROM {from} AND num_nulls({}) = 0",
        source.key.join(", ")
    ))?;
    Ok(Some(Collision { holders, example }))
}
