//! Types: how a column's values pass.
//!
//! Invariant: values pass in PostgreSQL's binary form only if that form means the same on every server; all others pass as
//! text.

use super::connection::{Connection, column};
use crate::error::MigrateError;

/// A type as one server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    /// Its name, with the schema unless it is PostgreSQL's own.
    pub(super) name: String,
    /// The name of what it is under all domains.
    pub(super) base: String,
    /// That one's number.
    base_oid: u32,
    /// Whether the binary form of the base means the same on every server.
    portable: bool,
    /// An enum's labels.
    pub(super) labels: Vec<String>,
}

/// Names a type so that it can be cast to. `format_type` with -1 gives `bpchar` and `"bit"`, which have no length, where the
/// plain names would cut values to length 1.
pub(super) const NAME: &str = "CASE WHEN n.nspname = 'pg_catalog' THEN format_type(t.oid, -1) \
    ELSE quote_ident(n.nspname) || '.' || quote_ident(t.typname) END";

/// From here on numbers belong to types that somebody made, which differ from server to server.
const FIRST_OWN: u32 = 16_384;

/// Whole numbers.
const WHOLE: [&str; 3] = ["smallint", "integer", "bigint"];

/// The number of `text`.
const TEXT: u32 = 25;

impl Type {
    /// Looks types up by their numbers, in that order.
    pub(super) fn look_up(connection: &mut Connection, oids: &[u32]) -> Result<Vec<Self>, MigrateError> {
        let list: Vec<String> = oids.iter().map(u32::to_string).collect();
        // A reg type's binary form is the number of an object of that server. Types without a send function have none.
        let rows = connection.rows(&format!(
            "WITH RECURSIVE chain(start, oid, depth) AS ( \
               SELECT u.oid, u.oid, 0 FROM unnest(ARRAY[{}]::oid[]) u(oid) UNION ALL \
               SELECT c.start, t.typbasetype, c.depth + 1 FROM chain c JOIN pg_type t ON t.oid = c.oid \
               WHERE t.typtype = 'd'), \
             named AS (SELECT t.*, {NAME} AS shown, \
               n.nspname = 'pg_catalog' AND t.typsend <> 0 AND t.typname !~ '^_?reg' AS own \
               FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace) \
             SELECT DISTINCT ON (c.start) c.start, s.shown, t.shown, t.oid, (t.own AND t.oid < {FIRST_OWN})::int, \
               (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid) \
             FROM chain c JOIN named s ON s.oid = c.start JOIN named t ON t.oid = c.oid \
             ORDER BY c.start, c.depth DESC",
            list.join(", ")
        ))?;
        let found = |oid: &u32| {
            let text = oid.to_string();
            rows.iter().find(|row| row.get(0) == Some(&text)).map(|row| Self {
                name: column(row, 1).to_owned(),
                base: column(row, 2).to_owned(),
                base_oid: column(row, 3).parse().unwrap_or(0),
                portable: row.get(4) == Some("1"),
                labels: row.get(5).and_then(|labels| serde_json::from_str(labels).ok()).unwrap_or_default(),
            })
        };
        let missing = || MigrateError::failed(format!("{} does not know a type", connection.place.shown));
        oids.iter().map(|oid| found(oid).ok_or_else(missing)).collect()
    }

    /// What the source casts to. An enum's binary form is its label's text.
    pub(super) fn wire(&self) -> &str {
        if self.portable { &self.base } else { "text" }
    }

    /// The type of its wire form.
    pub(super) fn on_wire(&self) -> Self {
        let wire = self.wire().to_owned();
        let base_oid = if self.portable { self.base_oid } else { TEXT };
        Self { name: wire.clone(), base: wire, base_oid, portable: true, labels: Vec::new() }
    }

    /// Whether COPY takes the wire's form into a column of this type.
    pub(super) fn takes_wire(&self) -> bool {
        self.portable || !self.labels.is_empty()
    }

    /// The type of a staging column that COPY fills.
    pub(super) fn staged(&self) -> &str {
        if self.takes_wire() { &self.name } else { "text" }
    }

    /// Whether values that are equal to an index are the same value, whatever its collation. 1.5 and 1.50 are not.
    pub(super) fn is_exact(&self) -> bool {
        let exact = [
            "smallint",
            "integer",
            "bigint",
            "boolean",
            "uuid",
            "bytea",
            "date",
            "timestamp without time zone",
            "timestamp with time zone",
        ];
        exact.contains(&self.base.as_str())
    }

    /// SQL for the text that a person sees. `concat` uses a type's output function; a cast would strip a char's blanks.
    pub(super) fn shown(&self, expression: &str) -> String {
        format!("CASE WHEN num_nulls({expression}) = 0 THEN concat({expression}) END")
    }

    /// Whether values of this type are ordered as those that they become in the other; of texts, only the type is compared.
    pub(super) fn orders_like(&self, other: &Self) -> bool {
        const ONE_ORDER: [&str; 4] =
            ["uuid", "date", "timestamp without time zone", "timestamp with time zone"];
        (self.is_whole_number() && other.is_whole_number())
            || (self.is_text() && other.is_text())
            || (self.base == other.base && ONE_ORDER.contains(&&*self.base))
    }

    /// Whether the type is one of whole numbers.
    pub(super) fn is_whole_number(&self) -> bool {
        WHOLE.contains(&self.base.as_str())
    }

    /// Whether the type is one of text, ordered by a collation.
    pub(super) fn is_text(&self) -> bool {
        ["text", "character varying"].contains(&self.base.as_str())
    }

    /// Refuses what a cast to `to` would lose without a word.
    pub(super) fn check_cast(&self, to: &Self, what: &str) -> Result<(), MigrateError> {
        let missing: Vec<&str> = match to.labels.is_empty() {
            true => Vec::new(),
            false => self.labels.iter().filter(|l| !to.labels.contains(l)).map(String::as_str).collect(),
        };
        if !missing.is_empty() {
            return Err(MigrateError::refused(
                format!("{what}: the target's type {} lacks the labels {}", to.name, missing.join(", ")),
                format!("ALTER TYPE {} ADD VALUE for each, or map them in the select", to.name),
            ));
        }
        if self.base_oid == to.base_oid || !loses(&self.base, &to.base) {
            return Ok(());
        }
        Err(MigrateError::refused(
            format!("{what}: {} does not hold every value of {}", to.base, self.base),
            "write the cast into the mapping's select if losing that is meant, or change the target's column",
        ))
    }
}

/// Casts that round or cut instead of failing.
fn loses(from: &str, to: &str) -> bool {
    const TIMED: [&str; 2] = ["timestamp without time zone", "timestamp with time zone"];
    let broken = ["numeric", "real", "double precision", "money"].contains(&from);
    let float = ["real", "double precision"].contains(&to);
    (broken && WHOLE.contains(&to))
        || (from == "bigint" && float)
        || (from == "integer" && to == "real")
        || (from == "numeric" && float)
        || (from == "double precision" && to == "real")
        || (["real", "double precision"].contains(&from) && ["numeric", "money"].contains(&to))
        || (from == "numeric" && to == "money")
        || (TIMED.contains(&from) && ["date", "time without time zone"].contains(&to))
        || (from == "interval" && to == "time without time zone")
        || (from == "inet" && to == "cidr")
}
