//! `monolith sagas`: checkouts as an operator sees them.
//!
//! Invariant: what a saga knows is not shown, since it may hold a payment token; and nothing here decides how a saga goes
//! on: an operator may only have it go on at once.

use anyhow::Result;
use contracts::{Clock, SystemClock};
use db::DbError;
use db::events::OperatorError;
use db::saga::{self, LogEntry, Phase, SagaFilter, SagaView};
use platform::table;
use serde_json::{Value, json};

use super::print;
use crate::cli::{One, Output, Sagas};
use crate::settings::Settings;
use crate::wiring;

const HEAD: [&str; 8] = ["id", "kind", "key", "phase", "position", "attempts", "due", "last error"];

/// The phase that a word names, for the command line.
pub(crate) fn phase(word: &str) -> Result<Phase, String> {
    Phase::parse(word).ok_or_else(|| {
        let names: Vec<&str> = Phase::ALL.into_iter().map(Phase::name).collect();
        format!("it is one of {}", names.join(", "))
    })
}

pub(crate) fn run(settings: &Settings, command: Sagas) -> Result<()> {
    let db = wiring::open_present_database(settings)?;
    match command {
        Sagas::List { phase, page, output } => {
            let filter = SagaFilter { kind: None, phase, after: page.after, limit: page.limit };
            list(output, &db.read_blocking::<_, DbError, _>(move |conn| saga::list(conn, &filter))?)
        }
        Sagas::Retry(One { id, output }) => {
            let saga = db.write_blocking::<_, OperatorError, _>(move |conn| {
                saga::retry(conn, id, SystemClock.now())
            })?;
            list(output, &[saga])
        }
        Sagas::Show(One { id, output }) => {
            let (saga, log) = db.read_blocking::<_, OperatorError, _>(move |conn| saga::show(conn, id))?;
            if output.json {
                let document = json!({ "saga": public(&saga), "log": log });
                table::print_line(&serde_json::to_string_pretty(&document)?);
                return Ok(());
            }
            table::print(HEAD, [line(&saga)]);
            table::print(["at", "step", "direction", "outcome", "note"], log.iter().map(entry));
            Ok(())
        }
    }
}

fn list(output: Output, sagas: &[SagaView]) -> Result<()> {
    let shown: Vec<Value> = sagas.iter().map(public).collect();
    print(output, &shown, "there is no saga", || table::print(HEAD, sagas.iter().map(line)))
}

/// A saga without what it knows.
fn public(saga: &SagaView) -> Value {
    let mut document = json!(saga);
    if let Some(fields) = document.as_object_mut() {
        fields.remove("state");
    }
    document
}

fn line(saga: &SagaView) -> [String; 8] {
    [
        saga.id.to_string(),
        saga.kind.clone(),
        saga.key.clone(),
        saga.phase.name().to_owned(),
        saga.position.to_string(),
        saga.attempts.to_string(),
        saga.due_at.to_string(),
        saga.last_error.clone().or_else(|| saga.reason.clone()).unwrap_or_default(),
    ]
}

fn entry(entry: &LogEntry) -> [String; 5] {
    let note = entry.note.clone().unwrap_or_default();
    [entry.at.to_string(), entry.step.clone(), entry.way.clone(), entry.outcome.clone(), note]
}
