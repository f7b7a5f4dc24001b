//! The settings of an upstream, checked.
//!
//! Invariant: a policy's instances and weights are as many as each other, or there are no weights.

use http::uri::Authority;

use crate::settings::{
    Balance, BreakerSettings, BulkheadSettings, EjectionSettings, HealthSettings, RetrySettings,
    UpstreamSettings, WhenNoneHealthy,
};

/// Weights up to this keep the list of turns short.
const MOST_WEIGHT: u32 = 100;

/// How an upstream's instances are chosen and protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) weights: Vec<u32>,
    pub(crate) balance: Balance,
    pub(crate) when_none_healthy: WhenNoneHealthy,
    pub(crate) health: HealthSettings,
    pub(crate) ejection: EjectionSettings,
    pub(crate) breaker: BreakerSettings,
    pub(crate) bulkhead: BulkheadSettings,
    pub(crate) retry: RetrySettings,
}

impl Policy {
    pub(crate) fn new(name: &str, settings: &UpstreamSettings, errors: &mut Vec<String>) -> Self {
        let mut wrong = |is_wrong: bool, what: &str| {
            if is_wrong {
                errors.push(format!("setting `upstreams.{name}.{what}"));
            }
        };
        let UpstreamSettings { weights, health, ejection, breaker, retry, .. } = settings;
        wrong(
            !weights.is_empty() && weights.len() != settings.instances.len(),
            "weights` needs one weight for each of `instances`, or none at all",
        );
        wrong(
            weights.iter().any(|weight| !(1..=MOST_WEIGHT).contains(weight)),
            "weights` holds a weight that is not from 1 to 100",
        );
        wrong(
            ejection.statuses.iter().any(|status| !(500..600).contains(status)),
            "ejection.statuses` holds a status that is not from 500 to 599",
        );
        wrong(
            ejection.base_ms == 0,
            "ejection.base_ms` is 0; set `ejection.failures` to 0 to put nothing aside",
        );
        wrong(
            !health.path.is_empty() && !health.path.starts_with('/'),
            "health.path` does not begin with `/`; write it as /health/ready",
        );
        wrong(
            [health.interval_ms, health.timeout_ms].contains(&0)
                || [health.unhealthy_after, health.healthy_after].contains(&0),
            "health` has an interval_ms, timeout_ms, unhealthy_after or healthy_after of 0; leave path empty to ask nothing",
        );
        wrong(ejection.most_percent > 100, "ejection.most_percent` is more than 100");
        wrong(breaker.failure_percent > 100, "breaker.failure_percent` is more than 100");
        wrong(
            breaker.window_ms == 0 || breaker.open_ms == 0 || breaker.probes == 0,
            "breaker` has a window_ms, open_ms or probes of 0; set failure_percent to 0 to turn it off",
        );
        wrong(retry.attempts == 0, "retry.attempts` is 0; 1 means that nothing is sent again");
        wrong(retry.budget_percent > 100, "retry.budget_percent` is more than 100");
        Self {
            weights: weights.clone(),
            balance: settings.balance,
            when_none_healthy: settings.when_none_healthy,
            health: health.clone(),
            ejection: ejection.clone(),
            breaker: breaker.clone(),
            bulkhead: settings.bulkhead.clone(),
            retry: retry.clone(),
        }
    }
}

/// The instances of an upstream; never none, so that names which point to it are not reported as missing.
pub(crate) fn instances(
    name: &str,
    settings: &UpstreamSettings,
    errors: &mut Vec<String>,
    parse: impl Fn(&str) -> Result<Authority, String>,
) -> Vec<Authority> {
    let (setting, urls) = match settings.instances.as_slice() {
        [] => ("url", std::slice::from_ref(&settings.url)),
        several => ("instances", several),
    };
    if setting == "instances" && !settings.url.is_empty() {
        errors.push(format!("setting `upstreams.{name}.url` stands beside `instances`; leave one"));
    }
    let mut found = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        let setting = if setting == "url" { setting.to_owned() } else { format!("{setting}[{index}]") };
        match parse(url) {
            Ok(authority) if found.contains(&authority) => {
                errors.push(format!("setting `upstreams.{name}.{setting}` is `{url}` again; leave one"));
            }
            Ok(authority) => found.push(authority),
            Err(reason) => errors.push(format!("setting `upstreams.{name}.{setting}`: {reason}")),
        }
    }
    if found.is_empty() {
        found.push(Authority::from_static("localhost:80"));
    }
    found
}
