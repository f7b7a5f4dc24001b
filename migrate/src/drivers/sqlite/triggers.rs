//! The triggers of capture.
//!
//! Invariant: every row that a statement inserts, changes, removes *or displaces* is logged with the captured columns it
//! had and has. REPLACE removes rows without firing their DELETE triggers unless the application switched
//! `recursive_triggers` on, so BEFORE triggers look for what any unique index would displace. Only what the stream of the
//! other direction writes, which names this one in `banyan_silenced` meanwhile, is not logged, and nothing any more once the
//! log is full, which stands in the same table.

use super::catalog::{Column, Table};
use super::sql::{numbered, quote, text};
use crate::engine::survey::mentions;

/// One trigger.
#[derive(Debug)]
pub(super) struct Trigger {
    pub(super) name: String,
    /// Its name and event.
    event: String,
    /// The columns whose assignment fires it; none if every statement of its kind does.
    columns: Vec<String>,
    /// From the table up to its actions.
    head: String,
    actions: Vec<String>,
}

impl Trigger {
    pub(super) fn sql(&self) -> String {
        let of = if self.columns.is_empty() { "" } else { OF };
        format!("{}{of}{}{}{}; END", self.event, self.columns.join(", "), self.head, self.actions.join("; "))
    }

    /// Whether a trigger of this text logs all that this one would. It may log more: one made for a unique index that has been
    /// dropped since does no harm.
    pub(super) fn is_done_by(&self, sql: &str) -> bool {
        let Some((columns, body)) =
            sql.strip_prefix(&self.event).and_then(|rest| rest.split_once(&self.head))
        else {
            return false;
        };
        let is_fired = match columns.strip_prefix(OF) {
            Some(columns) => {
                !self.columns.is_empty() && self.columns.iter().all(|column| columns.contains(column))
            }
            None => columns.is_empty(),
        };
        is_fired && self.actions.iter().all(|action| body.contains(&format!("{action}; ")))
    }
}

/// In front of the columns of an UPDATE. The rowid is written by any of these names, which no column need have.
const OF: &str = " OF rowid, _rowid_, oid, ";

/// What the names of a stream's triggers begin with, and no other stream's: in names of streams there are no colons.
pub(super) fn prefix(stream: &str) -> String {
    format!("banyan:{stream}:")
}

/// What stands in `banyan_silenced` from when the stream's log was full. No name of a stream lies between it and the stream's.
pub(super) fn full(stream: &str) -> String {
    format!("{stream}!")
}

/// All triggers of one table.
pub(super) fn of(stream: &str, table: &Table, tab: i64, captured: &[String]) -> Vec<Trigger> {
    let log = Log { tab, captured };
    let trigger = |word: &str, event: &str, columns: Vec<String>, actions: &[String]| {
        let name = format!("{}{}:{word}", prefix(stream), table.name);
        let head = format!(
            " ON {} WHEN NOT EXISTS (SELECT 1 FROM banyan_silenced WHERE stream BETWEEN {} AND {}) BEGIN ",
            quote(&table.name),
            text(stream),
            text(&full(stream))
        );
        let event = format!("CREATE TRIGGER {} {event}", quote(&name));
        Trigger { name, event, columns, head, actions: actions.to_vec() }
    };
    let logging = |word, event, actions: &[String]| trigger(word, event, Vec::new(), actions);
    let end = end_if_full(stream);
    vec![
        logging("insert", "AFTER INSERT", &[log.values("NEW"), end.clone()]),
        logging("update", "AFTER UPDATE", &[log.values("OLD"), log.new_if_other(), end.clone()]),
        logging("delete", "AFTER DELETE", &[log.values("OLD"), end]),
        logging("displace_by_insert", "BEFORE INSERT", &log.displaced(table, "")),
        trigger(
            "displace_by_update",
            "BEFORE UPDATE",
            displacing(table),
            &log.displaced(table, &another(table)),
        ),
    ]
}

