//! Loading an empty table: without indexes, which are built after.
//!
//! Invariant: what is taken down is written down in the same transaction, and struck out in the transaction that builds it
//! again; so after a crash every index and constraint stands either in the catalogue or in the bookkeeping.

use super::super::rows::PgRows;
use super::super::sql::list;
use super::apply::{begin, refused_value};
use super::{PgTarget, Stay};
use crate::engine::{Batch, Lease, Mapping, Stream};
use crate::error::MigrateError;

/// Tables that are built up side by side.
const SIDE_BY_SIDE: usize = 3;

/// Foreign keys of and to the tables first, then keys, then other indexes; those of partitions that belong to their parent's go
/// with it. An index that identifies rows for logical replication stays.
const DOWN: &str = "WITH RECURSIVE t(oid, top) AS (SELECT oid, oid FROM unnest($1::oid[]) oid \
      UNION ALL SELECT i.inhrelid, t.top FROM pg_inherits i JOIN t ON t.oid = i.inhparent) \
    SELECT kind, tab, down, up FROM ( \
      SELECT 0 AS place, 'foreign key' AS kind, k.conrelid::regclass::text AS tab, k.oid, \
        format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', k.conrelid::regclass, k.conname) AS down, \
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)) AS up \
      FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 \
        AND (k.conrelid IN (SELECT oid FROM t) OR k.confrelid IN (SELECT oid FROM t)) \
      UNION ALL SELECT 1, 'key', k.conrelid::regclass::text, k.oid, \
        format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I', k.conrelid::regclass, k.conname), \
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)) \
      FROM pg_constraint k JOIN pg_index i ON i.indexrelid = k.conindid WHERE k.contype IN ('p', 'u', 'x') AND k.conparentid = 0 \
        AND k.conrelid IN (SELECT oid FROM t) AND NOT i.indisreplident \
      UNION ALL SELECT 2, 'index', i.indrelid::regclass::text, i.indexrelid, \
        format('DROP INDEX IF EXISTS %s', i.indexrelid::regclass), pg_get_indexdef(i.indexrelid) \
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid IN (SELECT oid FROM t) AND NOT c.relispartition \
        AND NOT i.indisreplident AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) \
    ) d ORDER BY place, oid";

impl PgTarget {
    pub(super) fn load_chunk(
        &mut self,
        lease: &Lease,
        mapping: &Mapping,
        batch: &Batch<PgRows>,
    ) -> Result<bool, MigrateError> {
        let plan = self.plan(mapping)?;
        self.transaction(&begin(&lease.stream), |target| {
            if !target.mark_done(lease, &batch.rows)? {
                return Ok((false, Stay::No));
            }
            let columns = list(&plan.columns);
            if plan.fits(&batch.rows) {
                target.conn.copy_in(&format!("{} ({columns})", plan.table), &batch.rows)?;
                return Ok((true, Stay::Yes));
            }
            target.stage_rows(&plan, &batch.rows)?;
            let insert = format!(
                "INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM pg_temp.banyan_rows",
                plan.table
            );
            target.conn.try_execute(&insert).map_err(|error| refused_value(target, &plan, error))?;
            if let Some(map) = &plan.key_map {
                target.stage_keys("banyan_keys", &plan, &batch.keys)?;
                target.conn.run(&plan.map_changes(map))?;
            }
            Ok((true, Stay::Yes))
        })
    }

    pub(super) fn take_down(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let mut tables = Vec::new();
        for mapping in &stream.mappings {
            tables.push(self.shape(&mapping.table)?.oid);
        }
        self.transaction(&locked(stream), |target| {
            let loading = target.conn.maybe(
                "SELECT 1 FROM banyan.streams WHERE name = $1 AND phase = 'loading' FOR UPDATE",
                &[&stream.name],
            )?;
            if loading.is_none() {
                return Ok(((), Stay::No));
            }
            for row in target.conn.query(DOWN, &[&tables])? {
                let (kind, table, down, up): (String, String, String, String) =
                    (row.get(0), row.get(1), row.get(2), row.get(3));
                target.conn.execute(
                    "INSERT INTO banyan.taken_down SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4 \
                     FROM banyan.taken_down WHERE stream = $1",
                    &[&stream.name, &kind, &table, &up],
                )?;
                target.conn.run(&down)?;
            }
            Ok(((), Stay::Yes))
        })
    }

    pub(super) fn build_up(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        // Only one process builds; the lock is of the session, since each thing is built in a transaction of its own.
        self.conn.run(&format!("SELECT pg_advisory_lock({})", lock_number(stream)))?;
        let built = self.build_all(stream);
        let unlocked = self.conn.run(&format!("SELECT pg_advisory_unlock({})", lock_number(stream)));
        built?;
        unlocked
    }

    fn build_all(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let rows = self.conn.query(
            "SELECT table_name, array_agg(number ORDER BY number) FROM banyan.taken_down \
             WHERE stream = $1 AND kind <> 'foreign key' GROUP BY table_name",
            &[&stream.name],
        )?;
        let tables: Vec<Vec<i32>> = rows.iter().map(|row| row.get(1)).collect();
        let address = self.conn.address().clone();
        for some in tables.chunks(SIDE_BY_SIDE) {
            std::thread::scope(|scope| {
                let build = |numbers: &Vec<i32>| {
                    let (numbers, address) = (numbers.clone(), address.clone());
                    scope.spawn(move || build_numbers(&address, stream, &numbers))
                };
                let builders: Vec<_> = some.iter().map(build).collect();
                builders.into_iter().try_for_each(|builder| {
                    builder.join().map_err(|_| MigrateError::failed("building an index ended early"))?
                })
            })?;
        }
        let rows = self.conn.query(
            "SELECT number FROM banyan.taken_down WHERE stream = $1 ORDER BY number",
            &[&stream.name],
        )?;
        let foreign: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        build_numbers(&address, stream, &foreign)?;
        for mapping in &stream.mappings {
            let table = self.shape(&mapping.table)?.name;
            self.conn.run(&format!("ANALYZE {table}"))?;
        }
        self.conn
            .execute(
                "UPDATE banyan.streams SET phase = 'following' WHERE name = $1 AND phase = 'loading'",
                &[&stream.name],
            )
            .map(|_| ())
    }
}

fn lock_number(stream: &Stream) -> i64 {
    twox_hash::XxHash3_64::oneshot(format!("banyan loading {}", stream.name).as_bytes()).cast_signed()
}

fn locked(stream: &Stream) -> String {
    format!("BEGIN; SELECT pg_advisory_xact_lock({})", lock_number(stream))
}

/// Builds what some numbers of the bookkeeping say, each in a transaction that strikes it out.
fn build_numbers(address: &super::Address, stream: &Stream, numbers: &[i32]) -> Result<(), MigrateError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let mut conn = address.connect()?;
    conn.run("SET statement_timeout = 0; SET maintenance_work_mem = '512MB'")?;
    for number in numbers {
        conn.run("BEGIN")?;
        let row = conn.maybe(
            "DELETE FROM banyan.taken_down WHERE stream = $1 AND number = $2 RETURNING build",
            &[&stream.name, number],
        )?;
        if let Some(row) = row {
            conn.run(&row.get::<_, String>(0))?;
        }
        conn.run("COMMIT")?;
    }
    Ok(())
}
