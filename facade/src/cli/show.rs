//! `facade routes`, `facade explain`: what follows from the settings, without a running facade.

use anyhow::{Result, anyhow};
use control::{ControlError, ControlStore, Flag};
use facade::admin::{RouteKind, RouteView};
use facade::explain::{Question, explain as answer};
use facade::plan::Plan;
use facade::settings::Settings;
use platform::table;

use crate::cli::ExplainArgs;

pub(crate) fn routes(settings: &Settings, json: bool) -> Result<()> {
    let routes = Plan::new(settings)?.route_views();
    if json {
        table::print_line(&serde_json::to_string_pretty(&routes)?);
        return Ok(());
    }
    let cells = routes.into_iter().map(|route| {
        let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
        let list = |items: Vec<String>, between: &str, none: &str| match items.is_empty() {
            true => none.to_owned(),
            false => items.join(between),
        };
        let RouteView { path, kind, host, methods, headers, context, upstream, service, key } = route;
        let (path, context) = match kind {
            RouteKind::Prefix | RouteKind::Rest => {
                (format!("{}/…", path.trim_end_matches('/')), or(context, "-"))
            }
            RouteKind::Template => (path, or(context, "-")),
            RouteKind::Private => (format!("{path}/…"), "(private: 404)".to_owned()),
        };
        [
            host,
            path,
            list(methods, " ", "*"),
            list(headers, ", ", "-"),
            context,
            or(upstream, "-"),
            or(service, "-"),
            list(key, ", then ", "-"),
        ]
    });
    table::print(["host", "path", "methods", "headers", "context", "upstream", "service", "key"], cells);
    Ok(())
}

pub(crate) fn explain(settings: &Settings, arguments: ExplainArgs) -> Result<()> {
    let plan = Plan::new(settings)?;
    let json = arguments.json;
    let ExplainArgs { method, target, headers, client_address: client, .. } = arguments;
    let mut flags = flags(settings)?;
    let flag_of = |context: &str| {
        let found = flags.iter().position(|flag| flag.context == context);
        found.map_or_else(|| Flag::unmoved(context), |position| flags.swap_remove(position))
    };
    let explanation = answer(&plan, &Question { method, target, headers, client }, flag_of)
        .map_err(|reason| anyhow!(reason))?;
    if json {
        table::print_line(&serde_json::to_string_pretty(&explanation)?);
        return Ok(());
    }
    let told = explanation;
    let rows = [
        ("route", told.route),
        ("context", told.context),
        ("flag", told.flag),
        ("stage", told.stage.map(|stage| stage.to_string())),
        ("key", told.key.zip(told.key_from).map(|(key, from)| format!("{key} ({from})"))),
        ("bucket", told.bucket.map(|bucket| bucket.to_string())),
        ("pin", told.pin.map(|side| side.to_string())),
        ("override", told.wish),
        ("side", told.side.map(|side| side.to_string())),
        ("upstream", told.upstream.zip(told.url).map(|(name, url)| format!("{name} ({url})"))),
        ("why", Some(told.why)),
    ];
    table::print(
        ["what", "value"],
        rows.map(|(name, value)| [name.to_owned(), value.unwrap_or_else(|| "-".to_owned())]),
    );
    Ok(())
}

/// Asking must not create a store: where there is none, nothing was ever moved.
pub(crate) fn flags(settings: &Settings) -> Result<Vec<Flag>, ControlError> {
    match ControlStore::open_existing(&settings.control) {
        Ok(store) => store.flags(),
        Err(ControlError::Missing { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
