//! Copying rows through the mapping, inside a transaction that the caller holds.
//!
//! Why it may run beside dual-write: the transaction took the written end's lock before its snapshot of the owner,
//! so that snapshot holds every change whose image the written end has applied; what is copied is therefore never
//! older than what it replaces, and images that come later are told apart by their versions.
//!
//! Invariant: after each copy, every key that was copied, *and every key whose image was still waiting*, stands at
//! the written end exactly as in the snapshot. So an image that comes later finds no holder of one of its unique
//! values other than those that the owner itself knew.

use rusqlite::{ErrorCode, named_params};

use super::Pair;
use super::catalog::KeyKind;
use super::sql::{self, KeyRange, Keys, quote, table};
use super::values::Key;
use crate::error::MigrateError;
use crate::flow::Flow;
use crate::manifest::Manifest;

/// A key that the written end refused to store.
#[derive(Debug, Clone, PartialEq)]
pub struct Deferred {
    /// The key.
    pub key: Key,
    /// What the database said, and which row holds the value if it was a collision.
    pub reason: String,
}

/// What one copy did.
#[derive(Debug, Default)]
pub struct Copied {
    /// Keys whose rows were written or removed.
    pub keys: u64,
    /// Rows written over all tables.
    pub rows: u64,
    /// Keys that could not be stored.
    pub deferred: Vec<Deferred>,
}

/// What a copy works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) flow: Flow,
    pub(crate) kind: KeyKind,
}

impl Pair {
    /// Brings a range of keys up to date, and the keys whose images after `synced` still wait.
    /// With `again`, every row of the range is written anew and what the owner does not have is removed.
    pub(crate) fn copy_range(
        &self,
        job: Job<'_>,
        range: &KeyRange,
        synced: i64,
        again: bool,
    ) -> Result<Copied, MigrateError> {
        self.unstage()?;
        let pending = self.stage_pending(job.manifest, job.flow, job.kind, synced)?;
        if pending == 0 && !again && !self.holds_any(job.manifest, job.flow.to, range)? {
            let loaded = self.guarded(|pair| pair.load(job, range))?;
            if let Some(copied) = loaded {
                return Ok(copied);
            }
        }
        if again {
            self.stage_all(job.manifest, job.flow, range)?;
        } else {
            self.stage_newer(job.manifest, job.flow, range)?;
        }
        self.copy_staged(job)
    }

    /// Brings the staged keys up to date.
    pub(crate) fn copy_staged(&self, job: Job<'_>) -> Result<Copied, MigrateError> {
        let mut copied = match self.guarded(|pair| pair.replace(job))? {
            Some(copied) => copied,
            None => {
                // A unique value can only collide with a row that the owner has changed since or removed:
                // with all such rows in the same batch, the batch is as free of collisions as the owner's data.
                self.stage_behind(job.manifest, job.flow, job.kind)?;
                match self.guarded(|pair| pair.replace(job))? {
                    Some(copied) => copied,
                    None => self.replace_one_by_one(job)?,
                }
            }
        };
        copied.keys = u64::try_from(self.staged_count()?).unwrap_or_default();
        self.copy_tombstones(job)?;
        self.raise_counter(job)?;
        Ok(copied)
    }

    /// Loads a range of which the written end holds nothing.
    fn load(&self, job: Job<'_>, range: &KeyRange) -> Result<Copied, rusqlite::Error> {
        let keys = Keys::Range(range);
        let mut copied = Copied::default();
        for map in job.manifest.maps(job.flow) {
            let statement = sql::insert(job.flow.to, map, keys);
            let rows = self.conn.execute(&statement, keys.params().as_slice())?;
            let rows = u64::try_from(rows).unwrap_or_default();
            copied.rows += rows;
            if map.table == job.manifest.tables(job.flow.to).root {
                copied.keys = rows;
            }
        }
        self.forget_tombstones(job, range)?;
        self.raise_counter(job)?;
        Ok(copied)
    }

    /// Removes the staged keys' rows and writes them anew.
    fn replace(&self, job: Job<'_>) -> Result<Copied, rusqlite::Error> {
        self.remove_staged(job)?;
        let mut copied = Copied::default();
        for map in job.manifest.maps(job.flow) {
            let rows = self.conn.execute(&sql::insert(job.flow.to, map, Keys::Staged), [])?;
            copied.rows += u64::try_from(rows).unwrap_or_default();
        }
        Ok(copied)
    }

