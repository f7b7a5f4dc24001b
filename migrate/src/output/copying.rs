//! What the commands of change capture print.
//!
//! Invariant: what the JSON says and what the table says come from the same value.

use std::path::Path;

use platform::table::{print, print_line};
use serde_json::json;
use twox_hash::XxHash3_64;

use super::{DIFFERS, DONE, print_json};
use crate::cli::{CaptureChange, Chunks, Run, Standing};
use crate::engine::driver::log_rows;
use crate::engine::repair::RepairReport;
use crate::engine::verify::{Difference, Kind, Report};
use crate::engine::{CaptureState, Phase, RunReport, Steering, Stream};
use crate::error::MigrateError;

/// What `capture install` and `capture remove` did.
pub(crate) fn capture_change(done: &CaptureChange, json: bool) -> Result<u8, MigrateError> {
    if json {
        return print_json(done).map(|()| DONE);
    }
    let would = if done.dry_run { "would be done" } else { "done" };
    print_line(&format!("capture of {}: {would}", done.stream));
    done.deeds.iter().for_each(|deed| print_line(&format!("  {deed}")));
    Ok(DONE)
}

/// Whether capture is whole.
pub(crate) fn capture_state(
    stream: &Stream,
    state: &CaptureState,
    (rows, bytes): (u64, u64),
    json: bool,
) -> Result<u8, MigrateError> {
    let code = if state.installed && state.faults.is_empty() { DONE } else { DIFFERS };
    if json {
        let value = json!({ "stream": stream.name, "capture": state, "log_rows": rows, "log_bytes": bytes });
        return print_json(&value).map(|()| code);
    }
    print_line(&format!("capture of {}: {}", stream.name, capture_text(Some(state), Some((rows, bytes)))));
    state.faults.iter().for_each(|fault| print_line(&format!("  {fault}")));
    Ok(code)
}

fn capture_text(state: Option<&CaptureState>, log: Option<(u64, u64)>) -> String {
    let Some(state) = state else { return "cannot be read, see above".to_owned() };
    if !state.installed {
        return "not installed".to_owned();
    }
    let whole = match state.faults.len() {
        0 => "whole".to_owned(),
        faults => format!("{faults} faults: {}", state.faults.join("; ")),
    };
    let (rows, bytes) = log.unwrap_or_default();
    format!("{whole}, log of {}, {} KiB", log_rows(rows), bytes >> 10)
}

/// Where streams stand. The exit code tells a script whether somebody should look.
pub(crate) fn captured(all: &[Standing], json: bool) -> Result<u8, MigrateError> {
    let is_ill = |standing: &Standing| {
        !standing.warnings.is_empty()
            || standing.capture.as_ref().is_some_and(|capture| !capture.faults.is_empty())
            || standing.runs.iter().any(|run| !run.is_silent() && !run.state.warnings.is_empty())
    };
    let unreadable = all.iter().map(|standing| standing.code).max().unwrap_or(DONE);
    let code = match unreadable {
        0 if all.iter().any(is_ill) => DIFFERS,
        code => code,
    };
    if json {
        return match all {
            [one] => print_json(one),
            all => print_json(&all),
        }
        .map(|()| code);
    }
    for standing in all {
        print(["", &standing.stream], standing_rows(standing));
        print_line("");
    }
    Ok(code)
}

