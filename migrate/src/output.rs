//! Results as people and programs read them.
//!
//! Invariant: with `--json`, standard output holds exactly one JSON value.

mod copying;
mod html;
mod planning;

use platform::table::{print, print_line};
use serde::Serialize;

use crate::backfill::BackfillReport;
use crate::dual_write::DualWrite;
use crate::error::MigrateError;
use crate::plan::Plan;
use crate::status::Status;
use crate::switch::SwitchReport;
use crate::verify::{Difference, Kind, Report};

pub(crate) use copying::{capture_change, capture_state, captured, repair, run, steering, verification};
pub(crate) use html::html;
pub(crate) use planning::capture_plan;

/// Done; or equal.
const DONE: u8 = 0;
/// Differences or problems.
const DIFFERS: u8 = 1;

/// The error and its causes in one line.
pub(crate) fn print_error(error: &MigrateError) {
    platform::table::print_error_line(&format!("error: {}", platform::error::chain(error)));
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<u8, MigrateError> {
    print_json(value).map(|()| DONE)
}

fn print_json(value: &impl Serialize) -> Result<(), MigrateError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| MigrateError::Failed {
        message: "cannot print the result".to_owned(),
        source: Some(Box::new(error)),
    })?;
    print_line(&text);
    Ok(())
}

/// Prints a plan.
pub(crate) fn plan(plan: &Plan, json: bool) -> Result<u8, MigrateError> {
    let code = if plan.problems.is_empty() { DONE } else { DIFFERS };
    if json {
        return print_json(plan).map(|()| code);
    }
    print_line(&format!(
        "{}: from the {} to the {}, mapping {}\n",
        plan.context, plan.from, plan.to, plan.mapping_hash
    ));
    let rows = plan.tables.iter().map(|table| {
        let mapped = table.mapped.map_or_else(|| "-".to_owned(), |rows| rows.to_string());
        [table.side.to_string(), table.table.clone(), table.rows.to_string(), mapped]
    });
    print(["side", "table", "rows", "rows the mapping makes"], rows);
    if !plan.columns.is_empty() {
        print_line("");
        let rows = plan.columns.iter().map(|column| {
            let declared = if column.not_null {
                format!("{} NOT NULL", column.declared)
            } else {
                column.declared.clone()
            };
            [column.table.clone(), column.column.clone(), declared, column.mapped.clone()]
        });
        print(["table", "column", "declared", "values the mapping makes"], rows);
    }
    print_line("");
    plan.notes.iter().for_each(|note| print_line(&format!("note: {note}")));
    plan.problems.iter().for_each(|problem| print_line(&format!("problem: {problem}")));
    print_line(&format!(
        "{} keys to copy, about {} s; {} problems",
        plan.keys,
        plan.seconds,
        plan.problems.len()
    ));
    Ok(code)
}

/// Prints what became of dual-write.
pub(crate) fn dual_write(done: &DualWrite, json: bool) -> Result<u8, MigrateError> {
    if json {
        return print_json(done).map(|()| DONE);
    }
    let (state, already) = (if done.on { "on" } else { "off" }, if done.changed { "now" } else { "already" });
    print_line(&format!("dual-write of {} is {already} {state} (token {})", done.context, done.token));
    Ok(DONE)
}

/// Prints what a backfill did.
pub(crate) fn backfill(report: &BackfillReport, json: bool) -> Result<u8, MigrateError> {
    let code = if report.done { DONE } else { DIFFERS };
    if json {
        return print_json(report).map(|()| code);
    }
    let resumed = if report.resumed { ", going on from an earlier run" } else { "" };
    print_line(&format!(
        "{}: {} keys ({} rows) copied to the {} in {} ms, {} keys/s, {} chunks{resumed}",
        report.context,
        report.keys_copied,
        report.rows_copied,
        report.filled,
        report.duration_ms,
        report.keys_per_second,
        report.chunks
    ));
    for refused in &report.refused {
        print_line(&format!("refused: key {}: {}", refused.key, refused.reason));
    }
    if !report.done {
        print_line("not complete: mend the rows above at the owner, or the mapping, and run it again");
    }
    Ok(code)
}

/// Prints what a comparison found.
pub(crate) fn verify(report: &Report, json: bool) -> Result<u8, MigrateError> {
    let code = if report.clean() { DONE } else { DIFFERS };
    if json {
        return print_json(report).map(|()| code);
    }
    if !report.listed.is_empty() {
        print(
            ["", "table", "key", "column", "monolith", "service"],
            report.listed.iter().flat_map(difference_rows),
        );
        print_line("");
    }
    for key in &report.moving_keys {
        print_line(&format!(
            "moving: key {key} changed or waited to be delivered each time it was looked at"
        ));
    }
    print_line(&format!("{}: {} in {} ms", report.context, report.evidence(), report.duration_ms));
    Ok(code)
}

