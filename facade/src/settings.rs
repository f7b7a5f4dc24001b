//! What `facade.toml` may say.
//!
//! Invariant: these are the words as written; only [`crate::plan::Plan`] knows whether they make sense together.

mod dns;
mod flags_copy;
mod forwarded;
mod limits;
mod observe;
mod overrides;
mod protect;
mod reload;
mod route;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use control::{ControlSettings, DataMode};
use platform::settings::{Loaded, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use dns::{DnsFamily, DnsSettings};
pub use flags_copy::FlagsCopySettings;
pub use forwarded::{ForwardedSettings, ForwardedSource};
pub use limits::{Http2Settings, LimitSettings};
pub use observe::{AccessLogFormat, AccessLogSettings, TraceBegin, TraceSettings};
pub use overrides::OverrideSettings;
pub use protect::{
    AdaptiveSettings, Algorithm, JwtRuleSettings, JwtSettings, Period, Priority, RateKey, RateLimitSettings,
    SheddingSettings,
};
pub use reload::ReloadSettings;
pub use route::{HeaderSettings, RouteSettings};
pub use tls::{CertificateSettings, TlsSettings, TlsVersion};
pub use upstream::{
    Balance, BreakerSettings, BulkheadSettings, EjectionSettings, HealthSettings, RetrySettings,
    UpstreamSettings, WhenNoneHealthy,
};

/// Name of the settings file that is read when none is named.
pub const DEFAULT_FILE: &str = "facade.toml";

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port where clients connect in cleartext; port 0 takes a free one, which is printed. Empty means no
    /// cleartext, and then `tls.listen` is needed.
    pub listen: String,
    /// Address and port where the admin API listens. Whoever reaches it can move traffic, so without `admin_token`
    /// only a loopback address is accepted.
    pub admin_listen: String,
    /// Bearer token that the admin API asks for; empty means none.
    pub admin_token: Secret,
    /// Worker threads of the data plane, at most 512; 0 means one per core. Too few and requests queue while cores
    /// idle; more than cores does not help.
    pub workers: usize,
    /// Seconds that requests in flight get to end at shutdown. Too short and clients see broken connections at every
    /// restart; too long and a stuck request delays it.
    pub shutdown_timeout_s: u64,
    /// Name of the upstream that gets everything no route claims, and what a context's service does not own. The
    /// facade does not start without such an upstream.
    pub monolith: String,
    /// Path prefixes on which upstreams speak to each other: never forwarded, but answered with 404. Left out, and
    /// clients reach the private endpoints, which only their tokens then guard.
    pub private: Vec<String>,
    /// Where flags live.
    pub control: ControlSettings,
    /// The copy of the last known flags, for a start while the control store cannot be reached.
    pub flags_copy: FlagsCopySettings,
    /// Unix socket by which `facade upgrade` takes the listening sockets over; whoever runs as the same user may. Empty,
    /// and a new process can only start once the old one has ended. A relative path means one beside the settings file.
    pub upgrade_socket: PathBuf,
    /// TLS to clients.
    pub tls: TlsSettings,
    /// What one client may ask for.
    pub limits: LimitSettings,
    /// How long upstreams and clients may take.
    pub timeouts: Timeouts,
    /// When the monolith answers for a failing service.
    pub fallback: Fallback,
    /// How testers choose the side that answers them.
    pub overrides: OverrideSettings,
    /// How new settings come in while the facade runs.
    pub reload: ReloadSettings,
    /// One line per request.
    pub access_log: AccessLogSettings,
    /// Which traces begin here.
    pub trace: TraceSettings,
    /// Where requests come from, and what upstreams are told of it.
    pub forwarded: ForwardedSettings,
    /// How many requests a client may send in all, whatever the route; left out, there is no such limit.
    pub rate_limit: Option<RateLimitSettings>,
    /// Issuers of tokens by name; routes say which one they ask for.
    pub jwt: BTreeMap<String, JwtSettings>,
    /// When requests are refused for load.
    pub shedding: SheddingSettings,
    /// How many requests upstreams get at once, found by their latency.
    pub adaptive: AdaptiveSettings,
    /// How names in URLs of upstreams become addresses.
    pub dns: DnsSettings,
    /// Servers by name.
    pub upstreams: BTreeMap<String, UpstreamSettings>,
    /// Contexts by name.
    pub contexts: BTreeMap<String, ContextSettings>,
    /// Which requests belong to which context or upstream; the most specific route wins, wherever it stands.
    pub routes: Vec<RouteSettings>,
}

