//! The reading end.
//!
//! Invariant: between `begin` and `end` everything is read in one REPEATABLE READ snapshot, which was taken behind the locks
//! that keep the schema as it is; the keys of a batch are staged in temporary tables that end with it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::connection::{Connection, Place};
use super::load;
use super::log::{self, Span};
use super::position::{IDENTITY, Seen};
use super::reads::Reads;
use super::rows::CopyRows;
use super::shape::{Shape, Shapes};
use super::{bound, capture, fingerprint, privileges, sql};
use crate::engine::driver::{CaptureState, TableShape};
use crate::engine::{
    Batch, Bound, Bounded, Dirty, Joining, KeyRange, Mapping, Position, Rows as _, Source, Stream, TooMuch,
    Touched,
};
use crate::error::MigrateError;

/// The planner knows nothing of how many keys are staged; these make it find rows by index wherever there is one, and leave it
/// the hash join where there is none.
const FEW_KEYS: &str =
    "SET LOCAL seq_page_cost = 100; SET LOCAL random_page_cost = 0.1; SET LOCAL enable_mergejoin = off";

/// A connection to the source.
pub struct PostgresSource {
    pub(super) connection: Connection,
    /// Writes the heartbeats, which must commit while the snapshot is open.
    heart: Option<Connection>,
    pub(super) shapes: Arc<Shapes>,
    /// The stream of the last `begin`.
    stream: Option<Stream>,
    /// The position of the open snapshot.
    open: Option<Position>,
    in_transaction: bool,
    /// What the role lacks was asked for.
    permitted: bool,
    /// How many keys are staged, by the mapping's tag.
    staged: HashMap<String, u64>,
    /// Staging tables with an index over their keys.
    indexed: HashSet<String>,
}

impl PostgresSource {
    pub(super) fn open(place: &Arc<Place>, shapes: &Arc<Shapes>) -> Result<Self, MigrateError> {
        Ok(Self {
            connection: place.open("reads")?,
            heart: None,
            shapes: Arc::clone(shapes),
            stream: None,
            open: None,
            in_transaction: false,
            permitted: false,
            staged: HashMap::new(),
            indexed: HashSet::new(),
        })
    }

    /// Asked once per connection: a run may have another role than the one that installed capture.
    fn needs_permission(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        if !self.permitted {
            privileges::check_reader(&mut self.connection, stream)?;
            self.permitted = true;
        }
        Ok(())
    }

    /// A mapping may not fit because a table was altered meanwhile, which is told instead.
    fn look_up(&mut self, stream: &Stream, expected: Option<&str>) -> Result<(), MigrateError> {
        let found = self.shapes.all(&stream.mappings);
        if let (Err(MigrateError::Refused { .. } | MigrateError::Usage(_)), Some(expected)) =
            (&found, expected)
        {
            fingerprint::compare(&mut self.connection, stream, expected)?;
        }
        found.map(drop)
    }

