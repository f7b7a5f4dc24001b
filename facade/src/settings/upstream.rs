//! What `facade.toml` may say of one upstream: its instances, and what is done when they fail.
//!
//! Invariant: every protection has a default that suits a service with one instance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A server that requests are forwarded to, on one or several instances.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// `http://host:port`, without a path; no HTTPS. Wrong, and its requests are answered with 502.
    pub url: String,
    /// Several of them, in place of `url`. One that is no instance of this upstream answers for it all the same.
    pub instances: Vec<String>,
    /// Share of each instance, in the order of `instances`, from 1 to 100; left out, all are equal. Wrong, and a small
    /// instance gets more than it can take.
    pub weights: Vec<u32>,
    /// How an instance is chosen. With `round_robin` and `random` a slow instance gets as much as a quick one.
    pub balance: Balance,
    /// What is done while every instance is put aside. With `try_all` a service that has failed gets all load again.
    pub when_none_healthy: WhenNoneHealthy,
    /// Requests that ask instances how they are.
    pub health: HealthSettings,
    /// When an instance that fails is put aside.
    pub ejection: EjectionSettings,
    /// When an upstream that fails is no longer asked.
    pub breaker: BreakerSettings,
    /// How many requests may be in flight.
    pub bulkhead: BulkheadSettings,
    /// When a request is sent again.
    pub retry: RetrySettings,
}

/// How an instance is chosen; each worker chooses for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Any.
    Random,
    /// Of two taken at random, the one with fewer requests in flight.
    LeastRequests,
}

/// What is done while every instance is put aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenNoneHealthy {
    /// 503 at once.
    #[default]
    Refuse,
    /// As if all were healthy.
    TryAll,
}

/// Requests that ask each instance how it is, whether clients do or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Path that is asked with GET; empty means that nothing is asked. One that says "well" whatever happens is worse
    /// than none.
    pub path: String,
    /// Milliseconds between two questions; not 0. Too high and a failure is seen late.
    pub interval_ms: u64,
    /// Milliseconds that an answer may take; not 0. Too low and a busy instance counts as failed.
    pub timeout_ms: u64,
    /// Statuses of an instance in good health. One left out counts as failed.
    pub statuses: Vec<u16>,
    /// Failures in a row after which an instance gets no requests; not 0.
    pub unhealthy_after: u32,
    /// Successes in a row after which it gets them again; not 0.
    pub healthy_after: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            path: String::new(),
            interval_ms: 5_000,
            timeout_ms: 2_000,
            statuses: vec![200, 204],
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }
}

/// When an instance that fails is put aside for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EjectionSettings {
    /// Failures in a row that put an instance aside; 0 means never. Too low and a single hiccup does.
    pub failures: u32,
    /// Statuses that count as failures, from 500 to 599, for ejection and breaker alike. One that the application
    /// answers with in good health puts healthy instances aside.
    pub statuses: Vec<u16>,
    /// Milliseconds that the first ejection lasts, not 0; each further one lasts longer by as much. Too low and a dead
    /// instance is asked often.
    pub base_ms: u64,
    /// Milliseconds that an ejection lasts at most. Too high and an instance that recovered stays unused.
    pub most_ms: u64,
    /// Percentage of the instances that may be aside at once, from 0 to 100. Too high and one fault that all share
    /// leaves none.
    pub most_percent: u32,
}

/// When an upstream that fails is no longer asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Percentage of failures that opens the breaker, up to 100; 0 means never. Too low and it opens on a few slow
    /// answers.
    pub failure_percent: u32,
    /// Requests within the window below which it never opens. Too low and single failures open it.
    pub least_requests: u64,
    /// Milliseconds over which failures are counted; not 0. Too long and old failures count after a recovery.
    pub window_ms: u64,
    /// Milliseconds that it stays open, with up to a fifth more at random; not 0. Too low and a service that starts is
    /// disturbed; too high and clients miss one that is back.
    pub open_ms: u64,
    /// Requests let through when that time is over, all of which must succeed to close it; not 0.
    pub probes: u32,
}

/// How many requests may be in flight, over all workers and instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BulkheadSettings {
    /// Requests in flight at most; 0 means any number. Too low and requests are refused that could be served.
    pub most: u32,
    /// Requests that may wait for a place. Too high and clients wait for what will be refused.
    pub queue: u32,
    /// Milliseconds that one may wait.
    pub wait_ms: u64,
}

/// When a request is sent again: if it was provably not sent, or is safe and has no body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Attempts in all, at least 1. Too high and clients wait longer for an error.
    pub attempts: u32,
    /// Percentage of requests that may be sent again, up to 100, counted by each worker. Too high and retries add to
    /// an overload.
    pub budget_percent: u32,
    /// What each worker may send again in a second whatever the percentage.
    pub budget_per_second: u32,
    /// Milliseconds at most, taken at random, before the same instance is tried again; another is tried at once.
    pub backoff_ms: u64,
}

impl Default for EjectionSettings {
    fn default() -> Self {
        Self { failures: 3, statuses: Vec::new(), base_ms: 5_000, most_ms: 60_000, most_percent: 50 }
    }
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failure_percent: 50, least_requests: 20, window_ms: 10_000, open_ms: 2_000, probes: 3 }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 3, budget_percent: 20, budget_per_second: 10, backoff_ms: 10 }
    }
}
