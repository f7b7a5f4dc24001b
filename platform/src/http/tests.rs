//! What clients see of a real server on a port of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;

use super::{Health, HttpSettings, request_info, serve_with_metrics};
use crate::metrics::Metrics;
use crate::problem::Problem;

const LARGE: usize = 4096;

fn routes(config: &mut ServiceConfig) {
    let json = |bytes| HttpResponse::Ok().content_type("application/json").body("1".repeat(bytes));
    config
        .route("/things/{id}", web::get().to(move |_: web::Path<u32>| async move { json(5) }))
        .route("/large", web::get().to(move || async move { json(LARGE) }))
        .route("/body", web::post().to(|body: Bytes| async move { body.len().to_string() }))
        .route("/panic", web::get().to(fails))
        .route("/own", web::get().to(own))
        .route("/trace", web::get().to(trace))
        .route("/refuse", web::get().to(|| async { refuse() }));
}

fn refuse() -> Result<HttpResponse, Problem> {
    Err(Problem::new(StatusCode::CONFLICT).detail("mine"))
}

#[expect(clippy::panic, reason = "this is what the server has to survive")]
async fn fails() -> HttpResponse {
    panic!("on purpose")
}

async fn own() -> HttpResponse {
    let headers = [("content-security-policy", "script-src 'self'"), ("cache-control", "max-age=60")];
    let mut response = HttpResponse::Ok();
    headers.into_iter().fold(&mut response, |response, header| response.insert_header(header)).finish()
}

async fn trace(request: HttpRequest) -> HttpResponse {
    let info = request_info(&request);
    assert_eq!(info, request_info(&request));
    HttpResponse::Ok().body(format!("{} {}", info.request_id, info.traceparent.unwrap_or_default()))
}

struct Server(SocketAddr);

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Server {
    fn start(settings: HttpSettings, health: Health) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let settings = HttpSettings { workers: 1, ..settings };
        std::thread::spawn(move || {
            let metrics = Metrics::new();
            let serving = serve_with_metrics(listener, &settings, health, &metrics, routes);
            actix_web::rt::System::new().block_on(serving).unwrap();
        });
        Self(address)
    }

    fn plain() -> Self {
        Self::start(HttpSettings::default(), Health::new())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Sends a request line with further headers, each ending in a line break, on a connection of its own.
    fn ask(&self, line: &str, headers: &str) -> Answer {
        let mut stream = self.connect();
        write!(stream, "{line} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes)
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        let answer = Self { status, head, body: bytes[end + 4..].to_vec() };
        let is_chunked = answer.header("transfer-encoding") == Some("chunked");
        if is_chunked { Self { body: joined(&answer.body), ..answer } } else { answer }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status, "{problem}");
        problem
    }
}

/// A chunked body in one piece.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + size]);
        chunks = &chunks[end + 4 + size..];
    }
    body
}

#[test]
fn every_answer_carries_an_id_and_the_security_headers() {
    let server = Server::plain();
    for path in ["/things/1", "/nowhere", "/things/x", "/panic", "/health/live", "/large"] {
        let answer = server.ask(&format!("GET {path}"), "");
        assert_eq!(answer.header("x-request-id").unwrap().len(), 32, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}: {}", answer.head);
        }
        assert_eq!(answer.header("strict-transport-security"), None);
    }
}

#[test]
fn what_a_handler_decides_for_its_answer_is_left_alone() {
    let answer = Server::plain().ask("GET /own", "");
    assert_eq!(answer.header("content-security-policy"), Some("script-src 'self'"));
    assert_eq!(answer.header("cache-control"), Some("max-age=60"));
}

#[test]
fn strict_transport_is_demanded_only_where_it_is_set() {
    let server = Server::start(HttpSettings { hsts_max_age_s: 60, ..HttpSettings::default() }, Health::new());
    assert_eq!(server.ask("GET /own", "").header("strict-transport-security"), Some("max-age=60"));
}

#[test]
fn whatever_goes_wrong_around_a_handler_is_a_problem_document() {
    let server =
        Server::start(HttpSettings { body_limit_bytes: 4, ..HttpSettings::default() }, Health::new());
    for (line, headers, status, word) in [
        ("GET /nowhere", "", 404, "/nowhere"),
        ("GET /things/x", "", 404, "parse"),
        ("GET /things/%ff", "", 404, ""),
        ("GET /things/%zz", "", 404, ""),
        ("DELETE /things/1", "", 404, "/things/1"),
        ("DELETE /health/live", "", 405, "GET"),
        ("POST /body", "content-length: 5\r\n", 413, ""),
        ("GET /refuse", "", 409, "mine"),
        ("GET /panic", "", 500, "log"),
    ] {
        let answer = server.ask(line, headers);
        assert_eq!(answer.status, status, "{line}: {}", answer.text());
        let problem = answer.problem();
        assert!(problem["detail"].as_str().unwrap().contains(word), "{line}: {problem}");
        assert!(!answer.text().contains("on purpose"), "{problem}");
    }
    assert_eq!(server.ask("DELETE /metrics", "").header("allow"), Some("GET"));
}