    /// The log rows that a condition picks.
    pub(super) fn span(&self, condition: String) -> Result<Span<'_>, MigrateError> {
        let stream = self.stream.as_ref();
        let stream = stream.ok_or_else(|| MigrateError::failed("the log was asked for before a snapshot"))?;
        Ok(Span { stream, condition })
    }

    /// A condition on `l.xid`: not seen by `since`, which must be of this server.
    pub(super) fn not_seen(&mut self, since: &Position) -> Result<String, MigrateError> {
        let since = Seen::parse(since)?;
        let identity = match &self.open {
            Some(open) => Seen::parse(open)?.identity,
            None => self.connection.text(&format!("SELECT {IDENTITY}"))?.unwrap_or_default(),
        };
        since.same_server(&identity)?;
        Ok(since.not_seen("l.xid"))
    }

    /// A condition on the key `m`: the root holds it, or it has a log row that `since` did not see.
    fn accounted_for(
        &mut self,
        mapping: &Mapping,
        shape: &Shape,
        since: &Position,
    ) -> Result<String, MigrateError> {
        let condition = self.not_seen(since)?;
        let span = self.span(condition)?;
        let (whole, logged) = (span.whole(mapping), span.keys(mapping, shape)?);
        let types = shape.root_types.iter().enumerate();
        let key: Vec<String> = types.map(|(at, kind)| format!("m.k{at}::{}", kind.name)).collect();
        let held = shape.root_key.iter().zip(&key).map(|(column, key)| format!("root.{column} = {key}"));
        let (held, key) = (held.collect::<Vec<_>>().join(" AND "), key.join(", "));
        let root = &shape.root;
        Ok(format!("EXISTS (SELECT FROM {root} root WHERE {held}) OR ({whole}) OR ({key}) IN ({logged})"))
    }

    /// An empty table for the mapping's keys, of the root's types.
    fn empty_stage(&mut self, shape: &Shape) -> Result<String, MigrateError> {
        let table = format!("pg_temp.staged_{}", shape.tag);
        let columns = shape.root_types.iter().enumerate().map(|(at, kind)| format!("k{at} {}", kind.name));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let tag = &shape.tag;
        self.connection.run(&format!(
            "CREATE TEMP TABLE IF NOT EXISTS staged_{tag} (n bigint PRIMARY KEY, {columns}) ON COMMIT DELETE ROWS; \
             DROP INDEX IF EXISTS pg_temp.staged_{tag}_key"
        ))?;
        if self.staged.insert(tag.clone(), 0).is_some() {
            self.connection.run(&format!("TRUNCATE {table}"))?;
        }
        self.indexed.remove(tag);
        Ok(table)
    }

    /// Puts keys in wire form into a table of the given name.
    pub(super) fn give(
        &mut self,
        shape: &Shape,
        name: &str,
        keys: &CopyRows,
    ) -> Result<String, MigrateError> {
        let columns = shape.key_types.iter().enumerate().map(|(at, kind)| format!("k{at} {}", kind.wire()));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let table = format!("{name}_{}", shape.tag);
        self.connection.run(&format!(
            "CREATE TEMP TABLE IF NOT EXISTS {table} ({columns}) ON COMMIT DELETE ROWS; TRUNCATE pg_temp.{table}"
        ))?;
        let table = format!("pg_temp.{table}");
        self.connection.copy_in(&table, keys)?;
        Ok(table)
    }

    /// The keys of a select of `k0, …` of the root's types, and their rows.
    fn batch(
        &mut self,
        mapping: &Mapping,
        shape: &Shape,
        keys: &str,
    ) -> Result<Batch<CopyRows>, MigrateError> {
        let all = self.batch_up_to(mapping, shape, keys, u64::MAX)?;
        all.map_err(|TooMuch { rows }| MigrateError::failed(format!("more than {rows} rows do not fit")))
    }

    fn batch_up_to(
        &mut self,
        mapping: &Mapping,
        shape: &Shape,
        keys: &str,
        most: u64,
    ) -> Result<Bounded<CopyRows>, MigrateError> {
        let places: Vec<String> = (0..shape.root_key.len()).map(|at| format!("q.k{at}")).collect();
        let on_wire = shape.root_key_on_wire(&places);
        let picked = self.connection.copy_out(&format!("SELECT {on_wire} FROM ({keys}) q"))?;
        let select = shape.select(mapping, |columns| format!("({columns}) IN ({keys})"))?;
        let columns = shape.columns_on_wire(mapping);
        let rows = self.connection.copy_out_up_to(&format!("SELECT {columns} FROM {select}"), most)?;
        Ok(rows.map(|rows| Batch { keys: picked, rows }))
    }

    fn given(&self, shape: &Shape, table: &str) -> String {
        let casts = shape.root_types.iter().enumerate();
        let columns: Vec<String> =
            casts.map(|(at, kind)| format!("g.k{at}::{} AS k{at}", kind.name)).collect();
        format!("SELECT {} FROM {table} g", columns.join(", "))
    }
}

