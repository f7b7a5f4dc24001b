//! `facade upstreams`: through the admin API of a running facade.

use anyhow::Result;
use facade::admin::{List, UpstreamView};
use facade::settings::Settings;
use platform::table;
use reqwest::Method;

use crate::cli::AdminArgs;
use crate::cli::api::call;

pub(crate) fn run(settings: &Settings, arguments: &AdminArgs) -> Result<()> {
    let upstreams: List<UpstreamView> = call(settings, arguments, Method::GET, "/api/v1/upstreams", None)?;
    if arguments.json {
        table::print_line(&serde_json::to_string_pretty(&upstreams.items)?);
        return Ok(());
    }
    let rows = upstreams.items.into_iter().flat_map(|UpstreamView { name, breaker, instances, .. }| {
        instances.into_iter().map(move |instance| {
            [
                name.clone(),
                instance.url,
                if instance.healthy { "healthy" } else { "aside" }.to_owned(),
                breaker.clone(),
                instance.in_flight.to_string(),
                instance.requests.to_string(),
                instance.failures.to_string(),
                instance.last_failure.unwrap_or_else(|| "-".to_owned()),
            ]
        })
    });
    let columns =
        ["upstream", "instance", "state", "breaker", "in flight", "requests", "failures", "last failure"];
    table::print(columns, rows);
    Ok(())
}
