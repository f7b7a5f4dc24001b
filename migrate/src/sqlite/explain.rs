//! Says why the written end refused a row: for a collision, which row holds the value.
//!
//! Invariant: best effort only; what it cannot find out is left out, and nothing depends on it.

use super::Pair;
use super::copy::Job;
use super::sql::{self, Keys, quote, table};
use super::values::{Key, Row, show};

const COLLISION: &str = "UNIQUE constraint failed: ";

impl Pair {
    /// The database's message, with the holder of the value if a unique value collided.
    pub(crate) fn explain_refusal(&self, job: Job<'_>, key: &Key, error: &rusqlite::Error) -> String {
        let message = match error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
            other => other.to_string(),
        };
        match self.holder(job, key, &message) {
            Some((holder, values)) => format!("{message}: row {} holds {values} already", show(&holder)),
            None => message,
        }
    }

    /// The key of the row that holds the values which collided.
    fn holder(&self, job: Job<'_>, key: &Key, message: &str) -> Option<(Key, String)> {
        let columns: Vec<(&str, &str)> =
            message.strip_prefix(COLLISION)?.split(", ").filter_map(|name| name.split_once('.')).collect();
        let (table_name, _) = *columns.first()?;
        let map = job.manifest.maps(job.flow).iter().find(|map| map.table == table_name)?;
        let condition = columns
            .iter()
            .enumerate()
            .map(|(index, (_, column))| format!("{} = ?{}", quote(column), index + 1))
            .collect::<Vec<_>>()
            .join(" AND ");
        let (root_key, table) = (quote(map.root_key()), table(job.flow.to, &map.table));
        let lookup = format!("SELECT {root_key} FROM {table} WHERE {condition} LIMIT 1");
        let keys = Keys::One(key);
        let mut statement = self.conn.prepare(&sql::mapped(map, keys)).ok()?;
        let rows = statement.query_map(keys.params().as_slice(), |row| {
            (0..map.columns.len()).map(|index| row.get(index)).collect::<Result<Row, _>>()
        });
        for row in rows.ok()?.flatten() {
            let place = |name: &str| map.columns.iter().position(|column| column == name);
            let values: Row =
                columns.iter().filter_map(|(_, column)| row.get(place(column)?).cloned()).collect();
            let found = self.conn.query_row(&lookup, rusqlite::params_from_iter(&values), |row| row.get(0));
            if let Ok(holder) = found {
                return Some((holder, values.iter().map(show).collect::<Vec<_>>().join(", ")));
            }
        }
        None
    }
}