#[test]
fn a_handler_that_panics_costs_its_own_request_only() {
    let server = Server::plain();
    let mut stream = server.connect();
    let request =
        |path: &str, way: &str| format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: {way}\r\n\r\n");
    write!(stream, "{}{}", request("/panic", "keep-alive"), request("/things/7", "close")).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 500") && text.contains("HTTP/1.1 200"), "{text}");
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::plain();
    for path in ["/things/1", "/large", "/health/live", "/nowhere", "/body"] {
        let get = server.ask(&format!("GET {path}"), "x-request-id: a\r\n");
        let head = server.ask(&format!("HEAD {path}"), "x-request-id: a\r\n");
        let lines = |answer: &Answer| {
            let mut lines: Vec<String> = answer.head.lines().map(str::to_owned).collect();
            lines.retain(|line| !line.starts_with("date: ") && !line.starts_with("content-length: "));
            lines.sort();
            lines
        };
        assert_eq!(lines(&head), lines(&get), "{path}");
        assert!(head.header("content-length").is_some() && head.body.is_empty(), "{path}: {}", head.head);
    }
}

#[test]
fn large_answers_are_compressed_for_clients_that_accept_it() {
    let server = Server::plain();
    let plain = server.ask("GET /large", "");
    assert_eq!((plain.header("content-encoding"), plain.body.len()), (None, LARGE));
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    let zipped = server.ask("GET /large", "accept-encoding: gzip\r\n");
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert_eq!(zipped.header("vary"), Some("accept-encoding"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(zipped.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "1".repeat(LARGE));
    let brotli = server.ask("GET /large", "accept-encoding: gzip, br\r\n");
    assert_eq!(brotli.header("content-encoding"), Some("br"));
}

#[test]
fn small_answers_are_sent_as_they_are() {
    let answer = Server::plain().ask("GET /things/1", "accept-encoding: gzip, br\r\n");
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    assert_eq!(answer.text(), "11111");
}

#[test]
fn pages_of_the_origins_that_are_set_may_call() {
    let cors_origins = vec!["https://shop.example".to_owned()];
    let server = Server::start(HttpSettings { cors_origins, ..HttpSettings::default() }, Health::new());
    let origin = "origin: https://shop.example\r\n";
    let simple = server.ask("GET /things/1", origin);
    assert_eq!(simple.header("access-control-allow-origin"), Some("https://shop.example"));
    let exposed = simple.header("access-control-expose-headers").unwrap().to_lowercase();
    assert!(
        ["etag", "location", "retry-after", "x-request-id"].iter().all(|name| exposed.contains(name)),
        "{exposed}"
    );
    let asked =
        "access-control-request-method: PUT\r\naccess-control-request-headers: if-match, idempotency-key\r\n";
    let preflight = server.ask("OPTIONS /things/1", &format!("{origin}{asked}"));
    assert_eq!((preflight.status, preflight.header("access-control-max-age")), (200, Some("600")));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("PUT"), "{}", preflight.head);
    let foreign = server.ask("OPTIONS /things/1", &format!("origin: https://other.example\r\n{asked}"));
    assert_eq!(foreign.status, 400);
    foreign.problem();
}

#[test]
fn no_page_of_another_origin_may_call_unless_it_is_set() {
    let answer = Server::plain().ask("GET /things/1", "origin: https://shop.example\r\n");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}

#[test]
fn requests_are_counted_by_route_and_never_by_path() {
    let server = Server::plain();
    for line in
        ["GET /things/1", "GET /things/2", "HEAD /things/3", "GET /things/x", "GET /nowhere", "GET /panic"]
    {
        server.ask(line, "");
    }
    let text = server.ask("GET /metrics", "").text();
    for line in [
        "banyan_http_requests_total{method=\"GET\",route=\"/things/{id}\",status=\"200\"} 2\n",
        "banyan_http_requests_total{method=\"HEAD\",route=\"/things/{id}\",status=\"200\"} 1\n",
        "banyan_http_requests_total{method=\"GET\",route=\"/things/{id}\",status=\"404\"} 1\n",
        "banyan_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1\n",
        "banyan_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"500\"} 1\n",
        "banyan_http_request_duration_seconds_count{method=\"GET\",route=\"/things/{id}\"} 3\n",
        "banyan_http_requests_in_flight 1\n",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[test]
fn a_sane_request_id_and_a_valid_trace_are_taken_over() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = format!("x-request-id: mine-1\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n");
    let answer = Server::plain().ask("GET /trace", &headers);
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert!(answer.text().starts_with(&format!("mine-1 00-{trace}-")), "{}", answer.text());
}

#[test]
fn a_dependency_that_hangs_delays_the_report_by_its_own_timeout_only() {
    let (open, closed) = mpsc::channel::<()>();
    let closed = std::sync::Mutex::new(closed);
    let hangs = move || closed.lock().unwrap().recv().map_err(|error| error.to_string());
    let health =
        Health::new().check_within("slow", Duration::from_millis(50), hangs).check("quick", || Ok(()));
    let server = Server::start(HttpSettings::default(), health);
    let started = Instant::now();
    for _ in 0..2 {
        let answer = server.ask("GET /health/ready", "");
        let report: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &report["checks"][1]["status"]), (503, &Value::from("ok")), "{report}");
        assert!(report["checks"][0]["detail"].as_str().unwrap().contains("no answer"), "{report}");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    drop(open);
}

#[test]
fn without_keep_alive_a_connection_ends_with_its_answer() {
    let server = Server::start(HttpSettings { keep_alive_s: 0, ..HttpSettings::default() }, Health::new());
    let mut stream = server.connect();
    write!(stream, "GET /things/1 HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(Answer::parse(&bytes).status, 200);
}
