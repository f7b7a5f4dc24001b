//! `facade status`: how a running facade and its contexts fare.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use facade::admin::{ContextView, HealthWord, SideView, StatusView};
use facade::settings::Settings;
use platform::table;
use reqwest::Method;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::cli::StatusArgs;
use crate::cli::api::call;

/// Clears the terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn run(settings: &Settings, arguments: &StatusArgs) -> Result<()> {
    if arguments.watch {
        return watch(settings, arguments);
    }
    show(&read(settings, arguments)?, arguments)
}

fn read(settings: &Settings, arguments: &StatusArgs) -> Result<StatusView> {
    call(settings, &arguments.admin, Method::GET, "/api/v1/status", None)
}

/// Until Ctrl-C, or until nobody reads any more. A facade that stops answering is said so, and asked again.
fn watch(settings: &Settings, arguments: &StatusArgs) -> Result<()> {
    let mut status = Ok(read(settings, arguments)?);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Kept over all rounds, so that a Ctrl-C between two pauses ends the next one.
    let mut interrupts = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
    loop {
        if io::stdout().is_terminal() {
            write!(io::stdout(), "{CLEAR}")?;
        }
        match &status {
            Ok(status) => show(status, arguments)?,
            Err(error) => table::print_line(&format!("{error:#}")),
        }
        // A line more, because only a write tells that the reader has gone.
        match writeln!(io::stdout()).and_then(|()| io::stdout().flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
        let interrupted = runtime.block_on(async { timeout(PAUSE, interrupts.recv()).await });
        if interrupted.is_ok() {
            return Ok(());
        }
        status = read(settings, arguments);
    }
}

fn show(status: &StatusView, arguments: &StatusArgs) -> Result<()> {
    if arguments.admin.json {
        table::print_line(&serde_json::to_string_pretty(status)?);
        return Ok(());
    }
    let StatusView { instance, version, started_at, workers, connections, in_flight, .. } = status;
    let health = match (status.health, &status.trouble) {
        (HealthWord::Ok, _) => "ok".to_owned(),
        (HealthWord::Degraded, trouble) => {
            format!("degraded ({})", trouble.as_deref().unwrap_or("the control store cannot be read"))
        }
    };
    table::print_line(&format!(
        "{instance} {version}, {health}, since {started_at}: {workers} workers, {connections} connections, {in_flight} in flight"
    ));
    if let Some(refused) = &status.settings_refused {
        let told =
            format!("new settings were refused at {}, the old ones go on: {}", refused.at, refused.message);
        table::print_line(&told);
    }
    let rest = [rest(&status.rest)];
    table::print(HEADERS, status.contexts.iter().flat_map(both_sides).chain(rest));
    Ok(())
}

const HEADERS: [&str; 13] = [
    "context",
    "stage",
    "reads",
    "owner",
    "token",
    "acked",
    "breaker",
    "side",
    "req/s",
    "err/s",
    "p50 ms",
    "p99 ms",
    "in flight",
];

fn both_sides(context: &ContextView) -> [Vec<String>; 2] {
    let (flag, none) = (&context.flag.flag, || "-".to_owned());
    let of_context = [
        flag.context.clone(),
        context.flag.stage.to_string(),
        format!("{}%", flag.reads),
        flag.writes.to_string(),
        flag.token.to_string(),
        context.acknowledged.map_or_else(none, |acked| format!("{} of {}", acked.by, acked.of)),
    ];
    let of_service = context.breaker.clone().unwrap_or_else(none);
    [("monolith", none(), &context.monolith), ("service", of_service, &context.service)].map(
        |(side, breaker, view)| {
            let own = [breaker, side.to_owned()].into_iter().chain(figures(view));
            of_context.iter().cloned().chain(own).collect()
        },
    )
}

/// Requests of no context.
fn rest(view: &SideView) -> Vec<String> {
    let names = ["(rest)", "-", "-", "-", "-", "-", "-", "monolith"].map(str::to_owned);
    names.into_iter().chain(figures(view)).collect()
}

fn figures(view: &SideView) -> [String; 5] {
    let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    [
        format!("{:.1}", view.requests_per_s),
        format!("{:.1}", view.errors_per_s),
        ms(view.p50_ms),
        ms(view.p99_ms),
        view.in_flight.to_string(),
    ]
}
