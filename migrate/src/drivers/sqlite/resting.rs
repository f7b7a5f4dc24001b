//! Streams that rest while the side that they fill owns the data.
//!
//! Invariant: resting takes the stream over in the commit that sets it, so whoever followed before commits nothing behind it.

use rusqlite::OptionalExtension as _;

use super::target::{Ending, SqliteTarget};
use crate::engine::{Batch, Claim, Guard, Mapping, Outcome, Phase, Stream, StreamRow};
use crate::error::MigrateError;

use super::rows::SqliteRows;

impl SqliteTarget {
    pub(super) fn set_to_rest(&mut self, name: &str) -> Result<Claim, MigrateError> {
        let sql = format!(
            "UPDATE {} SET token = token + 1, phase = 'resting' WHERE name = ?1 AND phase <> 'loading' RETURNING token",
            self.table("banyan_streams")
        );
        let token = self.conn.query_row(&sql, [name], |row| row.get(0)).optional()?;
        let token = token.ok_or_else(|| {
            MigrateError::refused(
                format!("the stream {name} is not copied to its end"),
                "let `migrate run` end it first; `migrate status` shows how far it is",
            )
        })?;
        Ok(Claim { stream: name.to_owned(), token })
    }

    pub(super) fn set_awake(&mut self, name: &str, seen: i64) -> Result<bool, MigrateError> {
        let sql = format!(
            "UPDATE {} SET token = token + 1, phase = 'waking' WHERE name = ?1 AND token = ?2 AND phase = 'resting'",
            self.table("banyan_streams")
        );
        Ok(self.conn.execute(&sql, (name, seen))? == 1)
    }

    pub(super) fn make_resting(&mut self, stream: &Stream, row: &StreamRow) -> Result<(), MigrateError> {
        let sql = format!(
            "INSERT INTO {} AS s (name, pos, next, token, phase, mapping_hash, fingerprint) \
             VALUES (?1, ?2, ?2, max(1, {}), ?3, ?4, ?5) ON CONFLICT (name) DO UPDATE SET pos = excluded.pos, next = excluded.next, \
               token = s.token + 1, phase = excluded.phase, mapping_hash = excluded.mapping_hash, \
               fingerprint = excluded.fingerprint",
            self.table("banyan_streams"),
            self.token_behind_forgotten()
        );
        let phase = Phase::Resting.as_str();
        self.conn.execute(&sql, (&stream.name, &row.pos.0, phase, &row.mapping_hash, &row.fingerprint))?;
        let forget = [
            ("banyan_chunks", ""),
            ("banyan_holds", ""),
            // Notes of verifications; how the stream is steered stays.
            ("banyan_notes", " AND name LIKE 'verif%'"),
        ];
        for (table, condition) in forget {
            let sql = format!("DELETE FROM {} WHERE stream = ?1{condition}", self.table(table));
            self.conn.execute(&sql, [&stream.name])?;
        }
        let sql = format!(
            "INSERT INTO {} (stream, mapping, chunk, lease, lease_until, done, rows) VALUES (?1, ?2, 0, 1, 0, 1, 0)",
            self.table("banyan_chunks")
        );
        for mapping in 0..stream.mappings.len() {
            self.conn.execute(&sql, (&stream.name, mapping))?;
        }
        Ok(())
    }

    /// Each part by itself, until one is not written.
    pub(super) fn apply_parts(
        &mut self,
        claim: &Claim,
        parts: &[(&Mapping, Batch<SqliteRows>)],
    ) -> Result<Ending<Outcome<SqliteRows>>, MigrateError> {
        let mut written = 0;
        for (mapping, batch) in parts {
            match self.apply_batch(Guard::Claim(claim), mapping, batch)? {
                Ending::Commit(Outcome::Written(rows)) => written += rows,
                Ending::Commit(other) | Ending::Undo(other) => return Ok(Ending::Undo(other)),
            }
        }
        Ok(Ending::Commit(Outcome::Written(written)))
    }
}
