//! The commands that copy by change capture: capture, run, backfill, catch-up, pause, resume, throttle.
//!
//! Invariant: nothing is written under `--dry-run`.

use platform::table::print_line;
use serde::Serialize;

use super::arguments::{CaptureCommand, HowArgs, PauseArgs, ResumeArgs, StreamArgs, ThrottleArgs};
use super::captured::{Captured, is_installed, state_of, with_driver};
use crate::engine::run::{Adopt, Parts, Pause, Until};
use crate::engine::{
    Driver, Kept, Phase, RunOptions, RunReport, RunState, Source as _, Steering, Stop, Stream, Target as _,
};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::meter::Meter;
use crate::output;
use crate::settings::Settings;

/// Carries a capture command out.
pub(super) fn capture(settings: &Settings, command: CaptureCommand, json: bool) -> Result<u8, MigrateError> {
    match command {
        CaptureCommand::Install { stream, dry_run } => {
            let captured = Captured::open(settings, &stream)?;
            captured.needs_no_dual_write(settings)?;
            if !dry_run {
                captured.announce(settings, true)?;
            }
            let done = with_driver!(captured, |driver| install(&driver, &captured, dry_run))?;
            output::capture_change(&done, json)
        }
        CaptureCommand::Remove { stream, forget, dry_run } => {
            let captured = Captured::open(settings, &stream)?;
            captured.needs_nobody_behind(settings)?;
            if !dry_run && !is_installed(settings, &captured.context, !captured.is_back())? {
                captured.announce(settings, false)?;
            }
            let what = Removal { forget, dry_run };
            let done = with_driver!(captured, |driver| remove(&driver, &captured.stream, what))?;
            output::capture_change(&done, json)
        }
        CaptureCommand::Status { stream } => {
            let captured = Captured::open(settings, &stream)?;
            let (state, log) = with_driver!(captured, |driver| {
                let log = driver.source().and_then(|mut source| source.log_size(&captured.stream));
                state_of(&driver, &captured.stream).map(|state| (state, log.unwrap_or_default()))
            })?;
            output::capture_state(&captured.stream, &state, log, json)
        }
    }
}

/// What became of capture.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CaptureChange {
    /// The stream.
    pub(crate) stream: String,
    /// Whether it only looked.
    pub(crate) dry_run: bool,
    /// What was done, one line each.
    pub(crate) deeds: Vec<String>,
}

fn install<D: Driver>(driver: &D, captured: &Captured, dry_run: bool) -> Result<CaptureChange, MigrateError> {
    let (mut source, stream) = (driver.source()?, &captured.stream);
    if !dry_run {
        source.install_capture(stream)?;
        source.bound_log(stream, captured.extraction.run.max_log_rows)?;
    }
    let tables = stream.captured().into_iter();
    let deeds =
        tables.map(|(table, columns)| format!("{table}: its changed ({}) are logged", columns.join(", ")));
    Ok(CaptureChange { stream: stream.name.clone(), dry_run, deeds: deeds.collect() })
}

/// What is removed, and whether it is.
struct Removal {
    forget: bool,
    dry_run: bool,
}

fn remove<D: Driver>(driver: &D, stream: &Stream, what: Removal) -> Result<CaptureChange, MigrateError> {
    let (mut source, mut deeds) = (driver.source()?, Vec::new());
    if source.capture_state(stream)?.installed {
        deeds.push("its triggers and its log are removed from the source".to_owned());
    }
    if what.forget {
        deeds.push("the target forgets how far the copy is; its rows stay".to_owned());
    }
    if !what.dry_run {
        deeds.extend(unchecked(driver, stream, what.forget));
        source.remove_capture(stream)?;
        if what.forget {
            driver.target()?.forget_stream(stream, Kept::Nothing)?;
        }
    }
    Ok(CaptureChange { stream: stream.name.clone(), dry_run: what.dry_run, deeds })
}

