//! `facade upstreams`: through the admin API of a running facade.

use anyhow::Result;
use facade::admin::{InstanceView, List, NameView, UpstreamView};
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
    table::print(COLUMNS, upstreams.items.into_iter().flat_map(rows));
    Ok(())
}

const COLUMNS: [&str; 8] =
    ["upstream", "instance", "state", "breaker", "in flight", "requests", "failures", "last failure"];

/// One row for each name that cannot be resolved, and one for each instance.
fn rows(upstream: UpstreamView) -> impl Iterator<Item = [String; 8]> {
    let UpstreamView { name, breaker, instances, names, .. } = upstream;
    let row =
        move |url: String, state: &str, [in_flight, requests, failures]: [u64; 3], why: Option<String>| {
            [
                name.clone(),
                url,
                state.to_owned(),
                breaker.clone(),
                in_flight.to_string(),
                requests.to_string(),
                failures.to_string(),
                why.unwrap_or_else(|| "-".to_owned()),
            ]
        };
    let instance = {
        let row = row.clone();
        move |instance: InstanceView| {
            let state = match (instance.draining, instance.healthy) {
                (true, _) => "draining",
                (false, true) => "healthy",
                (false, false) => "aside",
            };
            let counts = [instance.in_flight, instance.requests, instance.failures];
            row(instance.url, state, counts, instance.last_failure)
        }
    };
    let unresolved = names.into_iter().filter(|name| name.last_error.is_some());
    let name = move |name: NameView| {
        row(format!("http://{}", name.name), "unresolved", [0, 0, name.failures], name.last_error)
    };
    unresolved.map(name).chain(instances.into_iter().map(instance))
}
