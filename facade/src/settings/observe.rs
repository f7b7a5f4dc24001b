//! What is told of requests: the access log, and traces that begin here.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line per request. Off by default, because writing it costs more than forwarding a small request does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// `off`, `json` (one object a line) or `common` (the Common Log Format, which knows fewer fields).
    pub format: AccessLogFormat,
    /// `stdout`, `stderr` or a file, which is opened for appending and opened anew on SIGHUP. A file that cannot be
    /// opened keeps the facade from starting.
    pub path: PathBuf,
    /// Share of requests that are logged, 0 to 1. Answers from 500 on and requests without an answer are logged
    /// always. Too high and the disk fills up; too low and rare requests are never seen.
    pub sample: f64,
    /// Names of query parameters whose values are replaced by `***`, in any case of letters. One left out stands in
    /// the log for everybody who reads it.
    pub masked: Vec<String>,
    /// Lines that wait for the disk at most; those beyond are dropped and counted, because no request waits for its
    /// line. Too few and bursts are lost; each takes about 300 bytes while it waits.
    pub queue_lines: usize,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// No access log.
    #[default]
    Off,
    /// One JSON object a line.
    Json,
    /// The Common Log Format.
    Common,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        let masked = ["access_token", "api_key", "apikey", "auth", "code", "key", "password", "secret"];
        let masked = masked.into_iter().chain(["sig", "signature", "token"]);
        Self {
            format: AccessLogFormat::Off,
            path: PathBuf::from("stdout"),
            sample: 1.0,
            masked: masked.map(str::to_owned).collect(),
            queue_lines: 8_192,
        }
    }
}

/// What happens to requests without a trace (W3C Trace Context). A valid trace of the client passes as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// `unsampled` begins a trace that upstreams may record or not, `sampled` asks them to record it, `none` begins
    /// none. With `unsampled`, upstreams that go by their caller's choice record nothing of such requests.
    pub begin: TraceBegin,
}

/// Which traces are begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TraceBegin {
    /// Traces with the flag `sampled` off, as the specification wants it of one who records nothing (§3.2.2.5).
    #[default]
    Unsampled,
    /// Traces with the flag `sampled` on.
    Sampled,
    /// None.
    None,
}
