//! The thread behind protection: fetches keys, and forgets clients that have their full allowance back.
//!
//! Invariant: the data plane never waits for it, but for a token with a key that is not known yet.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::protect::fetch;
use crate::protect::jwks::{self, KeySet};
use crate::protect::jwt::Provider;
use crate::protect::policy::Protection;
use crate::protect::rate_limit::RateLimit;
use crate::protect::refresh::Source;

/// How often clients are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// The running thread; its drop ends it.
#[derive(Debug)]
pub(crate) struct ProtectKeeper {
    latest: Option<watch::Sender<Arc<Protection>>>,
    thread: Option<JoinHandle<()>>,
}

impl ProtectKeeper {
    /// Starts the thread, where there is something for it to do.
    pub(crate) fn start(protection: &Arc<Protection>) -> io::Result<Option<Self>> {
        if protection.limits().next().is_none() && protection.providers.is_empty() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (latest, receiver) = watch::channel(Arc::clone(protection));
        let thread = thread::Builder::new().name("protect-keeper".to_owned()).spawn(move || {
            runtime.block_on(run(receiver));
            // A lookup of a name may block for long; nobody waits for it.
            runtime.shutdown_background();
        })?;
        Ok(Some(Self { latest: Some(latest), thread: Some(thread) }))
    }

    /// Goes on with what took the place of what it kept.
    pub(crate) fn follow(&self, protection: &Arc<Protection>) {
        if let Some(latest) = &self.latest {
            latest.send_replace(Arc::clone(protection));
        }
    }
}

impl Drop for ProtectKeeper {
    fn drop(&mut self) {
        drop(self.latest.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

/// An issuer that goes on is left alone, so that the pause between its fetches holds over any number of reloads.
async fn run(mut latest: watch::Receiver<Arc<Protection>>) {
    tokio::spawn(sweep(latest.clone()));
    let mut kept: HashMap<u64, AbortHandle> = HashMap::new();
    loop {
        let providers = latest.borrow_and_update().providers.clone();
        let is_there = |serial: u64| providers.iter().any(|provider| provider.serial == serial);
        for (_, gone) in kept.extract_if(|serial, _| !is_there(*serial)) {
            gone.abort();
        }
        for provider in providers {
            let task = || tokio::spawn(keep(Arc::clone(&provider))).abort_handle();
            kept.entry(provider.serial).or_insert_with(task);
        }
        // An error means that the one who would tell is gone: reason enough to end.
        if latest.changed().await.is_err() {
            return;
        }
    }
}

async fn sweep(latest: watch::Receiver<Arc<Protection>>) {
    loop {
        sleep(SWEEP).await;
        let protection = Arc::clone(&latest.borrow());
        protection.limits().for_each(RateLimit::sweep);
    }
}

/// Fetches at once, then by interval, and sooner when somebody asks or the last fetch failed.
async fn keep(provider: Arc<Provider>) {
    let refresh = &provider.refresh;
    if matches!(refresh.source, Source::Settings) {
        return;
    }
    let mut known = Vec::new();
    loop {
        refresh.begin();
        let pause = match read(&provider).await {
            Ok(text) if text == known => {
                renew(&provider, |keys| keys.clone());
                refresh.interval
            }
            Ok(text) => match jwks::parse(&text) {
                Ok(keys) => {
                    let keys: Arc<[jwks::Key]> = keys.into();
                    renew(&provider, |old| KeySet {
                        keys: Arc::clone(&keys),
                        generation: old.generation + 1,
                        ..KeySet::default()
                    });
                    known = text;
                    refresh.interval
                }
                Err(reason) => fail(&provider, reason),
            },
            Err(reason) => fail(&provider, reason),
        };
        forget_stale(&provider, &mut known);
        refresh.end();
        let _ = timeout(pause, refresh.wanted.notified()).await;
        // Whoever asked during the last fetch has its result; the pause holds for everybody.
        sleep(refresh.left_of_pause()).await;
    }
}

async fn read(provider: &Provider) -> Result<Vec<u8>, String> {
    match &provider.refresh.source {
        Source::Url(uri) => {
            let fetched = fetch::get(uri, provider.refresh.fetch_timeout).await;
            fetched.map(|bytes| bytes.to_vec()).map_err(|error| platform::error::chain(&*error))
        }
        Source::File(path) => std::fs::read(path).map_err(|error| error.to_string()),
        Source::Settings => Err("there is nothing to fetch".to_owned()),
    }
}

/// Puts a set in place of the old one, as fetched now.
fn renew(provider: &Provider, make: impl FnOnce(&KeySet) -> KeySet) {
    let made = make(&provider.keys.load());
    let keys =
        KeySet { round: provider.refresh.round(), fetched: Some(Instant::now()), is_stale: false, ..made };
    provider.keys.store(Arc::new(keys));
    *provider.refresh.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The known keys go on, as long as they are trusted; the next attempt is after the minimum pause.
fn fail(provider: &Provider, reason: String) -> Duration {
    let name = &provider.name;
    let old = provider.keys.load_full();
    let meanwhile = match old.fetched.is_some() && !old.is_stale {
        true => "the known ones go on",
        false => "its tokens are refused",
    };
    tracing::warn!(provider = name, reason, "the keys of {name} cannot be had, {meanwhile}: {reason}");
    provider.refresh.failures.fetch_add(1, Relaxed);
    *provider.refresh.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    provider.keys.store(Arc::new(KeySet { round: provider.refresh.round(), ..(*old).clone() }));
    provider.refresh.pause
}

fn forget_stale(provider: &Provider, known: &mut Vec<u8>) {
    let keys = provider.keys.load_full();
    let is_young = keys.fetched.is_none_or(|fetched| fetched.elapsed() < provider.refresh.stale_limit);
    if is_young || keys.is_stale {
        return;
    }
    let name = &provider.name;
    tracing::error!(provider = name, "the keys of {name} are too old to be trusted: its tokens are refused");
    known.clear();
    let (generation, round, fetched) = (keys.generation + 1, keys.round, keys.fetched);
    let empty = KeySet { generation, round, fetched, is_stale: true, ..KeySet::default() };
    provider.keys.store(Arc::new(empty));
}
