//! Makes the table hold exactly what the mapping makes of some keys.
//!
//! Invariant: user triggers and foreign-key actions are off, capture of the same context stays silent, unmapped columns keep
//! their values, and a row that is equal byte by byte is not written.

use postgres::error::SqlState;

use super::super::capture::applier_mark;
use super::super::connection::words;
use super::super::rows::PgRows;
use super::super::sql::{equal, list, literal};
use super::staging::Plan;
use super::{PgTarget, Stay, columns_with};
use crate::engine::{Batch, Guard, Lease, Mapping, Outcome, Position, Rows as _, Touched};
use crate::error::MigrateError;

/// Opens the transaction in which rows are written.
pub(super) fn begin(stream: &str) -> String {
    format!(
        "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL banyan.applier = {}",
        literal(applier_mark(stream))
    )
}

/// What a batch is still to be written.
enum Left {
    All,
    Nothing,
    Superseded,
}

impl PgTarget {
    pub(super) fn apply_batch(
        &mut self,
        guard: Guard<'_, PgRows>,
        mapping: &Mapping,
        batch: &Batch<PgRows>,
    ) -> Result<Outcome<PgRows>, MigrateError> {
        let plan = self.plan(mapping)?;
        let stream = match &guard {
            Guard::Claim(claim) => claim.stream.clone(),
            Guard::GivingWay { stream, .. } => (*stream).to_owned(),
        };
        self.transaction(&begin(&stream), |target| {
            target.stage_keys("banyan_keys", &plan, &batch.keys)?;
            target.stage_rows(&plan, &batch.rows)?;
            let lease = match &guard {
                Guard::GivingWay { lease, .. } => *lease,
                Guard::Claim(_) => None,
            };
            match target.pass_guard(guard, &plan)? {
                Left::Superseded => Ok((Outcome::Superseded, Stay::No)),
                Left::All => {
                    let written = target.write(&plan, mapping)?;
                    let Outcome::Written(changed) = written else { return Ok((written, Stay::No)) };
                    target.done(lease, batch, changed)
                }
                Left::Nothing => target.done(lease, batch, 0),
            }
        })
    }

    fn done(
        &mut self,
        lease: Option<&Lease>,
        batch: &Batch<PgRows>,
        changed: u64,
    ) -> Result<(Outcome<PgRows>, Stay), MigrateError> {
        let Some(lease) = lease else { return Ok((Outcome::Written(changed), Stay::Yes)) };
        if !self.mark_done(lease, &batch.rows)? {
            return Ok((Outcome::Superseded, Stay::No));
        }
        Ok((Outcome::Written(batch.rows.len()), Stay::Yes))
    }

    /// Locks the stream's row against claims and, for who gives way, against `next` moving, until the commit.
    fn pass_guard(&mut self, guard: Guard<'_, PgRows>, plan: &Plan) -> Result<Left, MigrateError> {
        match guard {
            Guard::Claim(claim) => {
                let ours = self.conn.maybe(
                    "SELECT 1 FROM banyan.streams WHERE name = $1 AND token = $2 FOR SHARE",
                    &[&claim.stream, &claim.token],
                )?;
                Ok(if ours.is_some() { Left::All } else { Left::Superseded })
            }
            Guard::GivingWay { stream, touched, .. } => {
                let row = self
                    .conn
                    .maybe("SELECT next FROM banyan.streams WHERE name = $1 FOR SHARE", &[&stream])?;
                let Some(row) = row else { return Ok(Left::Superseded) };
                match touched(&Position(row.get(0)))? {
                    Touched::Whole => Ok(Left::Nothing),
                    Touched::Keys(keys) => self.leave_out(plan, &keys).map(|()| Left::All),
                }
            }
        }
    }

    fn leave_out(&mut self, plan: &Plan, keys: &PgRows) -> Result<(), MigrateError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.stage_keys("banyan_touched", plan, keys)?;
        let link = plan.link();
        let same = equal(&columns_with("x.", &link), &columns_with("y.", &link));
        for table in ["banyan_rows", "banyan_keys"] {
            self.conn.run(&format!(
                "DELETE FROM pg_temp.{table} AS x USING pg_temp.banyan_touched AS y WHERE {same}"
            ))?;
        }
        Ok(())
    }

    fn write(&mut self, plan: &Plan, mapping: &Mapping) -> Result<Outcome<PgRows>, MigrateError> {
        let removed = self.conn.execute(&plan.removal(), &[])?;
        self.conn.run("SAVEPOINT banyan_write")?;
        // A column GENERATED ALWAYS AS IDENTITY can be inserted, but not updated.
        let whole = plan.shapes.iter().zip(&plan.columns);
        let whole = whole.into_iter().any(|(shape, name)| shape.identity_always && !plan.key.contains(name));
        let outcome = if whole { None } else { self.upsert(plan)? };
        let outcome = match outcome {
            Some(changed) => Outcome::Written(changed + removed),
            None => {
                self.conn.run("ROLLBACK TO SAVEPOINT banyan_write")?;
                self.write_whole(plan, mapping, removed)?
            }
        };
        if let (Outcome::Written(_), Some(map)) = (&outcome, &plan.key_map) {
            self.conn.run(&plan.map_changes(map))?;
        }
        Ok(outcome)
    }

    /// Nothing if a unique value stands in the way.
    fn upsert(&mut self, plan: &Plan) -> Result<Option<u64>, MigrateError> {
        match self.conn.try_execute(&plan.upsert()) {
            Ok(changed) => Ok(Some(changed)),
            Err(error) => match error.code() {
                Some(&(SqlState::UNIQUE_VIOLATION | SqlState::EXCLUSION_VIOLATION)) => Ok(None),
                Some(&SqlState::CARDINALITY_VIOLATION) => Err(MigrateError::refused(
                    format!(
                        "the mapping makes two rows with one key ({}) for {}",
                        list(&plan.key),
                        plan.table
                    ),
                    "correct its select or its key",
                )),
                _ => Err(refused_value(self, plan, error)),
            },
        }
    }
}

