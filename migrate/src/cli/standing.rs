//! Where the streams of a context stand.
//!
//! Invariant: it looks and changes nothing; an end that is away hides nothing of what the other knows.

use serde::Serialize;

use super::captured::Captured;
use crate::engine::driver::log_rows;
use crate::engine::run::needs_same_beginning;
use crate::engine::verify::last_report;
use crate::engine::{
    CaptureState, ChunksLeft, Driver, LeaseState, Phase, RunState, Source, Steering, Stream, StreamRow,
    Target,
};
use crate::error::MigrateError;
use crate::settings::RunSettings;

/// Where a stream stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Standing {
    /// The stream.
    pub(crate) stream: String,
    /// The tables filled.
    pub(crate) tables: Vec<String>,
    /// Hash of the mapping in the manifest.
    pub(crate) mapping_hash: String,
    /// What cannot be read, and why.
    pub(crate) unreadable: Vec<String>,
    /// The exit code that the worst of it has.
    #[serde(skip)]
    pub(crate) code: u8,
    /// Its row; nothing if nothing was ever copied.
    pub(crate) row: Option<StreamRow>,
    /// Capture at the source.
    pub(crate) capture: Option<CaptureState>,
    /// Rows and bytes of the log.
    pub(crate) log: Option<(u64, u64)>,
    /// Keys at the source, roughly.
    pub(crate) keys: Option<u64>,
    /// The backfill.
    pub(crate) chunks: Option<Chunks>,
    /// Chunks under way.
    pub(crate) leases: Vec<LeaseState>,
    /// How it is steered.
    pub(crate) steering: Steering,
    /// The runs, each as it last said of itself.
    pub(crate) runs: Vec<Run>,
    /// What an operator should look at.
    pub(crate) warnings: Vec<String>,
    /// The last full verification, in one line.
    pub(crate) verification: Option<String>,
}

/// How far the backfill is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Chunks {
    pub(crate) leased: u64,
    pub(crate) done: bool,
    pub(crate) rows: u64,
    /// Seconds to go at the present rate.
    pub(crate) eta_s: Option<u64>,
}

/// A run, and how long ago it said so.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) age_ms: i64,
    pub(crate) state: RunState,
}

/// A run that has said nothing for this long is gone or hangs.
const SILENT_MS: i64 = 10_000;

impl Run {
    /// Whether it is gone or hangs.
    pub(crate) fn is_silent(&self) -> bool {
        self.age_ms > SILENT_MS
    }
}

pub(super) fn look<D: Driver>(driver: &D, captured: &Captured) -> Result<Standing, MigrateError> {
    let stream = &captured.stream;
    let mut standing = Standing {
        stream: stream.name.clone(),
        tables: stream.mappings.iter().map(|mapping| mapping.table.clone()).collect(),
        mapping_hash: stream.hash(),
        unreadable: Vec::new(),
        code: 0,
        row: None,
        capture: None,
        log: None,
        keys: None,
        chunks: None,
        leases: Vec::new(),
        steering: Steering::default(),
        runs: Vec::new(),
        warnings: Vec::new(),
        verification: None,
    };
    let source =
        driver.source().and_then(|mut source| standing.see_source(&mut source, stream).map(|()| source));
    let target =
        driver.target().and_then(|mut target| standing.see_target(&mut target, stream).map(|()| target));
    let (source, target) = match (source, target) {
        (Ok(mut source), Ok(mut target)) => (standing.see_refusal(&mut source, &mut target, stream), Ok(())),
        (source, target) => (source.map(drop), target.map(drop)),
    };
    for (end, seen) in [("source", source), ("target", target)] {
        if let Err(error) = seen {
            standing.code = standing.code.max(error.exit_code());
            standing.unreadable.push(format!("{end}: {}", platform::error::chain(&error)));
        }
    }
    standing.warn_of_silence();
    standing.warn_of_log(stream, &captured.extraction.run);
    Ok(standing)
}