/// How long upstreams and clients may take, in milliseconds; 0 is refused but where it is said to have a meaning.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Milliseconds for a connection to an upstream to be made; not 0. Too low turns packet loss into errors; too
    /// high and clients wait for a host that is gone.
    pub connect_ms: u64,
    /// Milliseconds from the end of a request to the head of its answer, then the client gets 504; not 0. Too low and
    /// slow answers are lost although the work was done.
    pub header_ms: u64,
    /// Milliseconds from the moment a request is forwarded to the head of its answer, with all attempts and the
    /// request's own body; 0 means no such limit. Too low and long uploads are cut off. The answer's body is limited by
    /// `body_idle_ms` alone.
    pub total_ms: u64,
    /// The same for reads in canary, where the monolith can answer instead, in milliseconds; not 0. Too high and a
    /// frozen service is felt; too low and its slower answers are thrown away.
    pub canary_header_ms: u64,
    /// Milliseconds between two pieces of a body, in either direction; not 0. Too low breaks slow transfers off; too
    /// high and stuck ones hold connections.
    pub body_idle_ms: u64,
    /// Milliseconds for a client to send the head of a request, from its first byte, and to begin the first one on a new
    /// connection; not 0. Too low and slow clients are cut off; too high and dawdling ones hold connections.
    pub client_header_ms: u64,
}

/// When the monolith answers for a failing service. Only canary reads ever fall back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fallback {
    /// Statuses of the service that count as failed, from 500 to 599. One left out reaches clients as it is.
    pub statuses: Vec<u16>,
    /// Answers up to this many bytes are held until complete, so that a body that breaks off falls back too. Too low
    /// and broken answers reach clients; too high costs memory for each read.
    pub hold_bytes: usize,
    /// Milliseconds after which an answer that trickles is passed on, complete or not. Too low and broken answers
    /// reach clients; too high and slow answers begin late.
    pub hold_ms: u64,
}

/// A context: the part of the application that is being taken out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ContextSettings {
    /// Name of the upstream that is the extracted service. The facade does not start without such an upstream.
    pub service: String,
    /// Which databases the two sides have. `shared` where each has its own loses writes.
    pub data: DataMode,
    /// Where the sticky key is found, in this order; the first that is there counts. A request without a key is read
    /// from the service only at 100 %.
    pub key: Vec<KeySource>,
}

impl Default for ContextSettings {
    fn default() -> Self {
        Self { service: String::new(), data: DataMode::Replicated, key: Vec::new() }
    }
}

/// One place where a sticky key may be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// A path with `{key}` in place of the key: `/api/v1/users/{key}`.
    PathSegment(String),
    /// A request header by name.
    Header(String),
    /// A cookie by name.
    Cookie(String),
    /// A claim by name of the token that the route asks for with `jwt`; `/a/b` finds a claim inside another. On a route that
    /// asks for none there is no such key.
    JwtClaim(String),
    /// The address of the client's connection.
    ClientAddress(bool),
}

impl Settings {
    /// What was loaded; a relative path in the file means a path beside the file.
    pub fn located(mut loaded: Loaded<Self>) -> Self {
        loaded.settings.control.path = loaded.located("control.path", &loaded.settings.control.path);
        if !["stdout", "stderr"].iter().any(|stream| loaded.settings.access_log.path == Path::new(stream)) {
            let log = loaded.located("access_log.path", &loaded.settings.access_log.path);
            loaded.settings.access_log.path = log;
        }
        let Loaded { mut settings, file, .. } = loaded;
        if settings.flags_copy_path().is_none() && settings.flags_copy.enabled {
            settings.flags_copy.path = PathBuf::from("facade.flags.json");
        }
        let Some(folder) = file.as_deref().and_then(Path::parent) else { return settings };
        let own = [&mut settings.upgrade_socket, &mut settings.flags_copy.path];
        let paths = own.into_iter().chain(settings.tls.paths_mut());
        for path in paths.filter(|path| path.is_relative() && !path.as_os_str().is_empty()) {
            *path = folder.join(&*path);
        }
        settings
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            admin_listen: "127.0.0.1:8081".to_owned(),
            admin_token: Secret::default(),
            workers: 0,
            shutdown_timeout_s: 10,
            monolith: "monolith".to_owned(),
            private: Vec::new(),
            control: ControlSettings::default(),
            flags_copy: FlagsCopySettings::default(),
            upgrade_socket: PathBuf::new(),
            tls: TlsSettings::default(),
            limits: LimitSettings::default(),
            timeouts: Timeouts::default(),
            fallback: Fallback::default(),
            overrides: OverrideSettings::default(),
            reload: ReloadSettings::default(),
            access_log: AccessLogSettings::default(),
            trace: TraceSettings::default(),
            forwarded: ForwardedSettings::default(),
            rate_limit: None,
            jwt: BTreeMap::new(),
            shedding: SheddingSettings::default(),
            adaptive: AdaptiveSettings::default(),
            dns: DnsSettings::default(),
            upstreams: BTreeMap::new(),
            contexts: BTreeMap::new(),
            routes: Vec::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 1_000,
            header_ms: 30_000,
            total_ms: 0,
            canary_header_ms: 2_000,
            body_idle_ms: 60_000,
            client_header_ms: 60_000,
        }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self { statuses: vec![500, 502, 503, 504], hold_bytes: 64 * 1024, hold_ms: 1_000 }
    }
}
