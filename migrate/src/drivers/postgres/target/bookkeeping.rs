//! The tables in which streams, chunks, holds, notes and what loading took down are kept.
//!
//! Invariant: they belong to the target's database, so that a copy of it, or its restore, has both rows and progress.

use super::super::sql::{list, quote};
use super::{PgTarget, Plan, Stay};
use crate::engine::{Phase, Position, Stream, StreamRow};
use crate::error::MigrateError;

const TABLES: &str = "CREATE SCHEMA IF NOT EXISTS banyan; \
    CREATE TABLE IF NOT EXISTS banyan.streams (name text PRIMARY KEY, pos text NOT NULL, next text NOT NULL, \
      token bigint NOT NULL, phase text NOT NULL, mapping_hash text NOT NULL, fingerprint text NOT NULL) WITH (fillfactor = 50); \
    CREATE TABLE IF NOT EXISTS banyan.chunks (stream text, mapping int, chunk bigint, table_name text NOT NULL, \
      lease bigint NOT NULL, until timestamptz, after text, up_to text, snapshot text, done boolean NOT NULL DEFAULT false, \
      rows bigint, hash bigint, PRIMARY KEY (stream, mapping, chunk)); \
    CREATE INDEX IF NOT EXISTS chunks_open ON banyan.chunks (stream, mapping, chunk) WHERE NOT done; \
    CREATE TABLE IF NOT EXISTS banyan.holds (stream text, name text, position text NOT NULL, until timestamptz NOT NULL, \
      PRIMARY KEY (stream, name)); \
    CREATE TABLE IF NOT EXISTS banyan.notes (stream text, name text, text text NOT NULL, PRIMARY KEY (stream, name)); \
    CREATE TABLE IF NOT EXISTS banyan.taken_down (stream text, number int, kind text NOT NULL, table_name text NOT NULL, \
      build text NOT NULL, PRIMARY KEY (stream, number));";

impl PgTarget {
    pub(super) fn make_bookkeeping(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        let mut sql = String::new();
        for mapping in &stream.mappings {
            let shape = self.shape(&mapping.table)?;
            check_columns(&shape, &mapping.columns)?;
            let plan = Plan::of(&shape, mapping)?;
            if let Some(map) = &plan.key_map {
                let key = list(
                    plan.key.iter().zip(&plan.key_types).map(|(key, of)| format!("{key} {of} NOT NULL")),
                );
                let by_key = list(&plan.key);
                sql += &format!(
                    "CREATE TABLE IF NOT EXISTS {map} (source_key text COLLATE \"C\" NOT NULL, {key}, PRIMARY KEY (source_key, {by_key})); \
                     CREATE INDEX IF NOT EXISTS {} ON {map} ({by_key});",
                    quote(&format!("{}_target", map.trim_start_matches("banyan.").trim_matches('"')))
                );
            }
        }
        // Two processes that begin at once would both find nothing and collide in the catalogue.
        self.transaction("BEGIN; SELECT pg_advisory_xact_lock(7310561482)", |target| {
            target.conn.run(&format!("{TABLES}{sql}")).map(|()| ((), Stay::Yes))
        })
    }

    pub(super) fn read_stream(&mut self, name: &str) -> Result<Option<StreamRow>, MigrateError> {
        let there = self.conn.one("SELECT to_regclass('banyan.streams') IS NOT NULL", &[])?;
        if !there.get::<_, bool>(0) {
            return Ok(None);
        }
        let row = self.conn.maybe(
            "SELECT pos, next, token, phase, mapping_hash, fingerprint FROM banyan.streams WHERE name = $1",
            &[&name],
        )?;
        Ok(row.map(|row| StreamRow {
            pos: Position(row.get(0)),
            next: Position(row.get(1)),
            token: row.get(2),
            phase: if row.get::<_, &str>(3) == "loading" { Phase::Loading } else { Phase::Following },
            mapping_hash: row.get(4),
            fingerprint: row.get(5),
        }))
    }

    pub(super) fn insert_stream(&mut self, name: &str, row: &StreamRow) -> Result<(), MigrateError> {
        let phase = if row.phase == Phase::Loading { "loading" } else { "following" };
        self.conn
            .execute(
                "INSERT INTO banyan.streams VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING",
                &[&name, &row.pos.0, &row.next.0, &row.token, &phase, &row.mapping_hash, &row.fingerprint],
            )
            .map(|_| ())
    }

    pub(super) fn forget(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        if self.read_stream(&stream.name)?.is_some_and(|row| row.phase == Phase::Loading) {
            // What was taken down would be forgotten, too.
            self.build_up(stream)?;
        }
        let mut maps = String::new();
        for mapping in &stream.mappings {
            if let Some(map) = self.plan(mapping)?.key_map {
                maps += &format!("DROP TABLE IF EXISTS {map};");
            }
        }
        let there = self.conn.one("SELECT to_regclass('banyan.streams') IS NOT NULL", &[])?;
        if !there.get::<_, bool>(0) {
            return Ok(());
        }
        self.transaction("BEGIN", |target| {
            target.conn.run(&maps)?;
            for (table, column) in
                [("streams", "name"), ("chunks", "stream"), ("holds", "stream"), ("notes", "stream")]
            {
                target
                    .conn
                    .execute(&format!("DELETE FROM banyan.{table} WHERE {column} = $1"), &[&stream.name])?;
            }
            Ok(((), Stay::Yes))
        })
    }
}

fn check_columns(shape: &super::Shape, columns: &[String]) -> Result<(), MigrateError> {
    match shape.some(columns)?.into_iter().find(|column| column.generated) {
        None => Ok(()),
        Some(column) => Err(MigrateError::refused(
            format!("the target computes {}.{} itself", shape.name, column.name),
            "leave the column out of the mapping; verify the columns it is computed from",
        )),
    }
}
