//! `facade flag`: through the admin API of a running facade.

use anyhow::Result;
use control::Flag;
use facade::admin::{FlagView, HistoryView, List};
use facade::settings::Settings;
use platform::table;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use crate::cli::api::{call, in_path};
use crate::cli::{AdminArgs, FlagCommand, HistoryArgs, SetArgs};

pub(crate) fn run(settings: &Settings, command: FlagCommand) -> Result<()> {
    match command {
        FlagCommand::List(arguments) => list(settings, &arguments),
        FlagCommand::Set(arguments) => set(settings, &arguments),
        FlagCommand::History(arguments) => history(settings, &arguments),
    }
}

fn list(settings: &Settings, arguments: &AdminArgs) -> Result<()> {
    let flags: List<FlagView> = call(settings, arguments, Method::GET, "/api/v1/flags", None)?;
    if arguments.json {
        return print_json(&flags.items);
    }
    print_flags(&flags.items);
    Ok(())
}

fn set(settings: &Settings, arguments: &SetArgs) -> Result<()> {
    let body = json!({
        "reads": arguments.reads,
        "writes": arguments.writes,
        "reason": arguments.reason,
        "actor": arguments.actor,
        "force": arguments.force,
    });
    let path = format!("/api/v1/flags/{}", in_path(&arguments.context));
    let flag: FlagView = call(settings, &arguments.admin, Method::PUT, &path, Some(&body))?;
    if arguments.admin.json {
        return print_json(&flag);
    }
    print_flags(&[flag]);
    Ok(())
}

fn history(settings: &Settings, arguments: &HistoryArgs) -> Result<()> {
    let limit = arguments.limit;
    let path = match &arguments.context {
        Some(context) => format!("/api/v1/flags/{}/history?limit={limit}", in_path(context)),
        None => format!("/api/v1/history?limit={limit}"),
    };
    let rows: List<HistoryView> = call(settings, &arguments.admin, Method::GET, &path, None)?;
    if arguments.admin.json {
        return print_json(&rows.items);
    }
    let cells = rows.items.iter().map(|HistoryView { row, at }| {
        let forced = if row.forced { " (forced)" } else { "" };
        let change = format!("{} → {}{forced}", row.from_state, row.to_state);
        [at.clone(), row.context.clone(), row.actor.clone(), row.action.clone(), change, row.reason.clone()]
    });
    table::print(["when", "context", "who", "what", "change", "why"], cells);
    Ok(())
}

fn print_flags(flags: &[FlagView]) {
    let cells = flags.iter().map(|FlagView { flag, stage, changed_at }| {
        let hold = flag.hold.map_or_else(|| "-".to_owned(), |hold| format!("to {}", hold.to));
        [
            flag.context.clone(),
            stage.to_string(),
            format!("{}%", flag.reads),
            flag.writes.to_string(),
            flag.token.to_string(),
            followed_by(flag),
            hold,
            yes(flag.forced),
            changed_at.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let headers =
        ["context", "stage", "reads", "writes", "token", "followed by", "hold", "forced", "changed"];
    table::print(headers, cells);
}

/// What keeps the other side up to date.
fn followed_by(flag: &Flag) -> String {
    match (flag.dual_write, flag.captured) {
        (true, _) => "dual-write",
        (false, true) => "capture",
        (false, false) => "-",
    }
    .to_owned()
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "-" }.to_owned()
}

fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    table::print_line(&serde_json::to_string_pretty(value)?);
    Ok(())
}
