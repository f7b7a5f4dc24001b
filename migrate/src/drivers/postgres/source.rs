//! The reading end.
//!
//! Invariant: between begin and end there is one REPEATABLE READ transaction, whose locks were taken before its snapshot; what
//! is staged lives in temporary tables of that transaction.

mod dirty;
mod reading;

pub(super) use reading::{bound_of, bound_texts, within};

use std::collections::HashMap;

use super::capture::{self, Captured};
use super::connection::{Address, Connection};
use super::fingerprint;
use super::position::{self, Seen};
use super::rows::PgRows;
use super::shape::Shape;
use super::sql::list;
use crate::engine::{
    Batch, Bound, CaptureState, ColumnShape, Dirty, KeyRange, Mapping, Position, Source, Stream, TableShape,
    Touched,
};
use crate::error::MigrateError;

/// The reading end.
pub struct PgSource {
    pub(super) conn: Connection,
    /// Commits beside the open snapshot.
    beside: Option<Connection>,
    /// Where verification compares with.
    pub(super) peer: super::peer::Peer,
    open: Option<Open>,
    /// What the open stream's selects yield, by select; as long as the fingerprint stays the same.
    types: HashMap<String, Vec<u32>>,
    known: Option<Known>,
}

struct Open {
    stream: String,
}

/// What the catalogue said of a stream, and the fingerprint under which it said so.
struct Known {
    stream: Stream,
    captured: Vec<Captured>,
    fingerprint: String,
}

impl std::fmt::Debug for PgSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgSource").finish_non_exhaustive()
    }
}

impl PgSource {
    pub(super) fn connect(address: &Address, peer: super::peer::Peer) -> Result<Self, MigrateError> {
        let conn = address.connect()?;
        Ok(Self { conn, beside: None, peer, open: None, types: HashMap::new(), known: None })
    }

    fn begin_open(&mut self, stream: &Stream, expected: Option<&str>) -> Result<Position, MigrateError> {
        let mut names = Vec::new();
        for captured in self.captured(stream)? {
            names.extend([captured.shape.name.clone(), captured.log.clone()]);
        }
        // Locks take no snapshot: the first query after them does.
        let lock =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE {} IN ACCESS SHARE MODE", list(names));
        let locked = self.conn.run(&lock);
        self.open = Some(Open { stream: stream.name.clone() });
        locked.map_err(|error| gone(error, stream))?;
        let position = position::current(&mut self.conn)?.position();
        let captured = Captured::all(&mut self.conn, stream)?;
        let found = fingerprint::fingerprint(&mut self.conn, &captured)?;
        if let Some(expected) = expected {
            fingerprint::compare(stream, expected, &found)?;
        }
        if self.known.as_ref().is_none_or(|known| known.fingerprint != found || known.stream != *stream) {
            self.types.clear();
        }
        self.known = Some(Known { stream: stream.clone(), captured, fingerprint: found });
        Ok(position)
    }

    fn captured(&mut self, stream: &Stream) -> Result<Vec<Captured>, MigrateError> {
        match &self.known {
            Some(known) if known.stream == *stream => Ok(known.captured.clone()),
            _ => Captured::all(&mut self.conn, stream),
        }
    }
}

/// A table that is gone is a change of the schema like any other.
fn gone(error: MigrateError, stream: &Stream) -> MigrateError {
    match error {
        MigrateError::Failed { message, .. } => MigrateError::refused(
            format!("a table of the stream {}, or its log, is gone: {message}", stream.name),
            "install capture again and begin a new backfill",
        ),
        error => error,
    }
}

impl Source for PgSource {
    type Rows = PgRows;

    fn install_capture(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.known = None;
        capture::install(&mut self.conn, stream)
    }

    fn remove_capture(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        self.known = None;
        capture::remove(&mut self.conn, stream)
    }

    fn begin(&mut self, stream: &Stream, expected: Option<&str>) -> Result<Position, MigrateError> {
        self.end()?;
        let begun = self.begin_open(stream, expected);
        if begun.is_err() {
            self.known = None;
            let _ = self.end();
        }
        begun
    }

    fn fingerprint(&mut self, stream: &Stream) -> Result<String, MigrateError> {
        if let Some(known) =
            self.known.as_ref().filter(|known| self.open.is_some() && known.stream == *stream)
        {
            return Ok(known.fingerprint.clone());
        }
        let captured = Captured::all(&mut self.conn, stream)?;
        fingerprint::fingerprint(&mut self.conn, &captured)
    }

    fn persist_snapshot(&mut self) -> Result<(), MigrateError> {
        let stream = self.open.as_ref().map_or("", |open| open.stream.as_str());
        let beside = match &mut self.beside {
            Some(beside) => beside,
            none => none.insert(self.conn.address().connect()?),
        };
        let beat = beside.execute(
            "INSERT INTO banyan.heartbeat VALUES ($1, 1) ON CONFLICT (stream) DO UPDATE SET beats = heartbeat.beats + 1",
            &[&stream],
        );
        if beat.is_err() {
            self.beside = None;
        }
        beat.map(|_| ())
    }

    fn end(&mut self) -> Result<(), MigrateError> {
        if self.open.take().is_some() {
            self.conn.run("ROLLBACK")?;
        }
        Ok(())
    }

    fn covers(&self, later: &Position, earlier: &Position) -> Result<bool, MigrateError> {
        Seen::parse(later)?.covers(&Seen::parse(earlier)?)
    }

