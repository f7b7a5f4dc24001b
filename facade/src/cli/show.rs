//! `facade routes`, `facade check`, `facade explain`: what follows from the settings, without a running facade.

use anyhow::{Result, anyhow};
use control::{ControlError, ControlStore, Flag};
use facade::admin::RouteView;
use facade::explain::{Explanation, Question, explain as answer};
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
    let cells = routes.into_iter().map(|RouteView { prefix, context, private, monolith, service, key }| {
        let none = || "-".to_owned();
        let key = if key.is_empty() { none() } else { key.join(", then ") };
        let context = if private { "(private: 404)".to_owned() } else { context.unwrap_or_else(none) };
        [prefix, context, monolith.unwrap_or_else(none), service.unwrap_or_else(none), key]
    });
    table::print(["prefix", "context", "monolith", "service", "key"], cells);
    Ok(())
}

pub(crate) fn check(settings: &Settings) -> Result<()> {
    let plan = Plan::new(settings)?;
    let contexts: Vec<&str> = plan.context_names().collect();
    let routes = settings.routes.len();
    let upstreams = settings.upstreams.len();
    let line = format!(
        "the settings are sound: {upstreams} upstreams, {routes} routes, contexts: {}",
        contexts.join(", ")
    );
    table::print_line(&line);
    Ok(())
}

pub(crate) fn explain(settings: &Settings, arguments: ExplainArgs) -> Result<()> {
    let plan = Plan::new(settings)?;
    let json = arguments.json;
    let ExplainArgs { method, target, headers, client, .. } = arguments;
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
    let Explanation { route, context, flag, key_from, key, bucket, side, upstream, why } = explanation;
    let rows = [
        ("route", route),
        ("context", context),
        ("flag", flag),
        ("key", key.zip(key_from).map(|(key, from)| format!("{key} ({from})"))),
        ("bucket", bucket.map(|bucket| bucket.to_string())),
        ("side", side.map(|side| side.to_string())),
        ("upstream", upstream),
        ("why", Some(why)),
    ];
    table::print(
        ["what", "value"],
        rows.map(|(name, value)| [name.to_owned(), value.unwrap_or_else(|| "-".to_owned())]),
    );
    Ok(())
}

/// Asking must not create a store: where there is none, nothing was ever moved.
fn flags(settings: &Settings) -> Result<Vec<Flag>, ControlError> {
    match ControlStore::open_existing(&settings.control) {
        Ok(store) => store.flags(),
        Err(ControlError::Missing { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
