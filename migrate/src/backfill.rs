//! `migrate backfill`: copies the owner's rows to the other side while the application goes on writing.
//!
//! 1. *Tombstones*: what the owner removed is removed, so that stale rows hold no unique values.
//! 2. *Ranges*: chunk by chunk in key order, each one transaction on the filled side that holds rows and progress.
//!    A chunk also copies every key whose image still waits at the owner (`sqlite/copy.rs` says why).
//! 3. *Leftovers*: keys that were refused on the way are tried once more beside everything that still waits. What is
//!    refused then collides in the owner's own snapshot: waiting would not help, and both rows are reported.
//!
//! Invariant: at every commit, each key of the ranges done stands as in a snapshot of the owner or newer, or it has
//! an image waiting. Killed at any point, the next run goes on behind the last commit.

mod gates;
mod report;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use gates::foreign_rows;
pub use report::{BackfillReport, RefusedKey};

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::Flow;
use crate::meter::{Meter, rate};
use crate::sqlite::{Copied, Deferred, Job, KeyRange, Pair, Progress, show};

/// Tombstones per transaction.
const TOMBSTONES: u32 = 5_000;
/// See [`BackfillOptions::give_way`].
const GIVE_WAY: Duration = Duration::from_millis(20);

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct BackfillOptions {
    /// Keys per transaction.
    pub chunk_rows: u32,
    /// Pause after each chunk.
    pub throttle: Duration,
    /// Pause after a chunk while images wait: SQLite's lock is not fair, and a writer that sleeps between two tries
    /// would else find it taken for long.
    pub give_way: Duration,
    /// Write every row anew, also where the versions agree, and remove what the owner does not have.
    pub again: bool,
    /// Stop after that many chunks; the next run goes on from there.
    pub max_chunks: Option<u64>,
}

impl Default for BackfillOptions {
    fn default() -> Self {
        Self {
            chunk_rows: 1_000,
            throttle: Duration::ZERO,
            give_way: GIVE_WAY,
            again: false,
            max_chunks: None,
        }
    }
}

/// Copies from the owner to the other side, from where an earlier run stopped.
pub fn run(
    extraction: &Extraction,
    options: BackfillOptions,
    meter: &mut Meter,
) -> Result<BackfillReport, MigrateError> {
    let mut backfill = Backfill::prepare(extraction, options)?;
    let report = backfill.copy_all(meter)?;
    if report.done {
        let rows = backfill.progress.rows;
        extraction.store.record_backfill(extraction.context(), rows)?;
    }
    Ok(report)
}

struct Backfill<'a> {
    extraction: &'a Extraction,
    options: BackfillOptions,
    flow: Flow,
    pair: Pair,
    job: Job<'a>,
    progress: Progress,
    resumed: bool,
    /// Images up to this version were copied by this run.
    synced: i64,
    total: Copied,
    chunks: u64,
}

impl<'a> Backfill<'a> {
    fn prepare(extraction: &'a Extraction, options: BackfillOptions) -> Result<Self, MigrateError> {
        if options.chunk_rows == 0 {
            return Err(MigrateError::Usage("--chunk-rows must be at least 1".to_owned()));
        }
        let flow = extraction.settled_flow()?;
        let pair = Pair::writing(&extraction.files, flow.to)?;
        extraction.needs_fitting_mapping(&pair)?;
        let manifest = &extraction.manifest;
        let root = manifest.tables(flow.from);
        let kind = pair.key_kind(flow.from, &root.root, &root.key)?;
        gates::needs_dual_write(extraction, &pair, flow)?;
        gates::needs_our_target(extraction, &pair, flow)?;
        gates::needs_quiet_target(extraction, &pair, flow)?;
        let (progress, resumed) = pair.write(|pair| begin(extraction, pair, flow, options.again))?;
        let job = Job { manifest, flow, kind };
        let total = Copied::default();
        Ok(Self { extraction, options, flow, pair, job, progress, resumed, synced: 0, total, chunks: 0 })
    }

    fn copy_all(&mut self, meter: &mut Meter) -> Result<BackfillReport, MigrateError> {
        let began = Instant::now();
        meter.begin(unsigned(self.progress.rows), unsigned(self.progress.expected));
        self.copy_tombstones()?;
        let mut ranges_left = true;
        while ranges_left && self.options.max_chunks.is_none_or(|most| self.chunks < most) {
            ranges_left = self.copy_chunk()?;
            meter.advance(unsigned(self.progress.rows));
        }
        if !ranges_left {
            self.extraction.points.pass("backfill_rows")?;
            self.copy_leftovers()?;
        }
        meter.end(unsigned(self.progress.rows));
        self.report(began.elapsed())
    }

    fn report(&self, time: Duration) -> Result<BackfillReport, MigrateError> {
        let refused = self.pair.deferred(self.flow.to, self.extraction.context())?;
        Ok(BackfillReport {
            context: self.extraction.context().to_owned(),
            filled: self.flow.to.side(),
            done: self.progress.done,
            resumed: self.resumed,
            keys_copied: self.total.keys,
            rows_copied: self.total.rows,
            chunks: self.chunks,
            refused: refused
                .into_iter()
                .map(|Deferred { key, reason }| RefusedKey { key: show(&key), reason })
                .collect(),
            duration_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            keys_per_second: rate(self.total.keys, time),
        })
    }

