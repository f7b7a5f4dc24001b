//! The settings of the client side, checked.
//!
//! Invariant: no limit is one that nothing could ever meet.

use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::client::tls::{Http2, Tls};
use crate::settings::{Http2Settings, LimitSettings, Settings};
use crate::strict;

/// A request's time from its first byte to here is not held against it; then its body must keep up the rate.
const RATE_GRACE: Duration = Duration::from_secs(5);
/// hyper's own bound.
const LONGEST_TARGET: usize = 65_534;

/// What clients may do, in checked form.
#[derive(Debug)]
pub(crate) struct ClientPlan {
    pub(crate) tls: Option<Tls>,
    pub(crate) connections: u64,
    pub(crate) requests_per_connection: u32,
    pub(crate) header_bytes: usize,
    pub(crate) header_count: usize,
    pub(crate) target_bytes: usize,
    pub(crate) body: BodyLimits,
    pub(crate) head: Duration,
    pub(crate) keep_alive: Duration,
    /// How long an answer may wait for the client to read on.
    pub(crate) stall: Duration,
    pub(crate) upgrade_idle: Duration,
    pub(crate) http2: Http2Plan,
}

/// How large and how slow a request's body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) most: u64,
    pub(crate) idle: Duration,
    pub(crate) bytes_per_s: u64,
    pub(crate) grace: Duration,
    /// How long a body that waits for `100 Continue` waits for the upstream to ask for it.
    pub(crate) wait: Duration,
}

/// What HTTP/2 adds.
#[derive(Debug)]
pub(crate) struct Http2Plan {
    pub(crate) enabled: bool,
    pub(crate) streams: u32,
    pub(crate) cancelled_streams: usize,
    pub(crate) ping: Option<Duration>,
    pub(crate) ping_timeout: Duration,
}

impl ClientPlan {
    /// The sizes that the check of the bytes keeps to.
    pub(crate) fn strict(&self) -> strict::Limits {
        strict::Limits { target: self.target_bytes, head: self.header_bytes, fields: self.header_count }
    }

    pub(crate) fn new(settings: &Settings, errors: &mut Vec<String>) -> Self {
        let limits = &settings.limits;
        check_sizes(limits, errors);
        check_listeners(settings, errors);
        let offer = if limits.http2.enabled { Http2::Offered } else { Http2::Withheld };
        let unlimited = |value: u64| if value == 0 { u64::MAX } else { value };
        Self {
            tls: Tls::new(&settings.tls, offer, errors),
            connections: limits.connections,
            requests_per_connection: limits.requests_per_connection,
            header_bytes: limits.header_bytes,
            header_count: limits.header_count,
            target_bytes: limits.target_bytes,
            body: BodyLimits {
                most: unlimited(limits.body_bytes),
                idle: Duration::from_millis(settings.timeouts.body_idle_ms),
                bytes_per_s: limits.body_bytes_per_s,
                grace: RATE_GRACE,
                wait: Duration::from_millis(limits.continue_ms),
            },
            head: Duration::from_millis(settings.timeouts.client_header_ms),
            keep_alive: Duration::from_millis(limits.keep_alive_ms),
            stall: Duration::from_millis(settings.timeouts.body_idle_ms),
            upgrade_idle: Duration::from_millis(limits.upgrade_idle_ms),
            http2: http2(&limits.http2),
        }
    }
}

fn http2(settings: &Http2Settings) -> Http2Plan {
    Http2Plan {
        enabled: settings.enabled,
        streams: settings.streams,
        cancelled_streams: settings.cancelled_streams,
        ping: (settings.ping_ms > 0).then(|| Duration::from_millis(settings.ping_ms)),
        ping_timeout: Duration::from_millis(settings.ping_timeout_ms),
    }
}

fn check_sizes(limits: &LimitSettings, errors: &mut Vec<String>) {
    let positive = [
        ("connections", limits.connections),
        ("requests_per_connection", u64::from(limits.requests_per_connection)),
        ("keep_alive_ms", limits.keep_alive_ms),
        ("upgrade_idle_ms", limits.upgrade_idle_ms),
        ("continue_ms", limits.continue_ms),
        ("http2.streams", u64::from(limits.http2.streams)),
        ("http2.cancelled_streams", limits.http2.cancelled_streams as u64),
        ("http2.ping_timeout_ms", limits.http2.ping_timeout_ms),
    ];
    for (name, value) in positive {
        if value == 0 {
            errors.push(format!("setting `limits.{name}` is 0, which nothing could meet; set 1 or more"));
        }
    }
    let ranges = [
        ("header_bytes", limits.header_bytes, 1024..=1024 * 1024),
        ("header_count", limits.header_count, 1..=1000),
        ("target_bytes", limits.target_bytes, 1..=LONGEST_TARGET),
    ];
    for (name, value, range) in ranges {
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            errors.push(format!("setting `limits.{name}` is {value}; set {low} to {high}"));
        }
    }
}

fn check_listeners(settings: &Settings, errors: &mut Vec<String>) {
    let listens = [("listen", &settings.listen), ("tls.listen", &settings.tls.listen)];
    if listens.iter().all(|(_, listen)| listen.is_empty()) {
        errors.push(
            "settings `listen` and `tls.listen` are both empty, so no client could connect; set one"
                .to_owned(),
        );
    }
    for (name, listen) in listens {
        let is_address = || listen.to_socket_addrs().is_ok_and(|mut addresses| addresses.next().is_some());
        if !listen.is_empty() && !is_address() {
            errors.push(format!(
                "setting `{name}`: `{listen}` is not an address to listen on; write it as 127.0.0.1:8080"
            ));
        }
    }
}