/// What loading left unchecked is checked while somebody is there to hear of it: without capture no run comes to it any more.
/// What stays unchecked, in words; capture goes all the same.
fn unchecked<D: Driver>(driver: &D, stream: &Stream, forget: bool) -> Vec<String> {
    let check = || {
        let mut target = driver.target()?;
        match target.stream(&stream.name)?.map(|row| row.phase) {
            None => Ok(Vec::new()),
            Some(Phase::Loading) if !forget => Ok(vec![format!(
                "the target was still being loaded, so indexes and keys that it had are missing: `{} --forget` builds them",
                stream.command("capture remove")
            )]),
            Some(phase) => {
                if phase == Phase::Loading {
                    target.finish_loading(stream)?;
                }
                target.check_loaded(stream)
            }
        }
    };
    check().unwrap_or_else(|error: MigrateError| {
        vec![format!(
            "whether the target's foreign keys hold could not be checked: {}",
            platform::error::chain(&error)
        )]
    })
}

/// What a run is to do.
pub(super) struct What {
    /// Backfill, catch-up, or both.
    pub(super) parts: Parts,
    pub(super) until: Until,
    /// Keys per chunk, if said.
    pub(super) chunk: Option<u32>,
    /// Forget how far the copy is, and begin anew over its rows.
    pub(super) again: bool,
}

fn forget<D: Driver>(driver: &D, stream: &Stream) -> Result<(), MigrateError> {
    let state = driver.source()?.capture_state(stream)?;
    // Else the run is refused, and a refusal forgets nothing.
    if state.installed && state.faults.is_empty() {
        crate::engine::run::forget(driver, stream)?;
    }
    Ok(())
}

/// Runs backfill, catch-up, or both.
pub(super) fn run(
    settings: &Settings,
    arguments: &StreamArgs,
    how: &HowArgs,
    what: What,
    json: bool,
) -> Result<u8, MigrateError> {
    let captured = Captured::open(settings, arguments)?;
    captured.needs_no_dual_write(settings)?;
    let mut options = captured.extraction.run.options();
    (options.parts, options.until) = (what.parts, what.until);
    options.adopt = if how.adopt || what.again { Adopt::Rows } else { Adopt::Nothing };
    options.workers = how.workers.unwrap_or(options.workers);
    options.copier.chunk = what.chunk.unwrap_or(options.copier.chunk);
    if how.dry_run {
        let status = with_driver!(captured, |driver| super::standing::look(&driver, &captured))?;
        if !json {
            print_line(&format!("nothing is done; {} stands so:", captured.stream.name));
        }
        return output::captured(&[status], json).map(|_| 0);
    }
    captured.needs_follower(settings, || {
        Ok(!what.again && with_driver!(captured, |driver| rests(&driver, &captured.stream))?)
    })?;
    captured.announce(settings, true)?;
    if what.again {
        with_driver!(captured, |driver| forget(&driver, &captured.stream))?;
        if !json {
            print_line(
                "everything is copied anew; rows that the source lost meanwhile show in `migrate verify` as extra",
            );
        }
    }
    let stop = Stop::by_signals()?;
    let meter = if json { Meter::silent() } else { Meter::visible(captured.stream.name.clone()) };
    let report = with_driver!(captured, |driver| metered(&driver, &captured.stream, &options, &stop, meter))?;
    let is_done = report.ended || (options.parts != Parts::Backfill && options.until == Until::Stopped);
    output::run(&captured.stream.name, &report, if is_done { 0 } else { 1 }, json)
}

fn rests<D: Driver>(driver: &D, stream: &Stream) -> Result<bool, MigrateError> {
    Ok(driver.target()?.stream(&stream.name)?.is_some_and(|row| row.phase == Phase::Resting))
}

