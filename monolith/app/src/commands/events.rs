//! `monolith events`: the outbox as an operator sees it.
//!
//! Invariant: an event that a process is handling right now is left alone.

use anyhow::Result;
use contracts::{Clock, SystemClock, Timestamp};
use db::events::{self, EventFilter, OperatorError, WaitingEvent, Which};
use platform::table;

use super::print;
use crate::cli::{Events, One};
use crate::settings::Settings;
use crate::wiring;

pub(crate) fn run(settings: &Settings, command: Events) -> Result<()> {
    let db = wiring::open_present_database(settings)?;
    let now = SystemClock.now();
    let One { id, output } = match command {
        Events::List { consumer, dead, page, output } => {
            let which = if dead { Which::Dead } else { Which::All };
            let filter = EventFilter { consumer, which, after: page.after, limit: page.limit };
            let found = db.read_blocking(move |conn| events::list(conn, &filter))?;
            let head = ["id", "kind", "aggregate", "consumer", "attempts", "state", "last error"];
            return print(output, &found, "no event waits", || {
                table::print(head, found.iter().map(|event| line(event, now)))
            });
        }
        Events::Show(one) | Events::Retry(one) | Events::Discard(one) => one,
    };
    let event = match command {
        Events::Retry(_) => db.write_blocking(move |conn| events::retry(conn, id, now))?,
        Events::Discard(_) => db.write_blocking(move |conn| events::discard(conn, id, now))?,
        _ => db.read_blocking::<_, OperatorError, _>(move |conn| events::show(conn, id))?,
    };
    if output.json {
        table::print_line(&serde_json::to_string_pretty(&event)?);
        return Ok(());
    }
    table::print(["event", "value"], details(&event, now));
    Ok(())
}

fn line(event: &WaitingEvent, now: Timestamp) -> [String; 7] {
    [
        event.id.to_string(),
        event.kind.clone(),
        event.aggregate.clone(),
        event.consumer.clone(),
        event.attempts.to_string(),
        state(event, now),
        event.last_error.clone().unwrap_or_default(),
    ]
}

fn details(event: &WaitingEvent, now: Timestamp) -> Vec<[String; 2]> {
    let rows = [
        ("id", event.id.to_string()),
        ("event id", event.event_id.clone()),
        ("kind", event.kind.clone()),
        ("aggregate", event.aggregate.clone()),
        ("consumer", event.consumer.clone()),
        ("occurred", event.occurred_at.to_string()),
        ("state", state(event, now)),
        ("attempts", event.attempts.to_string()),
        ("last error", event.last_error.clone().unwrap_or_default()),
        ("request id", event.request_id.clone()),
        ("traceparent", event.traceparent.clone().unwrap_or_default()),
        ("payload", event.payload.to_string()),
    ];
    rows.map(|(name, value)| [name.to_owned(), value]).to_vec()
}

fn state(event: &WaitingEvent, now: Timestamp) -> String {
    if let Some(at) = event.dead_at {
        return format!("dead since {at}");
    }
    match event.claimed_until {
        Some(until) if until > now => "being handled".to_owned(),
        _ if event.available_at > now => format!("waits until {}", event.available_at),
        _ => "due".to_owned(),
    }
}
