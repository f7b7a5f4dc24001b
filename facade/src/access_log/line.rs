//! One request as a line: JSON, or the Common Log Format.
//!
//! Invariant: whatever a client sends, its request is one line, and the value of a masked parameter is not in it.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use control::Side;
use http::header::HeaderValue;
use http::{Method, Uri, Version};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::plan::{ContextId, Plan, UpstreamId};
use crate::settings::AccessLogFormat;
use crate::trace::trace_id;

/// What is to be said of a request, as the worker knew it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) plan: Arc<Plan>,
    /// When the request began.
    pub(crate) time: SystemTime,
    pub(crate) took: Duration,
    pub(crate) client: HeaderValue,
    pub(crate) method: Method,
    pub(crate) target: Uri,
    pub(crate) version: Version,
    /// None: the client went away before there was an answer.
    pub(crate) status: Option<u16>,
    /// Bytes of the answer's body.
    pub(crate) bytes: u64,
    pub(crate) context: Option<ContextId>,
    /// Who answered; none where the facade did before it had chosen.
    pub(crate) upstream: Option<(Side, UpstreamId)>,
    pub(crate) request_id: Option<HeaderValue>,
    pub(crate) traceparent: Option<HeaderValue>,
    pub(crate) fell_back: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    time: String,
    client: &'a str,
    method: &'a str,
    target: &'a str,
    protocol: &'a str,
    status: Option<u16>,
    bytes: u64,
    duration_ms: f64,
    context: Option<&'a str>,
    side: Option<Side>,
    upstream: Option<&'a str>,
    request_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    fell_back: bool,
}

/// Turns requests into lines.
#[derive(Debug)]
pub(super) struct Writer {
    format: AccessLogFormat,
    /// In lower case.
    masked: Vec<String>,
}

impl Writer {
    pub(super) fn new(format: AccessLogFormat, masked: Vec<String>) -> Self {
        Self { format, masked }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, line: &Line) {
        let target = told(&line.target);
        let target = mask(&target, &self.masked);
        match self.format {
            AccessLogFormat::Common => common(out, line, &target),
            _ => json(out, line, &target),
        }
    }
}

/// The target as it was asked for. A user's name and password, which a refused request may have, stand in no log.
fn told(target: &Uri) -> String {
    match target.authority() {
        Some(host) if host.as_str().contains('@') => {
            target.path_and_query().map_or("-", |path| path.as_str()).to_owned()
        }
        _ => target.to_string(),
    }
}

fn json(out: &mut Vec<u8>, line: &Line, target: &str) {
    let document = Document {
        time: timestamp(line.time).map(|time| format!("{time:.3}")).unwrap_or_default(),
        client: text(&line.client),
        method: line.method.as_str(),
        target,
        protocol: protocol(line.version),
        status: line.status,
        bytes: line.bytes,
        duration_ms: (line.took.as_secs_f64() * 1e6).round() / 1e3,
        context: line.context.and_then(|id| line.plan.context(id)).map(|context| context.name.as_str()),
        side: line.upstream.map(|(side, _)| side),
        upstream: line.upstream.and_then(|(_, id)| line.plan.upstream(id)).map(|found| found.name.as_str()),
        request_id: line.request_id.as_ref().map(text),
        trace_id: line.traceparent.as_ref().map(trace_id),
        fell_back: line.fell_back,
    };
    // Writing into a buffer that grows cannot fail.
    let _ = serde_json::to_writer(&mut *out, &document);
    out.push(b'\n');
}