fn standing_rows(standing: &Standing) -> Vec<[String; 2]> {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut add = |name: &str, text: String| rows.push([name.to_owned(), text]);
    standing.unreadable.iter().for_each(|reason| add("cannot be read", reason.clone()));
    standing.warnings.iter().for_each(|warning| add("WARNING", warning.clone()));
    add("capture", capture_text(standing.capture.as_ref(), standing.log));
    match &standing.row {
        None => add("phase", "nothing copied yet; `migrate run` begins".to_owned()),
        Some(row) => {
            let phase = match row.phase {
                Phase::Loading => "loading (indexes come behind it, then catch-up)",
                Phase::Following => "following",
                Phase::Resting => "resting: the side that it fills owns the data",
                Phase::Waking => "to be followed again; `migrate run` does so",
            };
            add("phase", phase.to_owned());
            add("position", row.pos.0.clone());
            if row.next != row.pos {
                add("applying up to", row.next.0.clone());
            }
            let same = row.mapping_hash == standing.mapping_hash;
            let hash = &row.mapping_hash;
            let now = &standing.mapping_hash;
            add("mapping", if same { hash.clone() } else { format!("{hash}; the manifest holds {now} now") });
        }
    }
    if let Some(chunks) = &standing.chunks {
        add("backfill", chunks_text(chunks, standing.keys));
    }
    for lease in &standing.leases {
        let table = standing.tables.get(lease.mapping).map_or("", String::as_str);
        add("chunk under way", format!("{table} {}, lease of {} s", lease.chunk, lease.seconds_left));
    }
    if standing.steering != Steering::default() {
        add("steered", steering_text(&standing.steering));
    }
    for run in &standing.runs {
        run_rows(run).into_iter().for_each(|[name, text]| add(&name, text));
    }
    if standing.runs.is_empty() && standing.row.is_some() {
        add("run", "none; changes are logged and wait".to_owned());
    }
    add("last verification", standing.verification.clone().unwrap_or_else(|| "none".to_owned()));
    rows
}

fn chunks_text(chunks: &Chunks, keys: Option<u64>) -> String {
    let (rows, leased) = (chunks.rows, chunks.leased);
    if chunks.done {
        return format!("done, {rows} rows");
    }
    let total = keys.map_or_else(|| "?".to_owned(), |keys| keys.max(rows).to_string());
    let eta = chunks.eta_s.map_or_else(|| "?".to_owned(), |seconds| format!("{seconds} s"));
    format!("{rows} of about {total} rows, {leased} chunks under way, ETA {eta}")
}

fn run_rows(run: &Run) -> Vec<[String; 2]> {
    let state = &run.state;
    let seconds = run.age_ms / 1000;
    let silent = if run.is_silent() { format!(", silent for {seconds} s") } else { String::new() };
    let age = u64::try_from(run.age_ms).unwrap_or_default();
    let lag = state.lag_ms.map_or_else(|| "none yet".to_owned(), |lag| format!("{} ms", lag + age));
    let mut rows = vec![[
        "run".to_owned(),
        format!(
            "{} process {}{silent}: {} workers, {} rows copied at {} rows/s, {} keys caught up, lag {lag}",
            state.host,
            state.process,
            state.workers,
            state.rows_copied,
            state.rows_per_second,
            state.keys_caught
        ),
    ]];
    rows.extend(state.brake.iter().map(|brake| ["backfill rests".to_owned(), brake.clone()]));
    rows.extend(state.waits.iter().map(|wait| ["waits".to_owned(), wait.clone()]));
    rows.extend(state.warnings.iter().map(|warning| ["WARNING".to_owned(), warning.clone()]));
    rows
}

/// How a stream is steered.
pub(crate) fn steering(stream: &str, steering: &Steering, json: bool) -> Result<u8, MigrateError> {
    if json {
        return print_json(steering).map(|()| DONE);
    }
    print_line(&format!("{stream}: {}; a run follows within a second", steering_text(steering)));
    Ok(DONE)
}

fn steering_text(steering: &Steering) -> String {
    use crate::engine::run::Pause;
    let mut said = vec![match steering.pause {
        Pause::None => "not paused".to_owned(),
        Pause::Backfill => "backfill paused".to_owned(),
        Pause::All => "paused".to_owned(),
    }];
    said.extend(steering.workers.map(|workers| format!("{workers} workers")));
    said.extend(steering.rows_per_second.map(|rows| format!("at most {rows} rows/s")));
    if let (Some(query), Some(limit)) = (&steering.load_query, steering.load_limit) {
        said.push(format!("rests while `{query}` is above {limit}"));
    }
    said.extend(steering.log_rows.map(|rows| format!("rests while the log holds more than {rows} rows")));
    said.join(", ")
}

