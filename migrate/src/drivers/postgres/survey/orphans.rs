//! Rows that the mappings make without making the row that a foreign key of the target wants for them.
//!
//! Invariant: only keys between two filled tables are asked, over columns that both mappings fill; building such a key again
//! behind a load would fail on one row.

use super::super::sql;
use super::rows::Mapped;
use super::{Looked, Surveyor, named, oids, place};
use crate::engine::survey::Depth;
use crate::error::MigrateError;

/// A foreign key of the target with its columns.
struct Key {
    name: String,
    child: String,
    parent: String,
    columns: Vec<String>,
    referred: Vec<String>,
}

impl Surveyor {
    pub(super) fn orphans(&mut self, looked: &[Looked]) -> Result<(), MigrateError> {
        for key in self.keys_between(looked)? {
            let of = |table: &str| looked.iter().find(|looked| looked.table == table);
            let (Some(child), Some(parent)) = (of(&key.child), of(&key.parent)) else { continue };
            let fills = |looked: &Looked, columns: &[String]| {
                columns.iter().all(|column| looked.mapping.columns.contains(column))
            };
            let readable = self.depth == Depth::Whole || parent.keys <= Depth::SMALL;
            if !readable || !fills(child, &key.columns) || !fills(parent, &key.referred) {
                continue;
            }
            let rows = Mapped::new(child, self.depth.limit(child.keys))?;
            let parents = Mapped::new(parent, None)?;
            let columns = sql::names("r.", &key.columns);
            let query = format!(
                "SELECT count(*), min({}) FROM {} WHERE num_nulls({columns}) = 0 AND ({columns}) NOT IN \
                 (SELECT {} FROM {} WHERE num_nulls({referred}) = 0)",
                rows.shown,
                rows.from,
                sql::names("r.", &key.referred),
                parents.from,
                referred = sql::names("r.", &key.referred),
            );
            let what = format!("rows of {} have no row of {} that {} wants", key.child, key.parent, key.name);
            let remedy =
                "correct them at the source, or map both tables alike: the key could not be built again";
            self.count(&place(&child.mapping), &query, &what, remedy)?;
        }
        Ok(())
    }

    fn keys_between(&mut self, looked: &[Looked]) -> Result<Vec<Key>, MigrateError> {
        let tables: Vec<String> = looked.iter().map(|looked| looked.table.clone()).collect();
        let names = |table: &str, places: &str| {
            format!(
                "(SELECT json_agg(a.attname ORDER BY u.at) FROM unnest(k.{places}) WITH ORDINALITY u(number, at) \
                 JOIN pg_attribute a ON a.attrelid = k.{table} AND a.attnum = u.number)"
            )
        };
        let rows = self.target.rows(&format!(
            "SELECT quote_ident(k.conname), {}, {}, {}, {} FROM pg_constraint k \
             WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid IN ({list}) AND k.confrelid IN ({list})",
            named("k.conrelid"),
            named("k.confrelid"),
            names("conrelid", "conkey"),
            names("confrelid", "confkey"),
            list = oids(&tables)
        ))?;
        let key = |row: &postgres::SimpleQueryRow| {
            let text = |at| row.get(at).unwrap_or_default();
            Key {
                name: text(0).to_owned(),
                child: text(1).to_owned(),
                parent: text(2).to_owned(),
                columns: serde_json::from_str(text(3)).unwrap_or_default(),
                referred: serde_json::from_str(text(4)).unwrap_or_default(),
            }
        };
        Ok(rows.iter().map(key).collect())
    }
}
