//! Small servers that do exactly as told, a facade in front of them, and a client that sees every byte.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use control::{ControlSettings, ControlStore, DataMode, FlagChange, Side, Verification, Who};
use facade::server::Facade;
use facade::settings::{ContextSettings, KeySource, RouteSettings, Settings, UpstreamSettings};
use tempfile::TempDir;

/// How long anything here may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The same for what is waited for and comes at once unless the machine is busy; only a test that fails waits so long.
const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// The head and the body of a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One end of a connection.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LONG_PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends where the other side may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.reader.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn head(&mut self) -> Option<Message> {
        let first_line = self.line()?;
        Some(Message { first_line, headers: self.fields(), ..Message::default() })
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        fields
    }

    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).unwrap();
        if size == 0 {
            return None;
        }
        let chunk = self.exactly(size);
        assert_eq!(self.line().as_deref(), Some(""));
        Some(chunk)
    }

    /// A whole message; none at the end of the connection.
    pub(crate) fn message(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        if message.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                message.body.extend(chunk);
            }
            message.trailers = self.fields();
        } else if let Some(length) = message.header("content-length") {
            message.body = self.exactly(length.parse().unwrap());
        }
        Some(message)
    }

    /// Whether something has come, without waiting for it.
    pub(crate) fn has_bytes(&mut self) -> bool {
        self.reader.get_ref().set_nonblocking(true).unwrap();
        let has_bytes = self.reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        self.reader.get_ref().set_nonblocking(false).unwrap();
        has_bytes
    }

    /// Whether the other end has said its last by now.
    pub(crate) fn has_ended(&mut self) -> bool {
        let stream = self.reader.get_ref();
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(0))
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0]) {
            Ok(read) => read == 0,
            // Patience that ran out says the opposite.
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// A server; each connection gets a thread of its own.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Upstream {
    /// Gives each connection to `serve`.
    pub(crate) fn raw(serve: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    /// The same where something listens already.
    pub(crate) fn on(listener: TcpListener, serve: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(Wire::new(stream.unwrap())));
            }
        });
        Self { address, seen: Arc::default() }
    }

    /// Answers every request with `answer`'s bytes, and remembers the request.
    pub(crate) fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Message>>> = Arc::default();
        let memory = Arc::clone(&seen);
        let upstream = Self::raw(move |mut wire| {
            while let Some(message) = wire.message() {
                let bytes = answer(&message);
                memory.lock().unwrap().push(message);
                if bytes.is_empty() || !wire.try_send(bytes) {
                    return;
                }
            }
        });
        Self { seen, ..upstream }
    }

    /// Answers every request with 200 and this text.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::answering(move |_| ok(text))
    }

    /// An address where nobody listens.
    pub(crate) fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    pub(crate) fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) fn ok(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

/// A facade with the context `users` under `/users`, sticky by path segment or header `x-key`.
pub(crate) struct Fixture {
    pub(crate) facade: Facade,
    pub(crate) store: ControlStore,
    _folder: TempDir,
}

impl Fixture {
    pub(crate) fn new(monolith: SocketAddr, service: SocketAddr) -> Self {
        Self::with(monolith, service, |_| ())
    }

    pub(crate) fn with(
        monolith: SocketAddr,
        service: SocketAddr,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::started(monolith, service, change, |settings| Facade::start(settings).unwrap())
    }

    pub(crate) fn started(
        monolith: SocketAddr,
        service: SocketAddr,
        change: impl FnOnce(&mut Settings),
        start: impl FnOnce(&Settings) -> Facade,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(monolith, service);
        settings.control.path = folder.path().join("control.db");
        change(&mut settings);
        let facade = start(&settings);
        let store = ControlStore::open(&settings.control).unwrap();
        Self { facade, store, _folder: folder }
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.facade.address())
    }

    /// One request without a body on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Message {
        self.request(&format!("GET {path} HTTP/1.1\r\nhost: shop\r\n\r\n"))
    }

    pub(crate) fn request(&self, bytes: &str) -> Message {
        let mut wire = self.connect();
        wire.send(bytes);
        wire.message().unwrap()
    }

    /// Changes the flag of a shared context and waits until the facade serves it.
    pub(crate) fn set(&self, reads: &str, writes: Option<Side>) {
        let change = FlagChange { reads: Some(reads.parse().unwrap()), writes, force: false };
        let token = self.store.set_flag("users", change, &who()).unwrap().token;
        eventually("the flag takes effect", || self.acked(|ack| ack.token >= token));
    }

    pub(crate) fn acked(&self, is: impl Fn(&control::Ack) -> bool) -> bool {
        let instances = self.store.instances().unwrap();
        instances.iter().any(|instance| instance.live && instance.acks.iter().any(&is))
    }

    /// Lets `users` pass every gate, as if its data had been copied and verified.
    pub(crate) fn prepare_switch(&self) {
        self.store.set_dual_write("users", true, &who()).unwrap();
        self.store.record_backfill("users", 1).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let verification = Verification {
            context: "users".to_owned(),
            clean: true,
            rows: 1,
            differences: 0,
            position: 1,
            mapping_hash: "m".to_owned(),
            evidence: "equal".to_owned(),
            at_ms: i64::try_from(now.as_millis()).unwrap(),
        };
        self.store.record_verification(&verification).unwrap();
    }
}

fn settings(monolith: SocketAddr, service: SocketAddr) -> Settings {
    let upstream = |address: SocketAddr| UpstreamSettings {
        url: format!("http://{address}"),
        ..UpstreamSettings::default()
    };
    Settings {
        listen: "127.0.0.1:0".to_owned(),
        admin_listen: "127.0.0.1:0".to_owned(),
        workers: 2,
        control: ControlSettings::default(),
        upstreams: [("monolith".to_owned(), upstream(monolith)), ("svc".to_owned(), upstream(service))]
            .into(),
        contexts: [(
            "users".to_owned(),
            ContextSettings {
                service: "svc".to_owned(),
                data: DataMode::Shared,
                key: vec![
                    KeySource::PathSegment("/users/{key}".to_owned()),
                    KeySource::Header("x-key".to_owned()),
                ],
            },
        )]
        .into(),
        routes: vec![RouteSettings {
            prefix: "/users".to_owned(),
            context: "users".to_owned(),
            ..RouteSettings::default()
        }],
        ..Settings::default()
    }
}

pub(crate) fn replicated(settings: &mut Settings) {
    settings.contexts.get_mut("users").unwrap().data = DataMode::Replicated;
}

pub(crate) fn who() -> Who {
    Who::new("ann", "a test")
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG_PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        // Between two looks; nothing depends on its length.
        thread::sleep(Duration::from_millis(1));
    }
}