/// A row that the table does not take is the mapping's fault or the table's, and no retry helps.
pub(super) fn refused_value(target: &PgTarget, plan: &Plan, error: postgres::Error) -> MigrateError {
    if error.code().is_some_and(|code| ["22", "23"].contains(&code.code().get(..2).unwrap_or_default())) {
        return MigrateError::refused(
            format!("{} does not take a row that the mapping makes: {}", plan.table, words(&error)),
            "correct the mapping, or the target's table",
        );
    }
    target.conn.sorted(error)
}

impl Plan {
    /// Removes rows of the batch's keys that the mapping no longer makes.
    fn removal(&self) -> String {
        let table = &self.table;
        let made = equal(&columns_with("r.", &self.key), &columns_with("t.", &self.key));
        if let Some(map) = &self.key_map {
            let here = equal(&columns_with("t.", &self.key), &columns_with("m.", &self.key));
            let others = equal(&columns_with("o.", &self.key), &columns_with("m.", &self.key));
            return format!(
                "DELETE FROM {table} AS t USING {map} AS m WHERE m.source_key IN (SELECT source_key FROM pg_temp.banyan_keys) \
                 AND {here} AND NOT EXISTS (SELECT FROM pg_temp.banyan_rows AS r WHERE {made}) \
                 AND NOT EXISTS (SELECT FROM {map} AS o WHERE {others} \
                   AND o.source_key NOT IN (SELECT source_key FROM pg_temp.banyan_keys))"
            );
        }
        let carried = equal(&columns_with("t.", &self.carried), &columns_with("k.", &self.carried));
        let of_key = equal(&columns_with("r.", &self.carried), &columns_with("k.", &self.carried));
        if self.carried == self.key {
            // No row of the table need be looked at whose key still has its row.
            return format!(
                "DELETE FROM {table} AS t USING (SELECT * FROM pg_temp.banyan_keys AS k WHERE NOT EXISTS \
                 (SELECT FROM pg_temp.banyan_rows AS r WHERE {of_key})) AS k WHERE {carried}"
            );
        }
        format!(
            "DELETE FROM {table} AS t USING pg_temp.banyan_keys AS k WHERE {carried} \
             AND NOT EXISTS (SELECT FROM pg_temp.banyan_rows AS r WHERE {made})"
        )
    }

    fn upsert(&self) -> String {
        let Self { table, columns, .. } = self;
        let (names, key) = (list(columns), list(&self.key));
        let settable = columns.iter().zip(&self.shapes).filter(|(_, shape)| !shape.identity_always);
        let set = list(settable.map(|(name, _)| format!("{name} = excluded.{name}")));
        let (old, new) = (list(columns_with("t.", columns)), list(columns_with("excluded.", columns)));
        let change = if set.is_empty() {
            "NOTHING".to_owned()
        } else {
            // Images, since equal values may differ in form (1.0 and 1.00), and json and xml have no equality.
            format!("UPDATE SET {set} WHERE record_image_ne(ROW({old}), ROW({new}))")
        };
        format!(
            "INSERT INTO {table} AS t ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM pg_temp.banyan_rows \
             ON CONFLICT ({key}) DO {change}"
        )
    }

    /// The key map says of the batch's keys what the rows do.
    pub(super) fn map_changes(&self, map: &str) -> String {
        let key = list(&self.key);
        let same = equal(&columns_with("m.", &self.key), &columns_with("r.", &self.key));
        format!(
            "DELETE FROM {map} AS m USING pg_temp.banyan_keys AS k WHERE m.source_key = k.source_key AND NOT EXISTS \
             (SELECT FROM pg_temp.banyan_rows AS r WHERE r.source_key = m.source_key AND {same}); \
             INSERT INTO {map} (source_key, {key}) SELECT source_key, {key} FROM pg_temp.banyan_rows ON CONFLICT DO NOTHING"
        )
    }
}
