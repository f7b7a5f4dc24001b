//! What a mapping makes of the data at hand: storage classes and duplicates, found by query before anything is copied.
//!
//! Invariant: reads only; one pass over the mapped rows per table and per unique index.

use std::fmt;

use rusqlite::OptionalExtension as _;

use super::Pair;
use super::catalog::UniqueIndex;
use super::sql::{self, KeyRange, Keys, list, quote, table};
use super::values::Row;
use crate::error::MigrateError;
use crate::flow::End;
use crate::manifest::TableMap;

const CLASSES: [&str; 5] = ["integer", "real", "text", "blob", "null"];

/// How often each storage class occurs in a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile([i64; CLASSES.len()]);

impl Profile {
    /// How many values are of a storage class.
    pub fn count(&self, class: &str) -> i64 {
        CLASSES.iter().zip(self.0).filter(|(name, _)| **name == class).map(|(_, count)| count).sum()
    }

    /// How many values are neither NULL nor of these classes.
    pub fn count_other_than(&self, classes: &[&str]) -> i64 {
        let strange = |name: &str| name != "null" && !classes.contains(&name);
        CLASSES.iter().zip(self.0).filter(|(name, _)| strange(name)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found: Vec<&str> =
            CLASSES.iter().zip(self.0).filter(|(_, count)| *count > 0).map(|(name, _)| *name).collect();
        f.write_str(&found.join(", "))
    }
}

impl Pair {
    /// Rows that a mapping makes, and the storage classes of each of its columns.
    pub fn profile(&self, map: &TableMap) -> Result<(i64, Vec<Profile>), MigrateError> {
        let count = |name: &String| {
            let of = |class: &&str| format!("sum(typeof({}) = '{class}')", quote(name));
            CLASSES.iter().map(of).collect::<Vec<_>>().join(", ")
        };
        let counts = map.columns.iter().map(count).collect::<Vec<_>>().join(", ");
        let sql = format!("{} SELECT count(*), {counts} FROM m", mapped_rows(map));
        Ok(self.conn.query_row(&sql, [], |row| {
            let mut profiles = Vec::new();
            for column in 0..map.columns.len() {
                let mut profile = Profile::default();
                for (class, count) in profile.0.iter_mut().enumerate() {
                    let found: Option<i64> = row.get(1 + column * CLASSES.len() + class)?;
                    *count = found.unwrap_or_default();
                }
                profiles.push(profile);
            }
            Ok((row.get(0)?, profiles))
        })?)
    }

    /// How many values a mapping makes more than once although a unique index allows them once, with an example.
    pub fn duplicates(
        &self,
        map: &TableMap,
        index: &UniqueIndex,
    ) -> Result<Option<(i64, Row)>, MigrateError> {
        let names: Vec<String> = index.columns.iter().map(|(name, _)| name.clone()).collect();
        if !names.iter().all(|name| map.columns.contains(name)) {
            return Ok(None);
        }
        let collated: Vec<String> = index
            .columns
            .iter()
            .map(|(name, collation)| format!("{} COLLATE {collation}", quote(name)))
            .collect();
        let present = names.iter().map(|name| format!("{} IS NOT NULL", quote(name))).collect::<Vec<_>>();
        let covered =
            index.condition.as_ref().map(|condition| format!(" AND ({condition})")).unwrap_or_default();
        let sql = format!(
            "{}, twice AS (SELECT {} FROM m WHERE {}{covered} GROUP BY {} HAVING count(*) > 1) \
             SELECT (SELECT count(*) FROM twice), * FROM twice LIMIT 1",
            mapped_rows(map),
            list(&names),
            present.join(" AND "),
            collated.join(", ")
        );
        let found = self.conn.query_row(&sql, [], |row| {
            Ok((row.get(0)?, (0..names.len()).map(|index| row.get(index + 1)).collect::<Result<Row, _>>()?))
        });
        Ok(found.optional()?)
    }

    /// How many values of a column are neither NULL nor of these storage classes.
    pub fn count_of_other_classes(
        &self,
        end: End,
        name: &str,
        column: &str,
        classes: &[&str],
    ) -> Result<i64, MigrateError> {
        let allowed = classes.iter().map(|class| format!("'{class}'")).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT count(*) FROM {} WHERE typeof({}) NOT IN ('null', {allowed})",
            table(end, name),
            quote(column)
        );
        Ok(self.conn.query_row(&sql, [], |row| row.get(0))?)
    }

    /// Whether an index begins with this column.
    pub fn has_index_on(&self, end: End, table: &str, column: &str) -> Result<bool, MigrateError> {
        let schema = end.schema();
        let sql = format!(
            "SELECT count(*) FROM pragma_index_list(?1, '{schema}') AS i, pragma_index_info(i.name, '{schema}') AS c \
             WHERE c.seqno = 0 AND c.name = ?2 COLLATE NOCASE AND NOT i.partial"
        );
        Ok(self.conn.query_row(&sql, [table, column], |row| row.get::<_, i64>(0))? > 0)
    }
}

/// All rows of a mapping, under the name `m` and with the columns' names.
fn mapped_rows(map: &TableMap) -> String {
    let range = KeyRange::default();
    format!("WITH m ({}) AS (\n{}\n)", list(&map.columns), sql::restrict(&map.select, Keys::Range(&range)))
}
