//! Upstreams whose answers are malformed, endless, cut off, or more than was asked for.
//!
//! Invariant: the client gets a whole answer, a 502, or a cut that it notices; and a connection on which something
//! odd was said carries no other client's request.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde::Deserialize;

use crate::counting::{find, read_chunks};
use crate::strictness_table::bytes;
use crate::support::{Fixture, PATIENCE, Upstream};

#[derive(Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[serde(rename = "section")]
    _section: String,
    raw: String,
    endless: Option<String>,
    late: Option<String>,
    #[serde(default)]
    closes: bool,
    #[serde(default = "get")]
    method: String,
    allow: Vec<String>,
    #[serde(default)]
    reused: bool,
}

fn get() -> String {
    "GET".to_owned()
}

/// The first connection gets the case's answer; every later request is answered well, with the number of its
/// connection.
struct Liar {
    address: SocketAddr,
    first: Arc<Mutex<Option<TcpStream>>>,
}

impl Liar {
    fn start(case: &Case) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let first = Arc::<Mutex<Option<TcpStream>>>::default();
        let (case, kept, connections) = (case.clone(), Arc::clone(&first), AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let mut stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let lie = (number == 0).then(|| case.clone());
                if lie.is_some() {
                    *kept.lock().unwrap() = Some(stream.try_clone().unwrap());
                }
                thread::spawn(move || serve(&mut stream, lie, number));
            }
        });
        Self { address, first }
    }
}

fn serve(stream: &mut TcpStream, lie: Option<Case>, number: usize) {
    if let Some(case) = lie {
        if !read_head(stream) || stream.write_all(&bytes(&case.raw)).is_err() {
            return;
        }
        if let Some(endless) = &case.endless {
            let piece = bytes(endless).repeat(1_000);
            while stream.write_all(&piece).is_ok() {}
            return;
        }
        if case.closes {
            return stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
    while read_head(stream) {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// False at the end of the connection.
fn read_head(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Status and body, or `cut` in its place.
fn ask(facade: SocketAddr, method: &str) -> String {
    let mut stream = TcpStream::connect(facade).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is a cut as well.
    let _ = stream.read_to_end(&mut answer);
    while answer.starts_with(b"HTTP/1.1 1") {
        let Some(end) = find(&answer, b"\r\n\r\n") else { return "cut".to_owned() };
        answer.drain(..end + 4);
    }
    let Some(end) = find(&answer, b"\r\n\r\n") else { return "cut".to_owned() };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let (status, rest) = (head.get(9..12).unwrap_or_default().to_owned(), &answer[end + 4..]);
    let is_framed_twice = head.contains("\r\ncontent-length:") && head.contains("\r\ntransfer-encoding:");
    if is_framed_twice {
        return format!("{status} framed twice");
    }
    if method == "HEAD" || status == "204" || status == "304" {
        return if rest.is_empty() { status } else { format!("{status} with a body") };
    }
    if status == "502" || status == "504" {
        let is_problem = head.contains("content-type: application/problem+json");
        return if is_problem { status } else { format!("{status} unexplained") };
    }
    let length =
        head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")).map(str::parse::<usize>);
    let body = match length {
        Some(length) => Some(rest).filter(|rest| Ok(rest.len()) == length).map(<[u8]>::to_vec),
        None => read_chunks(rest).unwrap().map(|(body, _)| body),
    };
    let body = body.map_or("cut".to_owned(), |body| String::from_utf8_lossy(&body).into_owned());
    format!("{status} {body}").trim_end().to_owned()
}

fn run(case: &Case) -> Result<(), String> {
    let liar = Liar::start(case);
    let fixture = Fixture::with(liar.address, Upstream::nobody(), |settings| {
        settings.workers = 1;
        settings.timeouts.header_ms = 1_000;
        settings.timeouts.body_idle_ms = 1_000;
    });
    let got = ask(fixture.facade.address(), &case.method);
    if !case.allow.contains(&got) {
        return Err(format!("{}: {got:.100} instead of {:?}", case.id, case.allow));
    }
    if let Some(late) = &case.late {
        liar.first.lock().unwrap().as_ref().unwrap().write_all(&bytes(late)).unwrap();
    }
    let next = ask(fixture.facade.address(), "GET");
    let is_reused = match next.as_str() {
        "200 0" => true,
        "200 1" => false,
        _ => return Err(format!("{}: the next client got {next:.100}", case.id)),
    };
    if is_reused && !case.reused {
        return Err(format!("{}: its connection was used again", case.id));
    }
    Ok(())
}

#[test]
fn answers_of_upstreams_are_distrusted() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/strictness/answers.toml");
    let cases = toml::from_str::<Table>(&std::fs::read_to_string(path).unwrap()).unwrap().case;
    assert!(cases.len() >= 30);
    let mut wrong = String::new();
    for case in &cases {
        if let Err(error) = run(case) {
            let _ = writeln!(wrong, "{error}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn a_body_that_is_broken_from_the_first_is_a_refusal_and_no_cut() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n";
    let upstream = Upstream::answering(move |_| answer.as_bytes().to_vec());
    let fixture = Fixture::new(upstream.address, Upstream::nobody());
    let refusal = fixture.request("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 0\r\n\r\n");
    let kind = refusal.header("content-type");
    assert_eq!((refusal.status(), kind), (502, Some("application/problem+json")));
    assert_eq!(upstream.seen().len(), 1, "what is unsafe is sent once");
}