    fn copy_tombstones(&mut self) -> Result<(), MigrateError> {
        let mut after = Some(String::new());
        while let Some(last) = after {
            let (next, copied) = self.locked(|backfill, pair| {
                let job = backfill.job;
                pair.unstage()?;
                let next = pair.stage_removed(job.manifest, job.flow, job.kind, &last, TOMBSTONES)?;
                let copied = if next.is_some() { pair.copy_staged(job)? } else { Copied::default() };
                pair.defer(job.flow.to, backfill.extraction.context(), &copied.deferred)?;
                Ok((next, copied))
            })?;
            self.add(copied);
            after = next;
        }
        Ok(())
    }

    /// Copies the next range. Returns whether more follow.
    fn copy_chunk(&mut self) -> Result<bool, MigrateError> {
        let chunk = self.locked(|backfill, pair| {
            let (job, context) = (backfill.job, backfill.extraction.context());
            let owner = pair.known_context(job.flow.from, context)?;
            let after = backfill.progress.next_key.as_ref();
            let end = pair.range_end(job.manifest, job.flow.from, after, backfill.options.chunk_rows)?;
            let range = KeyRange { after: after.cloned(), up_to: end.clone() };
            let waiting = pair.anything_pending(job.flow.from, context)?;
            let copied = pair.copy_range(job, &range, backfill.synced, backfill.progress.again)?;
            pair.defer(job.flow.to, context, &copied.deferred)?;
            let progress = backfill
                .progress
                .after_chunk(end.as_ref(), pair.range_count(job.manifest, job.flow.from, &range)?);
            pair.record_progress(job.flow.to, context, Some(&backfill.progress), &progress)?;
            backfill.extraction.points.pass("backfill_chunk_copied")?;
            Ok(Chunk { copied, progress, more: end.is_some(), synced: owner.version, waiting })
        })?;
        self.add(chunk.copied);
        self.progress = chunk.progress;
        self.synced = chunk.synced;
        self.chunks += 1;
        self.extraction.points.pass("backfill_chunk")?;
        let pause =
            self.options.throttle.max(if chunk.waiting { self.options.give_way } else { Duration::ZERO });
        if !pause.is_zero() {
            thread::sleep(pause);
        }
        Ok(chunk.more)
    }

    fn copy_leftovers(&mut self) -> Result<(), MigrateError> {
        let (copied, progress) = self.locked(|backfill, pair| {
            let (job, context) = (backfill.job, backfill.extraction.context());
            let deferred = pair.deferred(job.flow.to, context)?;
            pair.unstage()?;
            pair.stage_pending(job.manifest, job.flow, job.kind, 0)?;
            pair.stage(&deferred.into_iter().map(|deferred| deferred.key).collect::<Vec<_>>())?;
            let copied = pair.copy_staged(job)?;
            pair.forget_deferred(job.flow.to, context)?;
            pair.defer(job.flow.to, context, &copied.deferred)?;
            let progress = Progress { done: copied.deferred.is_empty(), ..backfill.progress.clone() };
            pair.record_progress(job.flow.to, context, Some(&backfill.progress), &progress)?;
            Ok((copied, progress))
        })?;
        self.add(copied);
        self.progress = progress;
        Ok(())
    }

    /// One transaction that still finds everything as the backfill needs it.
    fn locked<T>(
        &self,
        work: impl FnOnce(&Self, &Pair) -> Result<T, MigrateError>,
    ) -> Result<T, MigrateError> {
        self.pair.write(|pair| {
            gates::needs_roles(self.extraction, pair, self.flow)?;
            work(self, pair)
        })
    }

    fn add(&mut self, copied: Copied) {
        self.total.keys += copied.keys;
        self.total.rows += copied.rows;
    }
}

struct Chunk {
    copied: Copied,
    progress: Progress,
    more: bool,
    synced: i64,
    waiting: bool,
}

impl Progress {
    /// Behind a chunk that ended at `end`, or at the last key.
    fn after_chunk(&self, end: Option<&crate::sqlite::Key>, keys: i64) -> Self {
        Self {
            next_key: end.cloned().or_else(|| self.next_key.clone()),
            rows: self.rows + keys,
            chunks: self.chunks + 1,
            ..self.clone()
        }
    }
}

/// Goes on from the progress recorded, or begins anew.
fn begin(
    extraction: &Extraction,
    pair: &Pair,
    flow: Flow,
    again: bool,
) -> Result<(Progress, bool), MigrateError> {
    let (context, hash) = (extraction.context(), extraction.manifest.hash());
    pair.prepare_progress(flow.to)?;
    let recorded = pair.progress(flow.to, context)?;
    if let Some(before) = &recorded {
        if before.mapping_hash != hash && !again {
            return Err(MigrateError::refused(
                format!("the mapping of {context} was changed since rows were copied with it"),
                format!(
                    "run `migrate backfill {context} --again` to write every row anew, or restore the manifest"
                ),
            ));
        }
        if !before.done && before.mapping_hash == hash && before.again == again {
            return Ok((before.clone(), true));
        }
    }
    let root = &extraction.manifest.tables(flow.from).root;
    let progress = Progress {
        epoch: i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or_default(),
        mapping_hash: hash,
        again,
        next_key: None,
        max_key: pair.greatest_key(&extraction.manifest, flow.from)?,
        expected: pair.count(flow.from, root)?,
        rows: 0,
        chunks: 0,
        done: false,
    };
    pair.forget_deferred(flow.to, context)?;
    pair.record_progress(flow.to, context, recorded.as_ref(), &progress)?;
    Ok((progress, false))
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
