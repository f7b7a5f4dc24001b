//! The names of upstreams, and what they resolve to.
//!
//! Invariant: a name that cannot be resolved keeps its last addresses; no request ever waits for a name.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use http::uri::Authority;
use jiff::Timestamp;

use crate::plan::Plan;
use crate::settings::{DnsFamily, DnsSettings};

/// Finds the addresses of a name. It may block.
pub trait Resolve: Send + Sync + 'static {
    /// All of them.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Asks the system, which may ask a file, a name server or something else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// What is known of a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) resolved_at: Option<Timestamp>,
    pub(crate) failures: u64,
    /// Why the last attempt failed; none once one succeeded.
    pub(crate) error: Option<String>,
    is_asked: bool,
}

#[derive(Debug, Default)]
struct Table {
    known: Mutex<BTreeMap<String, Known>>,
    changed: Condvar,
}

/// All names.
pub(crate) struct Names {
    resolver: Arc<dyn Resolve>,
    table: Arc<Table>,
}

impl Names {
    pub(crate) fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, table: Arc::default() }
    }

    pub(crate) fn known(&self, name: &Authority) -> Known {
        self.table.lock().get(name.as_str()).cloned().unwrap_or_default()
    }

    /// Resolves what is new in a plan, and waits for it, but not for long. The plan takes all addresses over.
    pub(crate) fn settle(&self, plan: &Plan) -> Changes {
        let new: Vec<_> = {
            let known = self.table.lock();
            plan.names().into_iter().filter(|name| !known.contains_key(name.as_str())).collect()
        };
        self.ask(&new, &plan.dns);
        self.apply(plan)
    }

    /// Asks for all of these at the same time. One that was asked for before, and is not answered yet, is not asked again.
    pub(crate) fn ask(&self, names: &[Authority], settings: &DnsSettings) {
        for name in names {
            if !std::mem::replace(&mut self.table.lock().entry(name.to_string()).or_default().is_asked, true)
            {
                self.look_up(name.clone(), settings.family);
            }
        }
        self.table.wait(names, Duration::from_millis(settings.timeout_ms));
    }

    /// Lets go of what no plan needs any more.
    pub(crate) fn keep(&self, names: &[Authority]) {
        self.table
            .lock()
            .retain(|name, known| known.is_asked || names.iter().any(|kept| kept == name.as_str()));
    }

    /// What the names resolve to becomes the instances of the plan's upstreams.
    pub(crate) fn apply(&self, plan: &Plan) -> Changes {
        let mut changes = Changes::default();
        for upstream in &plan.upstreams {
            let members = upstream.shared.members();
            let addresses = |name: &Authority| self.known(name).addresses;
            if let Some(after) = members.after(&upstream.authorities, &upstream.policy.weights, addresses) {
                upstream.shared.set_members(after);
                changes.any = true;
                changes.checked |= !upstream.policy.health.path.is_empty();
            }
        }
        changes
    }

    fn look_up(&self, name: Authority, family: DnsFamily) {
        let (resolver, table) = (Arc::clone(&self.resolver), Arc::clone(&self.table));
        // The system's call cannot be broken off, so nobody waits for the end of this thread.
        let asked = name.clone();
        let thread = thread::Builder::new().name("resolve".to_owned()).spawn(move || {
            let found = resolver.resolve(asked.host(), asked.port_u16().unwrap_or(80));
            table.answered(&asked, found.and_then(|found| chosen(found, family)));
        });
        if let Err(error) = thread {
            self.table.answered(&name, Err(error));
        }
    }
}

/// Whether instances came or went, and whether any of them are asked how they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changes {
    pub(crate) any: bool,
    pub(crate) checked: bool,
}

/// In an order of our own, because name servers change theirs with each answer.
fn chosen(mut addresses: Vec<SocketAddr>, family: DnsFamily) -> io::Result<Vec<SocketAddr>> {
    addresses.retain(|address| match family {
        DnsFamily::Any => true,
        DnsFamily::Ipv4 => address.is_ipv4(),
        DnsFamily::Ipv6 => address.is_ipv6(),
    });
    addresses.sort_unstable();
    addresses.dedup();
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(io::Error::other("the name has no address that `dns.family` lets count")),
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, name: &Authority, answer: io::Result<Vec<SocketAddr>>) {
        let mut table = self.lock();
        let known = table.entry(name.to_string()).or_default();
        known.is_asked = false;
        match answer {
            Ok(addresses) => known.found(name, addresses),
            Err(error) => known.failed(name, error.to_string()),
        }
        self.changed.notify_all();
    }

    /// Until all are answered, or for so long; what is not answered by then counts as failed until it is.
    fn wait(&self, names: &[Authority], limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut table = self.lock();
        loop {
            let is_asked = |name: &&Authority| table.get(name.as_str()).is_some_and(|known| known.is_asked);
            let open: Vec<_> = names.iter().filter(is_asked).collect();
            let left = deadline.saturating_duration_since(Instant::now());
            if !open.is_empty() && !left.is_zero() {
                table = self.changed.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            for name in open {
                let known = table.entry(name.to_string()).or_default();
                known.failed(name, format!("no answer within {} ms", limit.as_millis()));
            }
            return;
        }
    }
}

