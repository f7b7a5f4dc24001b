//! The dual-write contract's tables, and the id sequences that move with ownership.
//!
//! Invariant: a fence is moved only from the token under which it was seen, so a later change of ownership is never
//! undone by an earlier one.

use rusqlite::{OptionalExtension as _, named_params};
use serde::Serialize;

use super::Pair;
use super::catalog::KeyKind;
use super::sql::{quote, table};
use crate::error::MigrateError;
use crate::flow::End;
use crate::manifest::Manifest;

/// One side's row of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ContextState {
    /// The version counter.
    pub version: i64,
    /// Changes leave an intent.
    pub dual_write: bool,
    /// Client writes are refused.
    pub closed: bool,
    /// The token under which the fence was last moved.
    pub fence_token: i64,
}

/// What waits to be delivered to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Backlog {
    /// Images.
    pub pending: i64,
    /// When the oldest was written, in milliseconds since 1970.
    pub oldest_at_ms: Option<i64>,
}

/// Where the new owner's ids and versions go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SequenceMove {
    /// The last id given out by either side; nothing for keys that are no numbers.
    pub last_id: Option<i64>,
    /// The last version given out by either side.
    pub version: i64,
}

impl Pair {
    /// A side's row of the context; nothing if the side has none, or has no such tables at all.
    pub fn context_state(&self, end: End, context: &str) -> Result<Option<ContextState>, MigrateError> {
        if !self.has_table(end, "banyan_contexts")? {
            return Ok(None);
        }
        let sql = format!(
            "SELECT version, dual_write, fence = 'closed', fence_token FROM {} WHERE context = ?1",
            table(end, "banyan_contexts")
        );
        let state = self.conn.query_row(&sql, [context], |row| {
            Ok(ContextState {
                version: row.get(0)?,
                dual_write: row.get(1)?,
                closed: row.get(2)?,
                fence_token: row.get(3)?,
            })
        });
        state.optional().map_err(self.at(end))
    }

    /// As [`Pair::context_state`], but refuses if there is none.
    pub fn known_context(&self, end: End, context: &str) -> Result<ContextState, MigrateError> {
        self.context_state(end, context)?.ok_or_else(|| {
            MigrateError::refused(
                format!("the {end} database does not know the context {context}"),
                format!("start the {} once so that it creates its schema", end.side()),
            )
        })
    }

    /// What waits at one side.
    pub fn backlog(&self, end: End, context: &str) -> Result<Backlog, MigrateError> {
        if !self.has_table(end, "banyan_intents")? {
            return Ok(Backlog::default());
        }
        let sql = format!(
            "SELECT count(*), min(created_at_ms) FROM {} WHERE context = ?1",
            table(end, "banyan_intents")
        );
        let backlog = self.conn.query_row(&sql, [context], |row| {
            Ok(Backlog { pending: row.get(0)?, oldest_at_ms: row.get(1)? })
        });
        backlog.map_err(self.at(end))
    }

    /// Whether anything waits at one side.
    pub fn anything_pending(&self, end: End, context: &str) -> Result<bool, MigrateError> {
        let sql =
            format!("SELECT EXISTS (SELECT 1 FROM {} WHERE context = ?1)", table(end, "banyan_intents"));
        self.conn.query_row(&sql, [context], |row| row.get(0)).map_err(self.at(end))
    }

    /// Turns intents on or off at one side, inside the caller's transaction.
    pub fn set_dual_write(&self, end: End, context: &str, on: bool) -> Result<(), MigrateError> {
        let sql = format!("UPDATE {} SET dual_write = ?2 WHERE context = ?1", table(end, "banyan_contexts"));
        self.conn.execute(&sql, rusqlite::params![context, on])?;
        Ok(())
    }

    /// Moves a fence if it was last moved under `seen`, and records `token`. Returns whether it did.
    pub fn move_fence(
        &self,
        end: End,
        context: &str,
        seen: i64,
        token: i64,
        fence: &str,
    ) -> Result<bool, MigrateError> {
        let sql = format!(
            "UPDATE {} SET fence = :fence, fence_token = :token WHERE context = :context AND fence_token = :seen",
            table(end, "banyan_contexts")
        );
        let params = named_params! { ":fence": fence, ":token": token, ":context": context, ":seen": seen };
        Ok(self.conn.execute(&sql, params)? > 0)
    }

    /// Lets the end's ids and versions go on where both sides' end, inside the caller's transaction. Ids of deleted
    /// rows count too: they must never return.
    pub fn move_sequences(
        &self,
        manifest: &Manifest,
        end: End,
        kind: KeyKind,
    ) -> Result<SequenceMove, MigrateError> {
        let mut version = 0;
        let mut last_id = None;
        for side in [end, end.other()] {
            version =
                version.max(self.context_state(side, &manifest.context)?.map_or(0, |state| state.version));
            if kind == KeyKind::Integer {
                last_id = last_id.max(self.last_id(manifest, side)?);
            }
        }
        let sql = format!(
            "UPDATE {} SET version = max(version, ?2) WHERE context = ?1",
            table(end, "banyan_contexts")
        );
        self.conn.execute(&sql, rusqlite::params![manifest.context, version])?;
        if let Some(id) = last_id.filter(|_| self.has_table(end, "sqlite_sequence").unwrap_or(false)) {
            self.raise_sequence(end, &manifest.tables(end).root, id)?;
        }
        Ok(SequenceMove { last_id, version })
    }

    /// The last id that one side gave out or took over.
    fn last_id(&self, manifest: &Manifest, end: End) -> Result<Option<i64>, MigrateError> {
        let tables = manifest.tables(end);
        let (key, root) = (quote(&tables.key), table(end, &tables.root));
        let greatest: Option<i64> =
            self.conn.query_row(&format!("SELECT max({key}) FROM {root}"), [], |row| row.get(0))?;
        let removed = format!(
            "SELECT max(CAST(id AS INTEGER)) FROM {} WHERE context = ?1",
            table(end, "banyan_tombstones")
        );
        let removed: Option<i64> = self.conn.query_row(&removed, [&manifest.context], |row| row.get(0))?;
        let mut last = greatest.max(removed);
        if self.has_table(end, "sqlite_sequence")? {
            let sql = format!("SELECT max(seq) FROM {}.sqlite_sequence WHERE name = ?1", end.schema());
            last = last.max(self.conn.query_row(&sql, [&tables.root], |row| row.get(0))?);
        }
        Ok(last)
    }

    /// `sqlite_sequence` has no unique index, so it is updated or else inserted.
    fn raise_sequence(&self, end: End, root: &str, id: i64) -> Result<(), MigrateError> {
        let sequence = format!("{}.sqlite_sequence", end.schema());
        let raised = self.conn.execute(
            &format!("UPDATE {sequence} SET seq = max(seq, ?2) WHERE name = ?1"),
            rusqlite::params![root, id],
        )?;
        if raised == 0 {
            self.conn.execute(
                &format!("INSERT INTO {sequence} (name, seq) VALUES (?1, ?2)"),
                rusqlite::params![root, id],
            )?;
        }
        Ok(())
    }
}
