//! A verification report as a page that stands by itself: no scripts, no fonts, nothing from elsewhere.
//!
//! Invariant: every text from a database is escaped.

use std::fmt::Write;

use super::copying::{kind_text, short};
use crate::engine::verify::{Report, TableReport};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d9e0e7;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.85rem;word-break:break-all}
.ok{color:#146c43}.bad{color:#a4262c}.verdict{font-size:1.2rem;font-weight:600}
@media(prefers-color-scheme:dark){body{color:#dbe4ec;background:#12181f}th,td{border-color:#2c3945}.ok{color:#59c08a}.bad{color:#ff8f8f}}";

/// Width of a chart's bars, in its own units.
const WIDTH: u64 = 600;

/// The page.
pub(crate) fn html(report: &Report) -> String {
    let mut page = String::new();
    let name = escape(&report.stream);
    let (class, verdict) = verdict(report);
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Verification of {name}</title><style>{STYLE}</style></head>\n<body><h1>Verification \
         of {name}</h1>\n<p class=\"verdict {class}\">{verdict}</p>\n"
    );
    facts(&mut page, report);
    chart(&mut page, "Rows compared", report, |table| [(table.rows, "#3b7dd8")].to_vec());
    chart(
        &mut page,
        "Rows that are not as they should be: differ, missing, extra, moving",
        report,
        |table| {
            vec![
                (table.differs, "#a4262c"),
                (table.missing, "#d9822b"),
                (table.extra, "#8e5ea2"),
                (table.moving, "#8a97a5"),
            ]
        },
    );
    tables(&mut page, report);
    differences(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

fn verdict(report: &Report) -> (&'static str, String) {
    let wrong = report.wrong();
    match (report.complete, wrong, report.moving()) {
        (false, ..) => ("bad", "Stopped before its end".to_owned()),
        (true, 0, 0) => ("ok", "Equal".to_owned()),
        (true, 0, moving) => ("bad", format!("{moving} keys moved each time they were looked at")),
        (true, ..) => ("bad", format!("{wrong} rows are not as they should be")),
    }
}

fn facts(page: &mut String, report: &Report) {
    let mode = serde_json::to_string(&report.mode).unwrap_or_default();
    let facts = [
        ("Compared", mode),
        ("Position: later changes are not covered", report.position.0.clone()),
        ("Mapping", report.mapping_hash.clone()),
        ("Schema", short(&report.fingerprint)),
        ("Rows", report.rows().to_string()),
        ("Keys left to catch up at the end", report.dirty_left.to_string()),
        ("Began", began(report)),
        ("Took", format!("{} ms", report.duration_ms)),
    ];
    page.push_str("<table>");
    for (name, value) in facts {
        let _ = write!(page, "<tr><th>{name}</th><td><code>{}</code></td></tr>", escape(&value));
    }
    page.push_str("</table>\n");
}

fn began(report: &Report) -> String {
    jiff::Timestamp::from_millisecond(report.began_ms).map_or_else(|_| "?".to_owned(), |at| at.to_string())
}

/// One bar per table, in segments; all of one scale.
fn chart(
    page: &mut String,
    title: &str,
    report: &Report,
    bars: fn(&TableReport) -> Vec<(u64, &'static str)>,
) {
    let sum = |table: &TableReport| bars(table).iter().map(|(count, _)| count).sum::<u64>();
    let most = report.tables.iter().map(sum).max().unwrap_or(0).max(1);
    let height = report.tables.len() * 26 + 4;
    let _ = write!(
        page,
        "<h2>{title}</h2>\n<svg viewBox=\"0 0 900 {height}\" role=\"img\" aria-label=\"{title}\" font-size=\"13\" \
         fill=\"currentColor\">"
    );
    for (number, table) in report.tables.iter().enumerate() {
        let (y, mut x) = (number * 26 + 4, 180);
        let _ = write!(page, "<text x=\"0\" y=\"{}\">{}</text>", y + 14, escape(&table.table));
        for (count, colour) in bars(table) {
            // Something that is there is seen, however little it is.
            let width = (count * WIDTH / most).max(u64::from(count > 0) * 2);
            let _ = write!(
                page,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"18\" fill=\"{colour}\"><title>{count}</title></rect>"
            );
            x += width;
        }
        let _ = write!(page, "<text x=\"{}\" y=\"{}\">{}</text>", x + 6, y + 14, sum(table));
    }
    page.push_str("</svg>\n");
}

fn tables(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Tables</h2>\n<table><tr><th>Table</th><th>Rows</th><th>Hash</th><th>Parts</th><th>Differ</th>\
         <th>Missing</th><th>Extra</th><th>Moving</th></tr>\n",
    );
    for table in &report.tables {
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td><code>{:016x}</code></td>",
            escape(&table.table),
            table.rows,
            table.hash
        );
        for count in [table.parts, table.differs, table.missing, table.extra, table.moving] {
            let _ = write!(page, "<td class=\"n\">{count}</td>");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n");
}

fn differences(page: &mut String, report: &Report) {
    if report.differences.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<h2>Differences ({} of {})</h2>\n<table><tr><th></th><th>Table</th><th>Source key</th><th>Column</th>\
         <th>Expected</th><th>Found</th></tr>\n",
        report.differences.len(),
        report.wrong()
    );
    let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "<i>NULL</i>".to_owned(), escape);
    for difference in &report.differences {
        let head = format!(
            "<tr><td>{}</td><td>{}</td><td><code>{}</code></td>",
            kind_text(difference.kind),
            escape(&difference.table),
            escape(&difference.place())
        );
        if difference.columns.is_empty() {
            let _ = writeln!(page, "{head}<td></td><td></td><td></td></tr>");
        }
        for column in &difference.columns {
            let _ = writeln!(
                page,
                "{head}<td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&column.column),
                shown(&column.expected),
                shown(&column.found)
            );
        }
    }
    page.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use crate::engine::Position;
    use crate::engine::verify::{ColumnDifference, Difference, Kind, Mode};

    use super::*;

    #[test]
    fn the_page_stands_by_itself_and_escapes_what_it_shows() {
        let column = ColumnDifference {
            column: "name".to_owned(),
            expected: Some("<script>alert(1)</script>".to_owned()),
            found: None,
            cut: false,
        };
        let report = Report {
            stream: "items".to_owned(),
            mode: Mode::Full,
            complete: true,
            position: Position("7".to_owned()),
            mapping_hash: "abc".to_owned(),
            fingerprint: "def".to_owned(),
            tables: vec![TableReport {
                table: "item".to_owned(),
                rows: 9,
                differs: 1,
                ..TableReport::default()
            }],
            differences: vec![Difference {
                kind: Kind::Differs,
                table: "item".to_owned(),
                key: "5".to_owned(),
                columns: vec![column],
            }],
            moving_keys: Vec::new(),
            dirty_left: 0,
            began_ms: 0,
            duration_ms: 3,
        };
        let page = html(&report);
        assert!(page.contains("&lt;script&gt;") && page.contains("<i>NULL</i>") && page.contains("<svg"));
        assert!(!page.contains("<script") && !page.contains("http") && !page.contains("src="), "{page}");
    }
}
