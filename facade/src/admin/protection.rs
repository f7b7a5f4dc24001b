//! What protects: limits, where they stand now, and what they refused.
//!
//! Invariant: it shows no secret, no token and no client's key.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use actix_web::Responder;
use actix_web::web::{Data, Json};
use serde::Serialize;

use crate::protect::jwt::Provider;
use crate::protect::policy::{Policy, Protection};
use crate::protect::rate_limit::RateLimit;
use crate::protect::stats::{self, ProtectStats};
use crate::server::Shared;
use crate::settings::{Priority, RateLimitSettings};

#[derive(Debug, Serialize)]
struct ProtectionView<'p> {
    /// The limit for every route together.
    rate_limit: Option<RateLimitView<'p>>,
    routes: Vec<PolicyView<'p>>,
    issuers: Vec<IssuerView<'p>>,
    shedding: SheddingView,
    concurrency: Vec<ConcurrencyView<'p>>,
}

#[derive(Debug, Serialize)]
struct RateLimitView<'p> {
    #[serde(flatten)]
    settings: &'p RateLimitSettings,
    /// Clients remembered now.
    clients: usize,
}

#[derive(Debug, Serialize)]
struct PolicyView<'p> {
    /// Empty for what no route claims.
    route: &'p str,
    priority: Priority,
    rate_limit: Option<RateLimitView<'p>>,
    /// Refused by a rate limit, the global one included.
    rate_limited: u64,
    issuer: Option<&'p str>,
    scopes: &'p [String],
    /// Refused for want of a valid token, by reason.
    unauthorized: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct IssuerView<'p> {
    name: &'p str,
    jwks_url: &'p str,
    jwks_file: &'p str,
    keys: usize,
    /// Null while there are no keys.
    age_s: Option<u64>,
    failures: u64,
    /// Why the last fetch failed, if it did.
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct SheddingView {
    /// Requests in flight, by worker.
    in_flight: Vec<u64>,
    /// Lag of the event loop in microseconds, by worker; 0 where shedding is off.
    lag_us: Vec<u128>,
    /// Requests refused, by priority and reason.
    refused: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct ConcurrencyView<'p> {
    upstream: &'p str,
    /// Requests at once, over all workers.
    limit: u64,
    refused: u64,
}

pub(super) async fn show(shared: Data<Shared>) -> impl Responder {
    let plan = shared.plan();
    let protection = &plan.protection;
    let workers: Vec<&ProtectStats> = shared.stats.iter().map(|worker| &worker.protect).collect();
    let view = ProtectionView {
        rate_limit: protection.global.as_deref().map(rate_limit),
        routes: protection.policies().map(route).collect(),
        issuers: protection.providers.iter().map(|provider| issuer(provider)).collect(),
        shedding: SheddingView {
            in_flight: shared.stats.iter().map(|worker| worker.in_flight()).collect(),
            lag_us: workers.iter().map(|worker| worker.lag.get().as_micros()).collect(),
            refused: stats::shed(&workers)
                .into_iter()
                .map(|(priority, reason, count)| (format!("{priority}/{reason}"), count))
                .collect(),
        },
        concurrency: concurrency(protection, &workers),
    };
    // The view borrows of `shared`, which ends here.
    Json(serde_json::to_value(view).unwrap_or_default())
}

fn rate_limit(limit: &RateLimit) -> RateLimitView<'_> {
    RateLimitView { settings: &limit.settings, clients: limit.clients() }
}

fn route(policy: &Policy) -> PolicyView<'_> {
    PolicyView {
        route: &policy.name,
        priority: policy.priority,
        rate_limit: policy.rate_limit.as_deref().map(rate_limit),
        rate_limited: policy.counts.limited(),
        issuer: policy.jwt.as_ref().map(|rule| rule.provider.name.as_str()),
        scopes: policy.jwt.as_ref().map_or(&[], |rule| rule.scopes.as_slice()),
        unauthorized: policy.counts.unauthorized().filter(|(_, count)| *count > 0).collect(),
    }
}

fn issuer(provider: &Provider) -> IssuerView<'_> {
    let keys = provider.keys.load();
    IssuerView {
        name: &provider.name,
        jwks_url: &provider.settings.jwks_url,
        jwks_file: &provider.settings.jwks_file,
        keys: keys.keys.len(),
        age_s: keys.fetched.map(|fetched| fetched.elapsed().as_secs()),
        failures: provider.refresh.failures.load(Relaxed),
        trouble: provider.refresh.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}

fn concurrency<'p>(protection: &'p Protection, workers: &[&ProtectStats]) -> Vec<ConcurrencyView<'p>> {
    let named = protection.upstreams.iter().enumerate();
    let limited = named.filter(|(_, name)| protection.adaptive.upstreams.contains(name));
    let view = |(place, name): (usize, &'p String)| {
        let (limit, refused) = stats::concurrency(workers, place);
        ConcurrencyView { upstream: name, limit, refused }
    };
    limited.map(view).collect()
}
