//! A table of names that a test can change, and servers at several addresses of one port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use facade::server::Resolve;

use crate::support::{Upstream, Wire, ok};

/// Addresses of the one name there is; none: it cannot be resolved.
#[derive(Clone, Default)]
pub(crate) struct Hosts(Arc<Mutex<Option<Vec<Ipv4Addr>>>>);

impl Hosts {
    pub(crate) fn set(&self, servers: &[&Server]) {
        *self.0.lock().unwrap() = Some(servers.iter().map(|server| server.ip).collect());
    }

    pub(crate) fn fail(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl Resolve for Hosts {
    fn resolve(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let known = self.0.lock().unwrap().clone().ok_or_else(|| io::Error::other("no such name"))?;
        Ok(known.into_iter().map(|ip| SocketAddr::from((ip, port))).collect())
    }
}

/// A server that says its address; to `/slow` only once it is told to.
pub(crate) struct Server {
    pub(crate) ip: Ipv4Addr,
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) slow: Arc<AtomicUsize>,
    pub(crate) may_end: Arc<AtomicUsize>,
}

impl Server {
    fn start(listener: TcpListener, ip: Ipv4Addr) -> Self {
        let counters: [Arc<AtomicUsize>; 3] = std::array::from_fn(|_| Arc::default());
        let [open, slow, may_end] = counters.clone();
        Upstream::on(listener, move |mut wire: Wire| {
            open.fetch_add(1, SeqCst);
            while let Some(message) = wire.message() {
                if message.first_line.contains("/slow") {
                    slow.fetch_add(1, SeqCst);
                    crate::support::eventually("it may end", || may_end.load(SeqCst) > 0);
                }
                if !wire.try_send(ok(&ip.to_string())) {
                    break;
                }
            }
            open.fetch_sub(1, SeqCst);
        });
        let [open, slow, may_end] = counters;
        Self { ip, open, slow, may_end }
    }
}

/// Servers at 127.0.0.1, 127.0.0.2, …, all on one port.
pub(crate) fn servers<const COUNT: usize>() -> ([Server; COUNT], u16) {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let ip = |place: usize| Ipv4Addr::new(127, 0, 0, u8::try_from(place).unwrap() + 1);
        let more = (1..COUNT).map(|place| TcpListener::bind((ip(place), port)));
        if let Ok(more) = more.collect::<io::Result<Vec<_>>>() {
            let mut listeners = std::iter::once(first).chain(more);
            let server = |place| Server::start(listeners.next().unwrap(), ip(place));
            return (std::array::from_fn(server), port);
        }
    }
}
