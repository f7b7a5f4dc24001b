//! The certificates that clients are shown: by the name they ask for, read again when the files change.
//!
//! Invariant: what is served was read as a whole and fits together; while a new file is wrong, the old ones go on.

mod file;

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::client::stats::head;
use crate::settings::TlsSettings;

/// Where certificates come from, and those in use.
#[derive(Debug)]
pub(crate) struct Certificates {
    sources: Vec<Source>,
    current: ArcSwap<Loaded>,
    failures: AtomicU64,
    /// The files as they were before they were read first.
    first: Vec<Stamp>,
}

/// One certificate's files.
#[derive(Debug)]
struct Source {
    /// Its table in the settings.
    place: String,
    /// Empty for the one that serves all other names.
    names: Vec<String>,
    certificate: PathBuf,
    key: PathBuf,
}

/// What was read of all sources at once.
#[derive(Debug)]
struct Loaded {
    /// For names that nobody has.
    fallback: Option<Arc<CertifiedKey>>,
    /// By name in lower case; `*.` stands for one label.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// Per source: when it ends, in seconds since 1970.
    expiries: Vec<u64>,
    /// What clients will have against them.
    doubts: Vec<String>,
}

/// When a file was last changed, and how long it is.
type Stamp = Option<(SystemTime, u64)>;

impl Certificates {
    /// Reads all files; everything that is wrong with them is told at once.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, Vec<String>> {
        let first = Source {
            place: "tls".to_owned(),
            names: Vec::new(),
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
        };
        let further = settings.names.iter().enumerate().map(|(index, entry)| Source {
            place: format!("tls.names[{index}]"),
            names: entry.names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            certificate: entry.certificate.clone(),
            key: entry.key.clone(),
        });
        let sources: Vec<_> = std::iter::once(first).chain(further).collect();
        let mut errors: Vec<_> = settings.names.iter().enumerate().filter(|(_, entry)| entry.names.is_empty()).map(
            |(index, _)| format!("setting `tls.names[{index}].names` is empty; name the servers that the certificate is for"),
        ).collect();
        let first = stamps(&sources);
        match load(&sources) {
            Ok(loaded) if errors.is_empty() => {
                loaded.tell();
                let current = ArcSwap::from_pointee(loaded);
                Ok(Self { sources, current, failures: AtomicU64::new(0), first })
            }
            Ok(_) => Err(errors),
            Err(found) => {
                errors.extend(found);
                Err(errors)
            }
        }
    }

    /// Reads all files again; on any error the old ones go on.
    fn reload(&self) {
        match load(&self.sources) {
            Ok(loaded) => {
                loaded.tell();
                self.current.store(Arc::new(loaded));
                tracing::info!("the certificates were read again and are in use");
            }
            Err(errors) => {
                self.failures.fetch_add(1, Relaxed);
                let errors = errors.join("; ");
                tracing::error!(errors, "new certificates are not used, the old ones go on: {errors}");
            }
        }
    }

    /// What clients will have against those in use.
    pub(crate) fn doubts(&self) -> Vec<String> {
        self.current.load().doubts.clone()
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.current.load();
        let named = name.filter(|_| !loaded.by_name.is_empty()).and_then(|name| {
            let name = name.to_ascii_lowercase();
            loaded.by_name.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                loaded.by_name.get(&format!("*.{parent}"))
            })
        });
        named.or(loaded.fallback.as_ref()).cloned()
    }

    /// In Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        let name = "certificate_expiry_timestamp_seconds";
        head(&mut out, name, "gauge", "When a certificate in use ends.");
        for (source, expiry) in self.sources.iter().zip(&self.current.load().expiries) {
            let server = source.names.first().map_or("", String::as_str);
            // Writing into a String cannot fail.
            let _ = writeln!(out, "banyan_facade_{name}{{server=\"{server}\"}} {expiry}");
        }
        let name = "certificate_reload_failures_total";
        head(&mut out, name, "counter", "New certificates that were wrong, so that the old ones went on.");
        let _ = writeln!(out, "banyan_facade_{name} {}", self.failures.load(Relaxed));
        out
    }
}

impl Loaded {
    fn tell(&self) {
        self.doubts.iter().for_each(|doubt| tracing::warn!("{doubt}"));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

fn stamps(sources: &[Source]) -> Vec<Stamp> {
    let files = sources.iter().flat_map(|source| [&source.certificate, &source.key]);
    let stamp = |path: &PathBuf| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.map(stamp).collect()
}

fn load(sources: &[Source]) -> Result<Loaded, Vec<String>> {
    let mut loaded =
        Loaded { fallback: None, by_name: HashMap::new(), expiries: Vec::new(), doubts: Vec::new() };
    let mut errors = Vec::new();
    for source in sources {
        let Some(key) = read(source, &mut loaded, &mut errors) else { continue };
        for (index, name) in source.names.iter().enumerate() {
            if loaded.by_name.insert(name.clone(), Arc::clone(&key)).is_some() {
                errors.push(format!(
                    "setting `{}.names[{index}]`: `{name}` has a certificate already; name it once",
                    source.place
                ));
            }
        }
        if source.names.is_empty() {
            loaded.fallback = Some(key);
        }
    }
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

fn read(source: &Source, loaded: &mut Loaded, errors: &mut Vec<String>) -> Option<Arc<CertifiedKey>> {
    let Source { place, names, certificate, key } = source;
    let chain = file::chain(certificate).map_err(|reason| {
        let name = certificate.display();
        errors
            .push(format!("setting `{place}.certificate`: {name}: {reason}; name a PEM file with the chain"));
    });
    let of_key = |reason| {
        let name = key.display();
        format!("setting `{place}.key`: {name}: {reason}; name a PEM file with the private key")
    };
    let private = file::key(key).map_err(|reason| errors.push(of_key(reason)));
    let chain = chain.ok()?;
    for (index, name) in names.iter().enumerate().filter(|(_, name)| !file::is_server_name(name)) {
        errors.push(format!(
            "setting `{place}.names[{index}]`: `{name}` is no server name; write shop.example, or *.shop.example"
        ));
    }
    let file = certificate.display();
    let doubts = file::doubts(names, &chain);
    doubts.iter().for_each(|doubt| {
        loaded.doubts.push(format!("the certificate in {file} {doubt}; clients will refuse it"))
    });
    loaded.expiries.push(chain.ends);
    let certified = file::certified(chain, private.ok()?, certificate);
    certified.map_err(|reason| errors.push(of_key(reason))).ok()
}

/// Looks at the files now and then, and at once on SIGHUP; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn start(certificates: Arc<Certificates>, every: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Heard from here on: a signal may come as soon as the facade says that it listens.
        let hangups = {
            let _entered = runtime.enter();
            signal(SignalKind::hangup())?
        };
        let thread = thread::Builder::new().name("certificates".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => (),
                    () = watch(&certificates, every, hangups) => (),
                }
            });
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the certificates' watcher had failed");
        }
    }
}

async fn watch(certificates: &Certificates, every: Duration, mut hangups: Signal) {
    let mut seen = certificates.first.clone();
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(every) => None,
            asked = hangups.recv() => asked,
        };
        let stamps = stamps(&certificates.sources);
        if asked.is_some() || stamps != seen {
            seen = stamps;
            certificates.reload();
        }
    }
}
