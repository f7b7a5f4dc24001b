//! A raw upstream that reads what it gets to the letter and counts it, and a client that sends bytes as they are.
//!
//! Invariant: the upstream knows nothing of the facade: it has its own reading of Content-Length and chunks, and
//! whatever it cannot read so is an offence.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::PATIENCE;

/// What one message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    offences: Vec<String>,
}

/// Answers every request with 200 and its target.
pub(crate) struct Counter {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Counter {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&shared);
                thread::spawn(move || serve(stream.unwrap(), &seen));
            }
        });
        Self { address, seen }
    }

    /// Requests since the last asking, and what was wrong with the bytes.
    pub(crate) fn take(&self) -> (Vec<Request>, Vec<String>) {
        let mut seen = self.seen.lock().unwrap();
        (std::mem::take(&mut seen.requests), std::mem::take(&mut seen.offences))
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) {
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    loop {
        match read_request(&bytes) {
            Ok(Some((request, size))) => {
                bytes.drain(..size);
                let body = if request.method == "HEAD" { "" } else { "ok" };
                let target = &request.target;
                let answer =
                    format!("HTTP/1.1 200 OK\r\nx-counted: {target}\r\ncontent-length: 2\r\n\r\n{body}");
                seen.lock().unwrap().requests.push(request);
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Ok(None) => {
                let mut more = [0; 65536];
                match stream.read(&mut more) {
                    // A message that broke off does not count.
                    Ok(0) | Err(_) => return,
                    Ok(size) => bytes.extend_from_slice(&more[..size]),
                }
            }
            Err(offence) => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
                return seen.lock().unwrap().offences.push(format!("{offence}: {text:?}"));
            }
        }
    }
}

pub(crate) type Reading<T> = Result<Option<(T, usize)>, String>;

/// The first request and its size; none while it is not complete.
fn read_request(bytes: &[u8]) -> Reading<Request> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err("a bare CR, LF or NUL".to_owned());
    }
    let mut lines = head.split("\r\n");
    let words: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err("a bad request line".to_owned()) };
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a line without a colon")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("a bad name".to_owned());
        }
        match name.to_ascii_lowercase().as_str() {
            "content-length" => lengths.push(value.trim().to_owned()),
            "transfer-encoding" => codings.push(value.trim().to_owned()),
            _ => {}
        }
    }
    let rest = &bytes[end + 4..];
    let body = match (&lengths[..], &codings[..]) {
        ([], []) => Some((Vec::new(), 0)),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a bad length")?;
            rest.get(..length).map(|body| (body.to_vec(), length))
        }
        ([], [coding]) if coding == "chunked" => read_chunks(rest)?,
        _ => return Err("a bad framing".to_owned()),
    };
    let request = |body| Request { method: method.to_owned(), target: target.to_owned(), body };
    Ok(body.map(|(body, size)| (request(body), end + 4 + size)))
}

pub(crate) fn read_chunks(bytes: &[u8]) -> Reading<Vec<u8>> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let digits = String::from_utf8_lossy(&bytes[at..at + end]).into_owned();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a bad chunk size {digits:?}"));
        }
        let size = usize::from_str_radix(&digits, 16).map_err(|_| "a huge chunk")?;
        at += end + 2;
        if size == 0 {
            return Ok(read_trailers(&bytes[at..]).map(|size| (body, at + size)));
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk without an end".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
}

fn read_trailers(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    find(bytes, b"\r\n\r\n").map(|end| end + 4)
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// One answer as a client reads it.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// The target that the upstream counted; none where a proxy answered by itself.
    pub(crate) counted: Option<String>,
    pub(crate) is_problem: bool,
}

/// Why bytes are not answers.
pub(crate) type Garbage = String;

/// Sends pieces, reads to the end, and gives the answers. `ends` closes our side behind the bytes.
pub(crate) fn exchange(address: SocketAddr, pieces: &[&[u8]], ends: bool) -> Result<Vec<Answered>, Garbage> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    // Beside the reading, because a peer may answer and stop reading before it has everything.
    let writing = thread::spawn(move || {
        for piece in pieces {
            if writer.write_all(&piece).is_err() {
                return;
            }
        }
        if ends {
            let _ = writer.shutdown(Shutdown::Write);
        }
    });
    let (mut bytes, mut piece) = (Vec::new(), [0; 65536]);
    let end = loop {
        match stream.read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(size) => bytes.extend_from_slice(&piece[..size]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break Ok(()),
            Err(error) => {
                break Err(format!("it hangs ({error}) after {:?}", String::from_utf8_lossy(&bytes)));
            }
        }
    };
    let _ = stream.shutdown(Shutdown::Both);
    writing.join().unwrap();
    end.and_then(|()| read_answers(&bytes))
}

fn read_answers(mut bytes: &[u8]) -> Result<Vec<Answered>, Garbage> {
    // Its first frame is SETTINGS (RFC 9113 §3.4).
    if bytes.starts_with(&[0, 0]) && bytes.get(3) == Some(&4) {
        return Err("HTTP/2".to_owned());
    }
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let garbage = || format!("bytes without a head: {:?}", String::from_utf8_lossy(bytes));
        let end = find(bytes, b"\r\n\r\n").ok_or_else(garbage)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status: u16 =
            head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).ok_or_else(garbage)?;
        bytes = &bytes[end + 4..];
        if status < 200 {
            continue;
        }
        let header = |name: &str| {
            let found = head.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with(name));
            found.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let is_without_body = bytes.is_empty() || bytes.starts_with(b"HTTP/1.");
        if header("transfer-encoding:").is_some() {
            let (_, size) = read_chunks(bytes)?.ok_or("a body that broke off")?;
            bytes = &bytes[size..];
        } else if let Some(length) = header("content-length:").filter(|_| !is_without_body) {
            bytes = bytes.get(length.parse::<usize>().unwrap()..).ok_or("a body that broke off")?;
        }
        let is_problem = header("content-type:").is_some_and(|kind| kind == "application/problem+json");
        answers.push(Answered { status, counted: header("x-counted:"), is_problem });
    }
    Ok(answers)
}