/// The columns that an UPDATE must assign to displace another row; none if any may, as where an index is over an expression
/// or has a condition.
fn displacing(table: &Table) -> Vec<String> {
    let mut columns = Vec::new();
    for unique in &table.uniques {
        for (term, _) in &unique.terms {
            let is_stored = |column: &&Column| quote(&column.name) == *term && !column.generated;
            let column = table.columns.iter().find(is_stored);
            match column {
                Some(_) => columns.push(term.clone()),
                None if Some(term.as_str()) == table.rowid => {
                    columns.extend(table.integer_key().map(|key| quote(&key.name)))
                }
                None => return Vec::new(),
            }
        }
        if unique.condition.is_some() {
            return Vec::new();
        }
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Ends capture where the log is longer than the stream's bound, which is looked at now and then.
fn end_if_full(stream: &str) -> String {
    format!(
        "INSERT INTO banyan_silenced SELECT {} WHERE random() % 64 = 0 AND EXISTS (SELECT 1 FROM banyan_bound \
         WHERE stream = {} AND log_rows < (SELECT max(pos) FROM banyan_log) - (SELECT min(pos) FROM banyan_log))",
        text(&full(stream)),
        text(stream)
    )
}

/// The condition that a row is not the one updated.
fn another(table: &Table) -> String {
    let same = table.identity().into_iter().map(|column| format!("{column} IS OLD.{column}"));
    format!(" AND NOT ({})", same.collect::<Vec<_>>().join(" AND "))
}

struct Log<'a> {
    tab: i64,
    captured: &'a [String],
}

impl Log<'_> {
    fn insert(&self) -> String {
        format!("INSERT INTO banyan_log (tab, {})", numbered("c", self.captured.len()))
    }

    fn columns(&self, of: &str) -> String {
        self.captured.iter().map(|name| format!("{of}.{}", quote(name))).collect::<Vec<_>>().join(", ")
    }

    fn values(&self, of: &str) -> String {
        format!("{} VALUES ({}, {})", self.insert(), self.tab, self.columns(of))
    }

    /// BINARY, since values that a collation holds equal are two keys where the target's collation is another.
    fn new_if_other(&self) -> String {
        let other = self.captured.iter().map(|name| {
            let name = quote(name);
            format!("NEW.{name} COLLATE BINARY IS NOT OLD.{name} OR typeof(NEW.{name}) <> typeof(OLD.{name})")
        });
        let condition = other.collect::<Vec<_>>().join(" OR ");
        format!("{} SELECT {}, {} WHERE {condition}", self.insert(), self.tab, self.columns("NEW"))
    }

    /// What each unique index would displace. A BEFORE trigger sees neither an id that SQLite will choose, but for -1, nor the
    /// defaults that REPLACE puts in the place of NULL.
    fn displaced(&self, table: &Table, another: &str) -> Vec<String> {
        let columns: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
        let name = quote(&table.name);
        let action = |holds: &str| {
            let (insert, tab, old) = (self.insert(), self.tab, self.columns(&name));
            format!("{insert} SELECT {tab}, {old} FROM {name} WHERE {holds}{another}")
        };
        let new = |column: &str| match table.rowid {
            Some(rowid) if rowid == column => format!("NEW.{column}"),
            _ => format!("NEW.{}", quote(column)),
        };
        let default = |column: &str| table.column(column).ok()?.instead_of_null.as_ref();
        let new_or_default = |column: &str| {
            let new = new(column);
            default(column).map_or_else(|| new.clone(), |default| format!("coalesce({new}, {default})"))
        };
        let mut actions = Vec::new();
        for unique in &table.uniques {
            actions.push(action(&unique.may_hold(table, new)));
            let reads = |column: &String| unique.terms.iter().any(|(term, _)| mentions(term, column));
            let read = columns.iter().filter(|column| default(column).is_some() && reads(column));
            let null: Vec<String> = read.map(|column| format!("{} IS NULL", new(column))).collect();
            if let (Some(key), Some(next)) = (table.integer_key(), &table.next_id)
                && another.is_empty()
                && unique.is_computed_from(table, &key.name)
            {
                let chosen = |column: &str| match column == key.name {
                    true => next.clone(),
                    false => new(column),
                };
                let unknown = format!("coalesce({}, -1) = -1", new(&key.name));
                actions.push(action(&format!("({unknown}) AND {}", unique.may_hold(table, chosen))));
            }
            // Apart from the other: as part of an expression, a value given would lose its column's affinity and collation.
            if !null.is_empty() {
                let holds = unique.may_hold(table, new_or_default);
                actions.push(action(&format!("({}) AND {holds}", null.join(" OR "))));
            }
        }
        actions
    }
}