/// As the W3C's httpd wrote it: client, two names that nobody knows, time, request line, status, bytes.
fn common(out: &mut Vec<u8>, line: &Line, target: &str) {
    let time = timestamp(line.time).map(|time| time.to_zoned(TimeZone::UTC));
    let time = time.map(|time| time.strftime("%d/%b/%Y:%H:%M:%S %z").to_string()).unwrap_or_default();
    let (client, method, protocol) = (text(&line.client), &line.method, protocol(line.version));
    // 499: no answer, because the client went away; nginx's word for it.
    let status = line.status.unwrap_or(499);
    let _ = write!(out, "{client} - - [{time}] \"{method} ");
    for byte in target.bytes() {
        let _ = match byte {
            b'"' | b'\\' | 0x7f.. | ..b' ' => write!(out, "\\x{byte:02X}"),
            _ => out.write_all(&[byte]),
        };
    }
    let _ = writeln!(out, " {protocol}\" {status} {}", line.bytes);
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// The target with `***` in place of the values of masked parameters.
fn mask<'t>(target: &'t str, masked: &[String]) -> Cow<'t, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    let is_masked = |pair: &str| {
        let name = pair.split_once('=').map_or("", |(name, _)| name);
        masked.contains(&decoded(name).to_ascii_lowercase())
    };
    if !query.split(['&', ';']).any(is_masked) {
        return Cow::Borrowed(target);
    }
    let mut safe = format!("{path}?");
    for pair in query.split_inclusive(['&', ';']) {
        let bare = pair.trim_end_matches(['&', ';']);
        match bare.split_once('=') {
            Some((name, _)) if is_masked(bare) => {
                safe.push_str(name);
                safe.push_str("=***");
                safe.push_str(pair.get(bare.len()..).unwrap_or_default());
            }
            _ => safe.push_str(pair),
        }
    }
    Cow::Owned(safe)
}

/// A parameter's name as an upstream reads it: `%74oken` is `token`.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
impl Line {
    /// A line as good as any.
    pub(super) fn sample() -> Self {
        let mut settings = crate::settings::Settings::default();
        settings.control.path = "control.db".into();
        settings.upstreams.entry("monolith".to_owned()).or_default().url = "http://127.0.0.1:1".to_owned();
        Self {
            plan: Arc::new(Plan::new(&settings).unwrap()),
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_123),
            took: Duration::from_micros(1_234),
            client: HeaderValue::from_static("192.0.2.7"),
            method: Method::GET,
            target: Uri::from_static("/a?b=1&token=secret"),
            version: Version::HTTP_11,
            status: Some(200),
            bytes: 7,
            context: None,
            upstream: Some((Side::Monolith, UpstreamId(0))),
            request_id: Some(HeaderValue::from_static("r-1")),
            traceparent: Some(HeaderValue::from_static(
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )),
            fell_back: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: AccessLogFormat, line: &Line) -> String {
        let mut out = Vec::new();
        Writer::new(format, vec!["token".to_owned()]).write(&mut out, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_line_says_everything_but_secrets() {
        let line = written(AccessLogFormat::Json, &Line::sample());
        let expected = concat!(
            r#"{"time":"1970-01-02T00:00:00.123Z","client":"192.0.2.7","method":"GET","target":"/a?b=1&token=***","#,
            r#""protocol":"HTTP/1.1","status":200,"bytes":7,"duration_ms":1.234,"context":null,"side":"monolith","#,
            r#""upstream":"monolith","request_id":"r-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","fell_back":false}"#,
            "\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_users_password_is_not_told() {
        let target = Uri::from_static("http://ann:s3cret@shop/a?b");
        let line = written(AccessLogFormat::Json, &Line { target, ..Line::sample() });
        assert!(line.contains(r#""target":"/a?b""#) && !line.contains("s3cret"), "{line}");
    }

    #[test]
    fn a_common_line_is_as_every_tool_reads_it() {
        let target = Uri::from_static("/a\"b?token=secret");
        let line = written(AccessLogFormat::Common, &Line { target, ..Line::sample() });
        let expected =
            "192.0.2.7 - - [02/Jan/1970:00:00:00 +0000] \"GET /a\\x22b?token=*** HTTP/1.1\" 200 7\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn every_spelling_of_a_masked_parameter_is_masked() {
        let masked = ["token".to_owned(), "key".to_owned()];
        for (target, safe) in [
            ("/a", "/a"),
            ("/token=1", "/token=1"),
            ("/a?tokens=1&b", "/a?tokens=1&b"),
            ("/a?TOKEN=1&b=2", "/a?TOKEN=***&b=2"),
            ("/a?%74oken=1;key=2=3&token", "/a?%74oken=***;key=***&token"),
            ("/a?x=1&token=", "/a?x=1&token=***"),
        ] {
            assert_eq!(mask(target, &masked), safe);
        }
    }
}