impl Standing {
    /// A log that nobody empties fills the source's disk.
    fn warn_of_log(&mut self, stream: &Stream, settings: &RunSettings) {
        let (limit, bound) = (settings.warn_log_rows, settings.max_log_rows);
        let Some((rows, bytes)) = self.log.filter(|(rows, _)| *rows > limit) else { return };
        let why = if self.is_followed() {
            "catch-up is too slow, or a snapshot holds it back".to_owned()
        } else {
            let (run, remove) = (stream.command("run"), stream.command("capture remove"));
            format!("nobody catches up: run `{run}`, or `{remove}` if the copy is given up")
        };
        self.warnings.push(format!(
            "the log at the source holds {} ({} MiB), more than run.warn_log_rows = {limit}: {why}; at \
             run.max_log_rows = {bound} capture ends by itself",
            log_rows(rows),
            bytes >> 20
        ));
    }

    /// What hangs, or cannot write its note, cannot say so.
    fn warn_of_silence(&mut self) {
        let silent = self.runs.iter().filter(|run| run.is_silent());
        self.warnings.extend(silent.map(|Run { age_ms, state }| {
            let (process, host, seconds) = (state.process, &state.host, age_ms / 1000);
            format!("process {process} on {host} has said nothing for {seconds} s: it was killed, hangs, or cannot write to the target; its log tells")
        }));
    }

    fn is_followed(&self) -> bool {
        self.runs.iter().any(|run| !run.is_silent() && run.state.lag_ms.is_some())
    }

    fn see_source(&mut self, source: &mut impl Source, stream: &Stream) -> Result<(), MigrateError> {
        let state = source.capture_state(stream)?;
        if state.installed {
            self.log = Some(source.log_size(stream)?);
        }
        self.capture = Some(state);
        let mut keys = 0;
        for mapping in &stream.mappings {
            keys += source.estimate(mapping)?;
        }
        self.keys = Some(keys);
        Ok(())
    }

    /// What a run would refuse, once something was copied. Without capture nobody follows a stream that rests.
    fn see_refusal(
        &mut self,
        source: &mut impl Source,
        target: &mut impl Target,
        stream: &Stream,
    ) -> Result<(), MigrateError> {
        let is_resting = self.row.as_ref().is_some_and(|row| row.phase == Phase::Resting);
        if is_resting && !self.capture.as_ref().is_some_and(|capture| capture.installed) {
            return Ok(());
        }
        match needs_same_beginning(source, target, stream) {
            Err(error @ MigrateError::Unreachable { .. }) => Err(error),
            Err(error) => {
                self.warnings.push(format!("`{}` does not go on: {error}", stream.command("run")));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn see_target(&mut self, target: &mut impl Target, stream: &Stream) -> Result<(), MigrateError> {
        let name = &stream.name;
        let Some(row) = target.stream(name)? else { return Ok(()) };
        self.leases = target.leases(name)?;
        self.steering = Steering::read(target, name)?;
        for note in ["run", "run.backfill", "run.catch-up"] {
            let said = target.note(name, note)?.and_then(|text| serde_json::from_str::<RunState>(&text).ok());
            self.runs
                .extend(said.map(|state| Run { age_ms: (control::now_ms() - state.at_ms).max(0), state }));
        }
        let ChunksLeft { leased, done, rows } = target.chunks_left(stream)?;
        let rate = self.runs.iter().map(|run| run.state.rows_per_second).max().filter(|rate| *rate > 0);
        let left = self.keys.map(|keys| keys.saturating_sub(rows));
        let eta_s = left.zip(rate).filter(|_| !done).map(|(left, rate)| left / rate);
        self.chunks = Some(Chunks { leased, done, rows, eta_s });
        self.verification = last_report(target, name)?.map(|report| {
            let void =
                if report.is_valid_for(&row) { "" } else { "VOID, as mapping or schema changed since: " };
            let seconds = (control::now_ms() - report.began_ms).max(0) / 1000;
            format!("{void}{} ({seconds} s ago)", report.evidence())
        });
        self.row = Some(row);
        Ok(())
    }
}
