//! What one client may ask for.
//!
//! Invariant: every default is far above what an honest client needs, and far below what would hurt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients may ask for: sizes, counts and how slow they may be. A request beyond is refused with problem+json.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Connections of clients that are open at once, over all workers; not 0. One more is answered with 503 and closed
    /// (over TLS closed at once), so that its client can go to another instance. Too low and clients are turned away;
    /// above the limit of open files, accepting fails instead. An upgraded connection counts, too.
    pub connections: u64,
    /// Requests on one connection, then it is closed after the answer; not 0. Too low costs handshakes; too high and
    /// clients stay with one instance for ever.
    pub requests_per_connection: u32,
    /// Bytes of a request's line and headers together, from 1024 up; more is answered with 431. Too low refuses large
    /// cookies; too high lets every connection hold that much memory.
    pub header_bytes: usize,
    /// Headers of a request, from 1 to 1000; more are answered with 431. Above 100, each request costs memory in advance.
    pub header_count: usize,
    /// Bytes of a request's target (path and query), from 1 to 65534; more is answered with 414. Too low refuses long
    /// queries.
    pub target_bytes: usize,
    /// Bytes of a request's body, answered with 413 when exceeded: at once if its length is announced, else on the way;
    /// 0 sets no limit. Bodies are never held whole, so this protects the upstreams, not the facade.
    pub body_bytes: u64,
    /// Bytes per second that a request's body brings at least, measured while it is waited for and after the first five
    /// seconds; slower is answered with 408. 0 sets no limit, and a client that sends a byte now and then holds an
    /// upstream's connection.
    pub body_bytes_per_s: u64,
    /// Milliseconds for which a connection without a request is kept open; not 0. Too low costs handshakes; too high
    /// and idle connections hold memory.
    pub keep_alive_ms: u64,
    /// Milliseconds without a byte in either direction after which an upgraded connection (WebSocket) is closed; not 0.
    /// Too low cuts off quiet clients that do not ping; too high and dead ones are kept.
    pub upgrade_idle_ms: u64,
    /// Milliseconds for an upstream to ask for a body that waits for `100 Continue`, then the client is told to send
    /// it; not 0. Too high and uploads to upstreams that never ask begin late.
    pub continue_ms: u64,
    /// What HTTP/2 adds.
    pub http2: Http2Settings,
}

/// HTTP/2 to clients: offered over TLS by ALPN, and in cleartext to clients that know it beforehand.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http2Settings {
    /// Whether clients may speak it. Off, and they speak HTTP/1.1.
    pub enabled: bool,
    /// Requests on one connection at once; not 0. Too low slows pages with many parts; too high lets one client take
    /// many upstream connections.
    pub streams: u32,
    /// Requests that a client may cancel before they are looked at; not 0. More of them close the connection, since
    /// opening and cancelling streams is the cheapest way to keep a server busy.
    pub cancelled_streams: usize,
    /// Milliseconds after which a quiet connection is asked for a sign of life; 0 never asks, and connections to
    /// clients that vanished stay until `keep_alive_ms`.
    pub ping_ms: u64,
    /// Milliseconds to give that sign of life, or the connection is closed; not 0. Too low cuts off clients on bad lines.
    pub ping_timeout_ms: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections: 20_000,
            requests_per_connection: 100_000,
            header_bytes: 32 * 1024,
            header_count: 100,
            target_bytes: 8 * 1024,
            body_bytes: 4 * 1024 * 1024 * 1024,
            body_bytes_per_s: 240,
            keep_alive_ms: 60_000,
            upgrade_idle_ms: 600_000,
            continue_ms: 1_000,
            http2: Http2Settings::default(),
        }
    }
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self { enabled: true, streams: 128, cancelled_streams: 20, ping_ms: 30_000, ping_timeout_ms: 20_000 }
    }
}