impl Known {
    fn found(&mut self, name: &Authority, addresses: Vec<SocketAddr>) {
        if self.error.take().is_some() {
            tracing::info!(%name, "{name} can be resolved again");
        }
        if self.addresses != addresses {
            tracing::info!(%name, ?addresses, "{name} has other addresses: {addresses:?}");
        }
        (self.addresses, self.resolved_at) = (addresses, Some(Timestamp::now()));
    }

    fn failed(&mut self, name: &Authority, error: String) {
        self.failures += 1;
        // Said once, and not at each look.
        if self.error.as_ref() != Some(&error) {
            let meanwhile = match self.addresses.len() {
                0 => "an upstream without other instances answers 503 until it can".to_owned(),
                count => format!("its last {count} address(es) go on"),
            };
            tracing::error!(%name, error, "{name} cannot be resolved; {meanwhile}: {error}");
        }
        self.error = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use control::ControlSettings;

    use super::{Names, Resolve, chosen};
    use crate::plan::Plan;
    use crate::settings::{DnsFamily, Settings, UpstreamSettings};
    use crate::upstream::views::{render, views};

    struct Flaky(AtomicBool);

    impl Resolve for Flaky {
        fn resolve(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            let address = SocketAddr::from(([10, 0, 0, 1], port));
            if self.0.load(Relaxed) { Ok(vec![address]) } else { Err(io::Error::other("no such name")) }
        }
    }

    #[test]
    fn a_failure_is_seen_and_the_last_addresses_stay() {
        let url = "http://svc:81".to_owned();
        let upstream = UpstreamSettings { url, ..UpstreamSettings::default() };
        let settings = Settings {
            upstreams: [("monolith".to_owned(), upstream)].into(),
            control: ControlSettings { path: "control.db".into(), ..ControlSettings::default() },
            ..Settings::default()
        };
        let plan = Plan::new(&settings).unwrap();
        let resolver = Arc::new(Flaky(AtomicBool::new(true)));
        let names = Names::new(Arc::clone(&resolver) as Arc<dyn Resolve>);
        assert!(names.settle(&plan).any);
        resolver.0.store(false, Relaxed);
        names.ask(&plan.names(), &plan.dns);
        assert!(!names.apply(&plan).any);
        let views = views(&plan, &names);
        let (name, instance) = (&views[0].names[0], &views[0].instances[0]);
        assert_eq!((name.failures, name.last_error.as_deref()), (1, Some("no such name")));
        assert_eq!(
            (name.addresses.as_slice(), name.resolved_at.is_some()),
            (&["10.0.0.1:81".to_owned()][..], true)
        );
        assert_eq!(instance.url, "http://10.0.0.1:81");
        let metrics = render(&plan, &names);
        let labels = "{upstream=\"monolith\",name=\"svc:81\"}";
        for line in [format!("name_resolved{labels} 0"), format!("name_failures_total{labels} 1")] {
            assert!(metrics.contains(&format!("banyan_facade_upstream_{line}\n")), "{metrics}");
        }
    }

    #[test]
    fn addresses_count_by_family_once_and_in_an_order_of_our_own() {
        let found: Vec<SocketAddr> =
            ["[::1]:1", "9.9.9.9:1", "1.1.1.1:1", "9.9.9.9:1"].map(|text| text.parse().unwrap()).to_vec();
        let texts = |family| {
            chosen(found.clone(), family).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(DnsFamily::Any), ["1.1.1.1:1", "9.9.9.9:1", "[::1]:1"]);
        assert_eq!(texts(DnsFamily::Ipv4), ["1.1.1.1:1", "9.9.9.9:1"]);
        assert_eq!(texts(DnsFamily::Ipv6), ["[::1]:1"]);
        assert!(chosen(Vec::new(), DnsFamily::Any).is_err());
    }
}