fn metered<D: Driver>(
    driver: &D,
    stream: &Stream,
    options: &RunOptions,
    stop: &Stop,
    mut meter: Meter,
) -> Result<RunReport, MigrateError> {
    let mut begun = false;
    let mut watch = |state: &RunState| {
        if !begun && !state.copied && state.rows_copied > 0 {
            begun = true;
            meter.begin(0, expected(driver, stream).unwrap_or_default() + state.rows_copied);
        }
        if begun && !state.copied {
            meter.advance(state.rows_copied);
        }
    };
    let report = crate::engine::run(driver, stream, options, stop, &FailPoints::from_env(), &mut watch)?;
    if report.rows_copied > 0 {
        meter.end(report.rows_copied);
    }
    Ok(report)
}

/// Rows still to expect, roughly.
fn expected<D: Driver>(driver: &D, stream: &Stream) -> Result<u64, MigrateError> {
    let done = driver.target()?.chunks_left(stream)?.rows;
    let mut source = driver.source()?;
    let mut total: u64 = 0;
    for mapping in &stream.mappings {
        total += source.estimate(mapping)?;
    }
    Ok(total.saturating_sub(done))
}

/// Lets what writes to the target rest.
pub(super) fn pause(settings: &Settings, arguments: &PauseArgs, json: bool) -> Result<u8, MigrateError> {
    let pause = if arguments.backfill_only { Pause::Backfill } else { Pause::All };
    let asked = Asked { stream: &arguments.stream, dry_run: arguments.dry_run, json };
    steer(settings, asked, |steering| steering.pause = pause)
}

/// Lets it go on.
pub(super) fn resume(settings: &Settings, arguments: &ResumeArgs, json: bool) -> Result<u8, MigrateError> {
    let asked = Asked { stream: &arguments.stream, dry_run: arguments.dry_run, json };
    steer(settings, asked, |steering| steering.pause = Pause::None)
}

/// Changes limits; what is not said stays.
pub(super) fn throttle(
    settings: &Settings,
    arguments: &ThrottleArgs,
    json: bool,
) -> Result<u8, MigrateError> {
    let asked = Asked { stream: &arguments.stream, dry_run: arguments.dry_run, json };
    steer(settings, asked, |steering| {
        if arguments.clear {
            *steering = Steering { pause: steering.pause, ..Steering::default() };
        }
        let ThrottleArgs { workers, rows_per_second, load_query, load_limit, log_rows, .. } = arguments;
        steering.workers = workers.or(steering.workers);
        steering.rows_per_second = rows_per_second.or(steering.rows_per_second);
        steering.load_query = load_query.clone().or(steering.load_query.take());
        steering.load_limit = load_limit.or(steering.load_limit);
        steering.log_rows = log_rows.or(steering.log_rows);
    })
}

/// What was asked of a stream's steering.
struct Asked<'a> {
    stream: &'a StreamArgs,
    dry_run: bool,
    json: bool,
}

fn steer(
    settings: &Settings,
    asked: Asked<'_>,
    change: impl FnOnce(&mut Steering),
) -> Result<u8, MigrateError> {
    let captured = Captured::open(settings, asked.stream)?;
    let steering =
        with_driver!(captured, |driver| steered(&driver, &captured.stream, asked.dry_run, change))?;
    output::steering(&captured.stream.name, &steering, asked.json)
}

fn steered<D: Driver>(
    driver: &D,
    stream: &Stream,
    dry_run: bool,
    change: impl FnOnce(&mut Steering),
) -> Result<Steering, MigrateError> {
    let mut target = driver.target()?;
    let before = Steering::read(&mut target, &stream.name)?;
    let mut steering = before.clone();
    change(&mut steering);
    steering.check()?;
    if let Some(query) = &steering.load_query {
        // A query that cannot be run is told now, not when the backfill rests because of it.
        driver.source()?.measure(query)?;
    }
    if !dry_run && steering != before {
        target.prepare(stream)?;
        steering.write(&mut target, &stream.name)?;
    }
    Ok(steering)
}