impl Source for PostgresSource {
    type Rows = CopyRows;

    fn install_capture(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        privileges::check_source(&mut self.connection, stream)?;
        self.shapes.all(&stream.mappings)?;
        for mapping in &stream.mappings {
            Reads::of(&mut self.connection, mapping)?.check(mapping)?;
        }
        capture::install(&mut self.connection, stream)
    }

    fn bound_log(&mut self, stream: &Stream, rows: u64) -> Result<(), MigrateError> {
        bound::set(&mut self.connection, stream, rows)
    }

    fn remove_capture(&mut self, stream: &Stream) -> Result<(), MigrateError> {
        capture::remove(&mut self.connection, stream)
    }

    fn begin(&mut self, stream: &Stream, expected: Option<&str>) -> Result<Position, MigrateError> {
        self.end()?;
        self.needs_permission(stream)?;
        if expected.is_none() {
            self.shapes.forget();
        }
        self.look_up(stream, expected)?;
        if expected.is_none() {
            for mapping in &stream.mappings {
                Reads::of(&mut self.connection, mapping)?.check(mapping)?;
            }
        }
        let captured = stream.captured();
        let tables: Vec<&str> = captured.iter().map(|(table, _)| table.as_str()).collect();
        let tables = self.connection.all_qualified(&tables)?;
        self.stream = Some(stream.clone());
        // LOCK takes no snapshot; the SELECT behind it takes the transaction's.
        self.in_transaction = true;
        let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", tables.join(", "));
        let taken = self.connection.text(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; {lock}; \
             SELECT {IDENTITY} || ' ' || pg_current_snapshot()::text"
        ));
        let position = Position(taken?.unwrap_or_default());
        self.open = Some(position.clone());
        self.connection.run(FEW_KEYS)?;
        if let Some(expected) = expected {
            fingerprint::compare(&mut self.connection, stream, expected)?;
        }
        Ok(position)
    }

    fn fingerprint(&mut self, stream: &Stream) -> Result<String, MigrateError> {
        fingerprint::read(&mut self.connection, stream)
    }

    fn persist_snapshot(&mut self) -> Result<(), MigrateError> {
        if self.heart.is_none() {
            self.heart = Some(self.connection.place.open("heartbeat")?);
        }
        let Some(heart) = self.heart.as_mut() else { return Ok(()) };
        // Sessions commit synchronously, so this commit's record, and with it all earlier ones, is on the disk when it returns.
        heart.run(
            "INSERT INTO banyan.heartbeat VALUES (pg_backend_pid() % 16, clock_timestamp()) \
             ON CONFLICT (worker) DO UPDATE SET at = clock_timestamp()",
        )?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), MigrateError> {
        self.staged.clear();
        self.open = None;
        if std::mem::take(&mut self.in_transaction) {
            // After an error this rolls back.
            self.connection.run("COMMIT")?;
        }
        Ok(())
    }

    fn check_position(&mut self, position: &Position) -> Result<(), MigrateError> {
        self.not_seen(position).map(drop)
    }

    fn covers(&self, later: &Position, earlier: &Position) -> Result<bool, MigrateError> {
        Seen::parse(later)?.covers(&Seen::parse(earlier)?)
    }

    fn stage_dirty(&mut self, mapping: &Mapping, since: &Position) -> Result<Dirty, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let condition = self.not_seen(since)?;
        let table = self.empty_stage(&shape)?;
        let span = self.span(condition)?;
        let (whole, select) = (span.whole(mapping), span.keys(mapping, &shape)?);
        let whole = self.connection.holds(&whole)?;
        let names = sql::numbered("k", shape.root_key.len());
        let keys = self.connection.run(&format!(
            "INSERT INTO {table} SELECT row_number() OVER (ORDER BY {names}), {names} FROM ({select}) d"
        ))?;
        self.staged.insert(shape.tag.clone(), keys);
        Ok(Dirty { keys, whole })
    }

    fn stage_all(&mut self, mapping: &Mapping) -> Result<(), MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let table = self.empty_stage(&shape)?;
        let key = shape.root_key.join(", ");
        let keys = self.connection.run(&format!(
            "INSERT INTO {table} SELECT row_number() OVER (ORDER BY {key}), {key} FROM {}",
            shape.root
        ))?;
        self.staged.insert(shape.tag.clone(), keys);
        Ok(())
    }

    fn stage(&mut self, mapping: &Mapping, keys: &CopyRows) -> Result<(), MigrateError> {
        if keys.is_empty() {
            return Ok(());
        }
        let shape = self.shapes.of(mapping)?;
        let given = self.give(&shape, "given", keys)?;
        let (tag, names) = (&shape.tag, sql::numbered("k", shape.root_key.len()));
        if self.indexed.insert(tag.clone()) {
            self.connection
                .run(&format!("CREATE INDEX staged_{tag}_key ON pg_temp.staged_{tag} ({names})"))?;
        }
        let (known, given) = (self.staged.get(tag).copied().unwrap_or(0), self.given(&shape, &given));
        let same = same_key("s", "d", shape.root_key.len());
        let more = self.connection.run(&format!(
            "INSERT INTO pg_temp.staged_{tag} SELECT {known} + row_number() OVER (ORDER BY {names}), {names} \
             FROM (SELECT DISTINCT * FROM ({given}) g) d \
             WHERE NOT EXISTS (SELECT FROM pg_temp.staged_{tag} s WHERE {same})"
        ))?;
        self.staged.insert(tag.clone(), known + more);
        Ok(())
    }

    fn piece(
        &mut self,
        mapping: &Mapping,
        from: u64,
        size: u32,
        most: u64,
    ) -> Result<Option<Bounded<CopyRows>>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        if from >= self.staged.get(&shape.tag).copied().unwrap_or(0) {
            return Ok(None);
        }
        let (tag, names) = (&shape.tag, sql::numbered("s.k", shape.root_key.len()));
        let to = from + u64::from(size);
        let keys = format!("SELECT {names} FROM pg_temp.staged_{tag} s WHERE s.n > {from} AND s.n <= {to}");
        self.batch_up_to(mapping, &shape, &keys, most).map(Some)
    }

    fn widen(
        &mut self,
        mapping: &Mapping,
        batch: &Batch<CopyRows>,
        more: &CopyRows,
        joining: Joining<'_>,
    ) -> Result<Option<Batch<CopyRows>>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let joins = match joining {
            Joining::AccountedFor(since) => self.accounted_for(mapping, &shape, since)?,
            Joining::All => "TRUE".to_owned(),
        };
        let given = self.give(&shape, "given", &batch.keys)?;
        let more = self.give(&shape, "more", more)?;
        let count = shape.root_key.len();
        let added = self.connection.run(&format!(
            "INSERT INTO {given} SELECT {} FROM (SELECT DISTINCT * FROM {more}) m \
             WHERE NOT EXISTS (SELECT FROM {given} g WHERE {}) AND ({joins})",
            sql::numbered("m.k", count),
            same_key("g", "m", count),
        ))?;
        if added == 0 {
            return Ok(None);
        }
        let keys = self.given(&shape, &given);
        self.batch(mapping, &shape, &keys).map(Some)
    }

    fn range_end(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let key = shape.root_key.join(", ");
        let within = sql::within(&key, &shape.root_casts(), range)?;
        let places: Vec<String> = (0..shape.root_key.len()).map(|at| format!("q.k{at}")).collect();
        // In a select of its own, or every row that is passed over would be made a bound, too.
        let end = self.connection.text(&format!(
            "SELECT {} FROM (SELECT {key} FROM {} WHERE {within} ORDER BY {key} OFFSET {} LIMIT 1) q({})",
            shape.bound(&places),
            shape.root,
            rows.saturating_sub(1),
            sql::numbered("k", shape.root_key.len())
        ))?;
        Ok(end.map(Bound))
    }

    fn range(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<CopyRows>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let casts = shape.root_casts();
        let within = sql::within(&shape.root_key.join(", "), &casts, range)?;
        let keys = shape.root_key_on_wire(&shape.root_key);
        let keys = self.connection.copy_out(&format!("SELECT {keys} FROM {} WHERE {within}", shape.root))?;
        Ok(self.range_to_load(mapping, range, most)?.map(|batch| Batch { keys, ..batch }))
    }

    fn range_to_load(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<CopyRows>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let casts = shape.root_casts();
        sql::within("", &casts, range)?;
        let columns = shape.columns_on_wire(mapping);
        let select =
            shape.select(mapping, |columns| sql::within(columns, &casts, range).unwrap_or_default())?;
        let rows = self.connection.copy_out_up_to(&format!("SELECT {columns} FROM {select}"), most)?;
        Ok(rows.map(|rows| Batch { keys: CopyRows::default(), rows }))
    }

    fn rows_of(&mut self, mapping: &Mapping, keys: &CopyRows) -> Result<Batch<CopyRows>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let given = self.give(&shape, "given", keys)?;
        let keys = self.given(&shape, &given);
        self.batch(mapping, &shape, &keys)
    }

    fn estimate(&mut self, mapping: &Mapping) -> Result<u64, MigrateError> {
        let root = self.connection.qualified(&mapping.root)?;
        self.connection.number(&format!(
            "WITH RECURSIVE {} SELECT coalesce(sum(CASE WHEN c.reltuples > 0 THEN c.reltuples \
               ELSE pg_relation_size(c.oid) / 100 END)::bigint, 0) \
             FROM tree JOIN pg_class c ON c.oid = tree.oid WHERE c.relkind = 'r'",
            fingerprint::tree(&[root])
        ))
    }

    fn touched(
        &mut self,
        mapping: &Mapping,
        seen: &Position,
        unseen: &Position,
    ) -> Result<Touched<CopyRows>, MigrateError> {
        let shape = self.shapes.of(mapping)?;
        let condition = format!("{} AND {}", self.not_seen(unseen)?, Seen::parse(seen)?.seen("l.xid"));
        let span = self.span(condition)?;
        let (whole, keys) = (span.whole(mapping), span.keys(mapping, &shape)?);
        if self.connection.holds(&whole)? {
            return Ok(Touched::Whole);
        }
        let places: Vec<String> = (0..shape.root_key.len()).map(|at| format!("q.k{at}")).collect();
        let on_wire = shape.root_key_on_wire(&places);
        Ok(Touched::Keys(self.connection.copy_out(&format!("SELECT {on_wire} FROM ({keys}) q"))?))
    }

    fn prune(&mut self, stream: &Stream, seen_by: &[Position]) -> Result<u64, MigrateError> {
        log::prune(&mut self.connection, stream, seen_by)
    }

    fn log_size(&mut self, stream: &Stream) -> Result<(u64, u64), MigrateError> {
        log::size(&mut self.connection, stream)
    }

    fn capture_state(&mut self, stream: &Stream) -> Result<CaptureState, MigrateError> {
        self.needs_permission(stream)?;
        capture::state(&mut self.connection, stream)
    }

    fn measure(&mut self, query: &str) -> Result<f64, MigrateError> {
        load::measure(&mut self.connection, query)
    }

    fn describe(&mut self) -> Result<Vec<TableShape>, MigrateError> {
        super::catalog::describe(&mut self.connection)
    }
}

/// Two rows have one key.
pub(super) fn same_key(one: &str, other: &str, columns: usize) -> String {
    let each: Vec<String> = (0..columns).map(|at| format!("{one}.k{at} = {other}.k{at}")).collect();
    each.join(" AND ")
}
