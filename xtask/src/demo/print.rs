//! The demo's report: numbered steps with their figures, in colour on a terminal, plain when piped, or as one JSON
//! document.

use std::env;
use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use harness::load::Stats;
use serde_json::{Map, Value, json};

const BOLD: &str = "\u{1b}[1m";
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const DIM: &str = "\u{1b}[2m";
const RESET: &str = "\u{1b}[0m";

/// Collects the figures of every step, and shows them as they come unless JSON is wanted.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    colour: bool,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    title: String,
    started: Instant,
    took: Option<Duration>,
    figures: Map<String, Value>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let colour = stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        Self { json, colour, steps: Vec::new() }
    }

    /// Begins a step; the one before is over.
    pub(super) fn step(&mut self, title: &str) {
        self.close();
        let started = Instant::now();
        self.steps.push(Step { title: title.to_owned(), started, took: None, figures: Map::new() });
        self.show(&format!(
            "\n{} {}",
            self.paint(BOLD, &format!("{:>2}", self.steps.len())),
            self.paint(BOLD, title)
        ));
    }

    /// A figure of the present step.
    pub(super) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        self.show(&format!("   {name:<34} {}", text(&value)));
        if let Some(step) = self.steps.last_mut() {
            step.figures.insert(name.to_owned(), value);
        }
    }

    /// What the load saw since the last lap.
    pub(super) fn lap(&mut self, lap: &Stats) {
        let time = lap.time();
        self.figure("requests", lap.requests);
        self.figure("  of them writes", lap.writes);
        self.figure("failed", lap.failures);
        self.figure("reads stale / wrong", format!("{} / {}", lap.stale, lap.wrong));
        self.figure("p50 / p99", format!("{} / {}", millis(time.quantile(0.5)), millis(time.quantile(0.99))));
        self.figure("longest read / write", {
            format!("{} / {}", millis(lap.read_time.max()), millis(lap.write_time.max()))
        });
        let sides: Vec<String> =
            lap.sides.iter().map(|(side, count)| format!("{side} {}", grouped(*count))).collect();
        self.figure("answered by", sides.join(", "));
        if lap.fallbacks > 0 {
            self.figure("fallbacks to the monolith", lap.fallbacks);
        }
    }

    /// Something that the user may want to do.
    pub(super) fn note(&self, text: &str) {
        self.show(&format!("   {}", self.paint(DIM, text)));
    }

    /// The verdict, and the JSON document if that is wanted.
    pub(super) fn end(&mut self, faults: &[String]) {
        self.close();
        if self.json {
            let steps: Vec<Value> = self
                .steps
                .iter()
                .map(|step| {
                    let took = step.took.unwrap_or_default().as_secs_f64();
                    json!({ "step": step.title, "seconds": took, "figures": step.figures })
                })
                .collect();
            println!("{:#}", json!({ "ok": faults.is_empty(), "faults": faults, "steps": steps }));
            return;
        }
        if faults.is_empty() {
            let verdict =
                "every request was answered, every acknowledged write is there, both sides are equal";
            println!("\n{} {verdict}", self.paint(GREEN, "ok"));
        }
        for fault in faults {
            println!("\n{} {fault}", self.paint(RED, "fault"));
        }
    }

    fn close(&mut self) {
        let Some(step) = self.steps.last_mut().filter(|step| step.took.is_none()) else { return };
        let took = step.started.elapsed();
        step.took = Some(took);
        self.show(&self.paint(DIM, &format!("   {:.1} s", took.as_secs_f64())));
    }

    fn show(&self, line: &str) {
        if !self.json {
            println!("{line}");
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{RESET}") } else { text.to_owned() }
    }
}

pub(super) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        other => other.to_string(),
    }
}

/// 200426 as `200,426`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1_000, 200_426].map(grouped), ["0", "999", "1,000", "200,426"]);
    }
}
