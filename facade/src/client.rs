//! The client side: listeners, TLS, HTTP/1.1 and HTTP/2, upgrades, and what one client may ask for.
//!
//! Read in this order: `plan` (what is set), `accept` (how connections come in), `serve` (what is spoken on them),
//! `traffic` and `watch` (how slow ones are ended), `upgrade` (what becomes of them after a 101).
//!
//! Invariant: a client that dawdles holds one connection and nothing else, and that one not for ever.

pub(crate) mod accept;
pub(crate) mod certificates;
pub(crate) mod expect;
pub(crate) mod hints;
pub(crate) mod limits;
pub(crate) mod measure;
pub(crate) mod plan;
mod refuse;
mod serve;
pub(crate) mod stats;
mod stream;
pub(crate) mod tls;
mod traffic;
mod translate;
pub(crate) mod upgrade;
mod watch;
mod watched;
pub(crate) mod websocket;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;

use crate::metrics::OpenConnection;
use crate::protect::forwarded::Hop;
use crate::strict::Door;
use stats::Slot;
use traffic::Traffic;

/// The client at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// What all requests of the connection have in common.
    pub(crate) hop: Hop,
    pub(crate) scheme: Scheme,
    /// Where the check of its bytes tells what it refused.
    pub(crate) door: Arc<Door>,
    traffic: Arc<Traffic>,
    /// Kept for its drop: the connection counts until then, upgraded or not.
    _slot: Slot,
    _open: OpenConnection,
}

/// What keeps a connection from counting as idle.
#[derive(Debug)]
pub(crate) struct UnderWay(Rc<Client>);

impl UnderWay {
    /// Of a request that has begun, until its answer's body is gone.
    fn begun(client: &Rc<Client>) -> Self {
        Self(Rc::clone(client))
    }

    /// Of what may outlast the answer.
    pub(crate) fn hold(client: &Rc<Client>) -> Self {
        client.traffic.hold();
        Self(Rc::clone(client))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.traffic.end();
    }
}

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The sockets that clients connect to.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) cleartext: Option<TcpListener>,
    pub(crate) tls: Option<TcpListener>,
}

impl Listeners {
    /// Where clients connect in cleartext and over TLS.
    pub(crate) fn addresses(&self) -> [Option<SocketAddr>; 2] {
        [&self.cleartext, &self.tls].map(|listener| listener.as_ref()?.local_addr().ok())
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let clone =
            |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::try_clone).transpose();
        Ok(Self { cleartext: clone(&self.cleartext)?, tls: clone(&self.tls)? })
    }
}