    fn stage_dirty(&mut self, mapping: &Mapping, since: &Position) -> Result<Dirty, MigrateError> {
        self.stage_new(mapping, &Seen::parse(since)?)
    }

    fn stage_all(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        self.stage_root(mapping)
    }

    fn stage(&mut self, mapping: &Mapping, keys: &PgRows) -> Result<(), MigrateError> {
        self.stage_more(mapping, keys)
    }

    fn piece(
        &mut self,
        mapping: &Mapping,
        from: u64,
        size: u32,
    ) -> Result<Option<Batch<PgRows>>, MigrateError> {
        self.read_piece(mapping, from, size)
    }

    fn widen(
        &mut self,
        mapping: &Mapping,
        batch: &Batch<PgRows>,
        more: &PgRows,
    ) -> Result<Option<Batch<PgRows>>, MigrateError> {
        self.read_wider(mapping, batch, more)
    }

    fn range_end(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError> {
        self.read_range_end(mapping, after, rows)
    }

    fn range(&mut self, mapping: &Mapping, range: &KeyRange) -> Result<Batch<PgRows>, MigrateError> {
        self.read_range(mapping, range)
    }

    fn rows_of(&mut self, mapping: &Mapping, keys: &PgRows) -> Result<Batch<PgRows>, MigrateError> {
        self.read_rows_of(mapping, keys)
    }

    fn estimate(&mut self, mapping: &Mapping) -> Result<u64, MigrateError> {
        let shape = Shape::read(&mut self.conn, &mapping.root)?;
        let members: Vec<u32> = shape.members.iter().map(|member| member.oid).collect();
        // A table never analysed says -1; its size says how many rows of 100 bytes would fill it.
        let row = self.conn.one(
            "SELECT coalesce(sum(CASE WHEN reltuples >= 0 AND relpages > 0 THEN reltuples ELSE pg_relation_size(oid) / 100 END), 0)::int8 \
             FROM pg_class WHERE oid = ANY($1) AND relkind = 'r'",
            &[&members],
        )?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    fn touched(
        &mut self,
        mapping: &Mapping,
        seen: &Position,
        unseen: &Position,
    ) -> Result<Touched<PgRows>, MigrateError> {
        let (seen, unseen) = (Seen::parse(seen)?, Seen::parse(unseen)?);
        seen.same_server(&unseen)?;
        self.read_touched(mapping, &seen, &unseen)
    }

    fn prune(&mut self, stream: &Stream, seen_by: &[Position]) -> Result<u64, MigrateError> {
        self.remove_seen(stream, seen_by)
    }

    fn log_size(&mut self, stream: &Stream) -> Result<(u64, u64), MigrateError> {
        let (mut rows, mut bytes) = (0_i64, 0_i64);
        for captured in self.captured(stream)? {
            let row = self.conn.one(
                "SELECT coalesce((SELECT n_live_tup FROM pg_stat_user_tables WHERE relid = to_regclass($1)), 0), \
                 coalesce(pg_total_relation_size(to_regclass($1)), 0)",
                &[&captured.log],
            )?;
            (rows, bytes) = (rows + row.get::<_, i64>(0), bytes + row.get::<_, i64>(1));
        }
        Ok((u64::try_from(rows).unwrap_or(0), u64::try_from(bytes).unwrap_or(0)))
    }

    fn capture_state(&mut self, stream: &Stream) -> Result<CaptureState, MigrateError> {
        let mut whole = CaptureState::default();
        for captured in Captured::all(&mut self.conn, stream)? {
            let state = captured.state(&mut self.conn)?;
            whole.installed |= state.installed;
            whole.faults.extend(state.faults);
        }
        if !whole.installed {
            whole.faults.clear();
        }
        Ok(whole)
    }

    fn measure(&mut self, query: &str) -> Result<f64, MigrateError> {
        let query = query.trim().trim_end_matches(';');
        let row = self.conn.one(&format!("SELECT ({query})::float8"), &[])?;
        Ok(row.get::<_, Option<f64>>(0).unwrap_or(0.0))
    }

    fn describe(&mut self) -> Result<Vec<TableShape>, MigrateError> {
        let names = self.conn.query(TABLES, &[])?;
        names.iter().map(|row| self.table(row.get(0))).collect()
    }
}

/// Ordered by how many tables stand before each on the way along foreign keys.
const TABLES: &str = "WITH RECURSIVE t AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'banyan') \
      AND n.nspname NOT LIKE 'pg\\_%'), \
    d(oid, depth) AS (SELECT oid, 0 FROM t UNION SELECT f.conrelid, d.depth + 1 FROM d JOIN pg_constraint f ON f.contype = 'f' \
      AND f.confrelid = d.oid AND f.conrelid <> d.oid WHERE d.depth < 50) \
    SELECT d.oid::regclass::text FROM d JOIN t USING (oid) GROUP BY d.oid ORDER BY max(depth), 1";

impl PgSource {
    fn table(&mut self, name: String) -> Result<TableShape, MigrateError> {
        let shape = Shape::read(&mut self.conn, &name)?;
        let columns = shape.columns.iter().map(|column| ColumnShape {
            name: column.name.clone(),
            declared: column.declared.clone(),
            generated: column.generated,
        });
        let not_null = |name: &String| shape.column(name).is_ok_and(|column| column.not_null);
        let key = shape.unique.iter().find(|unique| unique.iter().all(not_null));
        Ok(TableShape { columns: columns.collect(), key: key.cloned().unwrap_or_default(), name })
    }
}
