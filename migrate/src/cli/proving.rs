//! The commands that prove a copy by change capture: verify and repair.
//!
//! Invariant: a full verification is also told to the control store, where one is set, since its gates go by it.

use std::fs::OpenOptions;
use std::time::Duration;

use super::arguments::{RepairArgs, VerifyArgs};
use super::captured::{Captured, Fills, with_driver};
use crate::engine::Driver;
use crate::engine::catch_up::no_stream;
use crate::engine::repair::{RepairReport, Writes, repair as mend};
use crate::engine::verify::{Mode, Report, Resume, VerifyOptions, confirmed, verify as compare};
use crate::engine::{Source as _, Stop, Target as _};
use crate::error::MigrateError;
use crate::evidence;
use crate::fail_point::FailPoints;
use crate::meter::Meter;
use crate::output;
use crate::settings::Settings;

/// Pause between two passes.
const BETWEEN_PASSES: Duration = Duration::from_secs(1);

/// Verifies, once or again and again.
pub(super) fn verify(settings: &Settings, arguments: &VerifyArgs, json: bool) -> Result<u8, MigrateError> {
    let captured = Captured::open(settings, &arguments.stream)?;
    let options = options(arguments);
    let stop = Stop::by_signals()?;
    loop {
        let meter =
            if json { Meter::silent() } else { Meter::visible(format!("verify {}", captured.stream.name)) };
        let report = with_driver!(captured, |driver| one(&driver, &captured, &options, &stop, meter))?;
        if options.mode == Mode::Full && report.complete {
            record(settings, &captured, &report)?;
        }
        if let Some(file) = &arguments.html {
            let page = output::html(&report);
            std::fs::write(file, page).map_err(|error| MigrateError::Failed {
                message: format!("cannot write {}", file.display()),
                source: Some(Box::new(error)),
            })?;
        }
        let code = output::verification(&report, arguments.limit, json)?;
        if !arguments.continuous || stop.is_stopped() || report.wrong() > 0 {
            return Ok(code);
        }
        stop.rest(BETWEEN_PASSES);
    }
}

fn options(arguments: &VerifyArgs) -> VerifyOptions {
    let mode = match (arguments.sample, arguments.dirty) {
        (Some(percent), _) => Mode::Sample { percent, seed: arguments.seed },
        (None, true) => Mode::Dirty,
        (None, false) => Mode::Full,
    };
    VerifyOptions {
        mode,
        part_rows: arguments.part_rows,
        patience: Duration::from_secs(arguments.patience),
        load_percent: arguments.load,
        resume: if arguments.anew { Resume::Anew } else { Resume::GoOn },
        keep_seconds: arguments.keep_dirty,
        ..VerifyOptions::default()
    }
}

fn one<D: Driver>(
    driver: &D,
    captured: &Captured,
    options: &VerifyOptions,
    stop: &Stop,
    mut meter: Meter,
) -> Result<Report, MigrateError> {
    let mut source = driver.source()?;
    let mut total = 0;
    for mapping in &captured.stream.mappings {
        total += source.estimate(mapping)?;
    }
    drop(source);
    meter.begin(0, total);
    let report =
        compare(driver, &captured.stream, options, stop, &mut |report| meter.advance(report.rows()))?;
    meter.end(report.rows());
    Ok(report)
}

/// Only what compares the owner with the side that follows it says something about that side.
fn record(settings: &Settings, captured: &Captured, report: &Report) -> Result<(), MigrateError> {
    let Some(store) = Captured::store(settings)? else { return Ok(()) };
    if captured.fills(&store)? != Fills::Owner {
        evidence::record(&store, &captured.context, report)?;
    }
    Ok(())
}

/// Repairs what the last verifications confirmed.
pub(super) fn repair(settings: &Settings, arguments: &RepairArgs, json: bool) -> Result<u8, MigrateError> {
    let captured = Captured::open(settings, &arguments.stream)?;
    let done = with_driver!(captured, |driver| repaired(&driver, &captured, arguments))?;
    output::repair(&done, &arguments.log, json)
}

fn repaired<D: Driver>(
    driver: &D,
    captured: &Captured,
    arguments: &RepairArgs,
) -> Result<RepairReport, MigrateError> {
    let stream = &captured.stream;
    let mut target = driver.target()?;
    target.stream(&stream.name)?.ok_or_else(|| no_stream(stream))?;
    let report = confirmed(&mut target, &stream.name)?.ok_or_else(|| {
        MigrateError::refused(
            format!("no verification of {} has come to its end", stream.name),
            format!("run `migrate verify {}` first: repair writes only what it confirmed", captured.context),
        )
    })?;
    let points = FailPoints::from_env();
    if arguments.dry_run {
        return mend(driver, stream, &report, Writes::DryRun, &mut std::io::sink(), &points);
    }
    let mut log = OpenOptions::new().create(true).append(true).open(&arguments.log).map_err(|error| {
        MigrateError::Failed {
            message: format!("cannot write the log {}", arguments.log.display()),
            source: Some(Box::new(error)),
        }
    })?;
    mend(driver, stream, &report, Writes::Yes, &mut log, &points)
}