/// What a run did.
pub(crate) fn run(stream: &str, report: &RunReport, code: u8, json: bool) -> Result<u8, MigrateError> {
    if json {
        return print_json(report).map(|()| code);
    }
    print_line(&format!(
        "{stream}: {} rows copied ({}), {} keys caught up in {} batches, {} log rows pruned, in {} ms{}",
        report.rows_copied,
        if report.copied {
            "everything is copied"
        } else {
            "not everything is copied; run it again to go on"
        },
        report.keys_caught,
        report.batches,
        report.pruned,
        report.duration_ms,
        if code == DONE { "" } else { "; it was told to stop before it had done what it was asked" }
    ));
    Ok(code)
}

/// What a verification found.
pub(crate) fn verification(report: &Report, limit: usize, json: bool) -> Result<u8, MigrateError> {
    let code = if report.is_clean() { DONE } else { DIFFERS };
    if json {
        return print_json(report).map(|()| code);
    }
    if !report.differences.is_empty() {
        print(
            ["", "table", "source key", "column", "expected", "found"],
            report.differences.iter().take(limit).flat_map(difference_rows),
        );
        print_line("");
    }
    let tables = report.tables.iter().map(|table| {
        let counts = [table.rows, table.parts, table.differs, table.missing, table.extra, table.moving];
        let mut cells = vec![table.table.clone()];
        cells.extend(counts.map(|count| count.to_string()));
        cells
    });
    print(["table", "rows", "parts", "differ", "missing", "extra", "moving"], tables);
    print_line("");
    for key in report.moving_keys.iter().take(limit) {
        print_line(&format!("moving: {key} waited for catch-up each time it was looked at"));
    }
    if report.moving() > 0 {
        print_line("nothing is known of keys that move: let `migrate run` catch up, and verify again");
    }
    print_line(&format!(
        "{}: {}, {} keys left to catch up, schema {}, in {} ms",
        report.stream,
        report.evidence(),
        report.dirty_left,
        short(&report.fingerprint),
        report.duration_ms
    ));
    if report.wrong() > 0 {
        print_line(&format!(
            "`migrate repair {}` mends what is listed",
            report.stream.trim_end_matches(".back")
        ));
    }
    Ok(code)
}

/// A fingerprint short enough to compare by eye.
pub(super) fn short(fingerprint: &str) -> String {
    format!("{:016x}", XxHash3_64::oneshot(fingerprint.as_bytes()))
}

pub(super) fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Differs => "differs",
        Kind::Missing => "missing",
        Kind::Extra => "extra",
    }
}

fn difference_rows(difference: &Difference) -> Vec<[String; 6]> {
    let kind = kind_text(difference.kind).to_owned();
    let row = |column: &str, expected: String, found: String| {
        [kind.clone(), difference.table.clone(), difference.place(), column.to_owned(), expected, found]
    };
    if difference.kind != Kind::Differs {
        return vec![row("", String::new(), String::new())];
    }
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    difference
        .columns
        .iter()
        .map(|column| row(&column.column, shown(&column.expected), shown(&column.found)))
        .collect()
}

/// What a repair did.
pub(crate) fn repair(done: &RepairReport, log: &Path, json: bool) -> Result<u8, MigrateError> {
    let code = if done.left.is_empty() && done.reasons.is_empty() { DONE } else { DIFFERS };
    if json {
        return print_json(done).map(|()| code);
    }
    if !done.left.is_empty() {
        print(
            ["", "table", "source key", "column", "expected", "found"],
            done.left.iter().flat_map(difference_rows),
        );
        print_line("");
    }
    done.reasons.iter().for_each(|reason| print_line(reason));
    let (keys, healed, repaired, left) = (done.keys, done.healed, done.repaired, done.left.len());
    if done.dry_run {
        print_line(&format!(
            "{keys} keys looked at, {healed} equal or moving by now, {left} rows would be written"
        ));
    } else {
        print_line(&format!(
            "{keys} keys looked at, {healed} equal or moving by now, {repaired} repaired (logged in {}), {left} rows left",
            log.display()
        ));
    }
    Ok(code)
}