fn difference_rows(difference: &Difference) -> Vec<[String; 6]> {
    let kind = match difference.kind {
        Kind::Differs => "differs",
        Kind::Missing => "missing",
        Kind::Extra => "extra",
    };
    let row = |column: &str, monolith: &str, service: &str| {
        let key = difference.key.join(", ");
        [
            kind.to_owned(),
            difference.table.clone(),
            key,
            column.to_owned(),
            monolith.to_owned(),
            service.to_owned(),
        ]
    };
    if difference.columns.is_empty() {
        return vec![row("", "", "")];
    }
    difference.columns.iter().map(|column| row(&column.column, &column.monolith, &column.service)).collect()
}

/// Prints what a switch did.
pub(crate) fn switch(report: &SwitchReport, json: bool) -> Result<u8, MigrateError> {
    if json {
        return print_json(report).map(|()| DONE);
    }
    report.settled.iter().for_each(|deed| print_line(deed));
    if !report.switched {
        print_line(&format!(
            "{} belongs to the {} (token {}); nothing to switch",
            report.context, report.owner, report.token
        ));
        return Ok(DONE);
    }
    print_line(&format!(
        "{} belongs to the {} now (token {}): {} rows verified, {} changed keys verified and {} writes delivered under \
         the hold, writes held for {} ms",
        report.context,
        report.owner,
        report.token,
        report.verified_rows,
        report.dirty_keys,
        report.drained,
        report.held_ms
    ));
    Ok(DONE)
}

/// Prints where one context stands.
pub(crate) fn status(status: &Status, json: bool) -> Result<u8, MigrateError> {
    if json {
        return print_json(status).map(|()| DONE);
    }
    statuses(std::slice::from_ref(status), false)
}

/// Prints where contexts stand.
pub(crate) fn statuses(all: &[Status], json: bool) -> Result<u8, MigrateError> {
    if json {
        return print_json(&all).map(|()| DONE);
    }
    for status in all {
        status.settled.iter().for_each(|deed| print_line(deed));
        print(["", &status.flag.context], status_rows(status));
        print_line("");
    }
    Ok(DONE)
}

fn status_rows(status: &Status) -> Vec<[String; 2]> {
    let flag = &status.flag;
    let on_off = |on: bool| if on { "on" } else { "off" };
    let mut rows = vec![
        ["stage".to_owned(), status.stage.to_string()],
        ["owner".to_owned(), format!("{} (token {})", flag.writes, flag.token)],
        ["reads from the service".to_owned(), format!("{} %", flag.reads)],
        ["dual-write".to_owned(), on_off(flag.dual_write).to_owned()],
    ];
    if let Some(hold) = flag.hold {
        let phase = if hold.flipped { "flipped, opening the new owner" } else { "writes are held" };
        rows.push([
            "switch in progress".to_owned(),
            format!("to {}: {phase} (token {})", hold.to, hold.token),
        ]);
    }
    for side in &status.sides {
        let text = match (&side.state, &side.unreadable) {
            (Some(state), _) => format!(
                "fence {} (token {}), dual-write {}, version {}, {} waiting, the oldest for {} ms",
                if state.closed { "closed" } else { "open" },
                state.fence_token,
                on_off(state.dual_write),
                state.version,
                side.pending,
                side.oldest_ms
            ),
            (None, reason) => format!("cannot be read: {}", reason.as_deref().unwrap_or("unknown")),
        };
        rows.push([side.side.to_string(), text]);
    }
    rows.push(["backfill".to_owned(), backfill_text(status)]);
    let verification = status.verification.as_ref().map_or("none", |verification| &verification.evidence);
    rows.push(["last verification".to_owned(), verification.to_owned()]);
    for instance in status.instances.iter().filter(|instance| instance.live) {
        let ack = instance.acks.iter().find(|ack| ack.context == flag.context);
        let serves = ack.map_or_else(
            || "serves no token yet".to_owned(),
            |ack| format!("serves token {}{}", ack.token, if ack.held { ", holds writes" } else { "" }),
        );
        rows.push([format!("{} {}", instance.kind.as_str(), instance.instance), serves]);
    }
    rows
}

/// Rows may be added while they are copied, so there may be more than were expected.
pub(crate) fn backfill_text(status: &Status) -> String {
    let Some(backfill) = &status.backfill else { return "none since dual-write was turned on".to_owned() };
    let progress = &backfill.progress;
    let state = if progress.done { "done" } else { "not done" };
    let (from, into) = (backfill.fills.other(), backfill.fills);
    let none_back = if backfill.into_follower {
        String::new()
    } else {
        format!("; none from the {into} to the {from} since dual-write was turned on there")
    };
    format!(
        "{state}, from the {from} to the {into}: {}/{} keys in {} chunks, {} refused{none_back}",
        progress.rows,
        progress.expected.max(progress.rows),
        progress.chunks,
        backfill.refused
    )
}