    /// As [`Pair::replace`], but a key that is refused is left out and reported.
    fn replace_one_by_one(&self, job: Job<'_>) -> Result<Copied, MigrateError> {
        self.remove_staged(job)?;
        let mut copied = Copied::default();
        for key in self.staged()? {
            let keys = Keys::One(&key);
            self.conn.execute_batch("SAVEPOINT one")?;
            let stored = job.manifest.maps(job.flow).iter().try_fold(0, |rows, map| {
                let statement = sql::insert(job.flow.to, map, keys);
                self.conn.execute(&statement, keys.params().as_slice()).map(|more| rows + more)
            });
            match stored {
                Ok(rows) => copied.rows += u64::try_from(rows).unwrap_or_default(),
                Err(error) if is_about_a_row(&error) => {
                    self.conn.execute_batch("ROLLBACK TO one")?;
                    let reason = self.explain_refusal(job, &key, &error);
                    copied.deferred.push(Deferred { key, reason });
                }
                Err(error) => return Err(error.into()),
            }
            self.conn.execute_batch("RELEASE one")?;
        }
        Ok(copied)
    }

    /// Removes the staged keys' rows, those that refer to others first.
    fn remove_staged(&self, job: Job<'_>) -> Result<(), rusqlite::Error> {
        for map in job.manifest.maps(job.flow).iter().rev() {
            let condition = Keys::Staged.condition(&quote(map.root_key()));
            let table = table(job.flow.to, &map.table);
            self.conn.execute(&format!("DELETE FROM {table} WHERE {condition}"), [])?;
        }
        Ok(())
    }

    /// Makes the staged keys' tombstones those of the owner.
    fn copy_tombstones(&self, job: Job<'_>) -> Result<(), MigrateError> {
        let (ours, theirs) =
            (table(job.flow.from, "banyan_tombstones"), table(job.flow.to, "banyan_tombstones"));
        let params = named_params! { ":context": job.manifest.context };
        let staged = "id IN (SELECT CAST(key AS TEXT) FROM temp.banyan_keys)";
        let sql = format!(
            "DELETE FROM {theirs} WHERE context = :context AND {staged} AND NOT EXISTS \
             (SELECT 1 FROM {ours} AS t WHERE t.context = :context AND t.id = banyan_tombstones.id)"
        );
        self.conn.execute(&sql, params)?;
        let sql = format!(
            "INSERT INTO {theirs} (context, id, version) \
             SELECT context, id, version FROM {ours} WHERE context = :context AND {staged} \
             ON CONFLICT (context, id) DO UPDATE SET version = max(version, excluded.version)"
        );
        self.conn.execute(&sql, params)?;
        Ok(())
    }

    /// Removes tombstones of keys that the owner has rows for.
    fn forget_tombstones(&self, job: Job<'_>, range: &KeyRange) -> Result<(), rusqlite::Error> {
        let theirs = table(job.flow.to, "banyan_tombstones");
        let tables = job.manifest.tables(job.flow.from);
        let (key, root) = (quote(&tables.key), table(job.flow.from, &tables.root));
        let keys = Keys::Range(range);
        let mut params = keys.params();
        params.push((":context", &job.manifest.context));
        // The first condition keeps a first load, which has no tombstones to forget, from visiting every key.
        let sql = format!(
            "DELETE FROM {theirs} WHERE EXISTS (SELECT 1 FROM {theirs} WHERE context = :context) \
             AND context = :context AND id IN (SELECT CAST({key} AS TEXT) FROM {root} WHERE {})",
            keys.condition(&key)
        );
        self.conn.execute(&sql, params.as_slice()).map(drop)
    }

    /// The counter must be past every version stored, lest an old owner's numbers be given out again.
    fn raise_counter(&self, job: Job<'_>) -> Result<(), rusqlite::Error> {
        let (ours, theirs) = (table(job.flow.from, "banyan_contexts"), table(job.flow.to, "banyan_contexts"));
        let sql = format!(
            "UPDATE {theirs} SET version = max(version, coalesce((SELECT version FROM {ours} WHERE context = :context), 0)) \
             WHERE context = :context"
        );
        self.conn.execute(&sql, named_params! { ":context": job.manifest.context }).map(drop)
    }

    fn staged_count(&self) -> Result<i64, MigrateError> {
        Ok(self.conn.query_row("SELECT count(*) FROM temp.banyan_keys", [], |row| row.get(0))?)
    }

    /// Runs `work` in a savepoint; a row that is refused undoes it and gives nothing.
    fn guarded<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, rusqlite::Error>,
    ) -> Result<Option<T>, MigrateError> {
        self.conn.execute_batch("SAVEPOINT batch")?;
        let done = match work(self) {
            Ok(value) => Some(value),
            Err(error) if is_about_a_row(&error) => {
                self.conn.execute_batch("ROLLBACK TO batch")?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.conn.execute_batch("RELEASE batch")?;
        Ok(done)
    }
}

/// Whether a row's values were refused, by a constraint or by a function of the mapping (malformed JSON, say), as
/// opposed to a database that failed.
fn is_about_a_row(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ConstraintViolation | ErrorCode::Unknown))
}
