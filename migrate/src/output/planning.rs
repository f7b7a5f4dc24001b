//! What `plan` prints of a context that is copied by change capture.
//!
//! Invariant: the gravest findings stand last, next to the counts.

use platform::table::{print, print_line};

use super::{DIFFERS, DONE, print_json};
use crate::cli::CapturePlan;
use crate::engine::survey::{ColumnFate, Fate, Finding, Level, SampleRead, Survey};
use crate::error::MigrateError;

/// Prints a plan.
pub(crate) fn capture_plan(plan: &CapturePlan, json: bool) -> Result<u8, MigrateError> {
    let code = if plan.counts.problems == 0 { DONE } else { DIFFERS };
    if json {
        return print_json(plan).map(|()| code);
    }
    let (survey, counts) = (&plan.survey, plan.counts);
    print_line(&format!("{}: mapping {}\n", plan.stream, plan.mapping_hash));
    let sizes = survey
        .tables
        .iter()
        .map(|size| [size.end.to_string(), size.table.clone(), size.rows.to_string(), amount(size.bytes)]);
    print(["end", "table", "rows, about", "bytes, about"], sizes);
    print_line("");
    print(["end", "table", "column", "type", "", "from"], survey.columns.iter().map(column_row));
    print_line("");
    print(
        ["table filled", "rows read", "in", "source keys", "all of them, about", "log per write"],
        survey.reads.iter().map(read_row),
    );
    print_line("");
    print(["level", "where", "what", "what to do"], findings(survey).into_iter().map(finding_row));
    print_line(&format!(
        "\n{} problems, {} warnings, {} notes, {} ok; reading takes one worker about {} s, writing is not measured",
        counts.problems,
        counts.warnings,
        counts.notes,
        counts.ok,
        survey.reads.iter().map(|read| read.seconds).sum::<u64>()
    ));
    Ok(code)
}

fn findings(survey: &Survey) -> Vec<&Finding> {
    let mut findings: Vec<&Finding> = survey.findings.iter().collect();
    findings.sort_by_key(|finding| finding.level);
    findings
}

fn column_row(column: &ColumnFate) -> [String; 6] {
    let fate = match column.fate {
        Fate::Carried => "carried",
        Fate::Computed => "computed",
        Fate::LeftOut => "left out",
    };
    let ColumnFate { end, table, column, declared, from, .. } = column;
    [end.to_string(), table.clone(), column.clone(), declared.clone(), fate.to_owned(), from.clone()]
}

fn read_row(read: &SampleRead) -> [String; 6] {
    [
        read.table.clone(),
        format!("{} ({})", read.rows, amount(read.bytes)),
        format!("{} ms", read.micros.div_ceil(1000)),
        read.keys.to_string(),
        format!("{} s", read.seconds),
        format!("{} bytes", read.log_bytes),
    ]
}

fn finding_row(finding: &Finding) -> [String; 4] {
    let level = match finding.level {
        Level::Ok => "ok",
        Level::Note => "note",
        Level::Warning => "warning",
        Level::Problem => "problem",
    };
    [level.to_owned(), finding.place.clone(), finding.what.clone(), finding.remedy.clone()]
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
