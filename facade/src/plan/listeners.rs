//! Where a facade listens: whether that can be, and who could reach it.
//!
//! Invariant: an address that only its system can judge is left to that.

use std::net::{SocketAddr, ToSocketAddrs};

use platform::settings::Secret;

use crate::settings::Settings;

/// Worker threads that a facade may be told to start.
const MOST_WORKERS: usize = 512;

/// An admin API that anybody can reach would let anybody move traffic.
pub(super) fn check(settings: &Settings, errors: &mut Vec<String>) {
    if settings.workers > MOST_WORKERS {
        errors.push(format!(
            "setting `workers` is {}; at most {MOST_WORKERS}, and more than cores does not help",
            settings.workers
        ));
    }
    let listen = &settings.admin_listen;
    match first_address(listen) {
        None => errors.push(format!(
            "setting `admin_listen`: `{listen}` is not an address to listen on; write it as 127.0.0.1:8080"
        )),
        Some(address) if !address.ip().is_loopback() && settings.admin_token == Secret::default() => {
            errors.push(format!(
                "setting `admin_listen`: {listen} can be reached from outside; set `admin_token`, or listen on 127.0.0.1"
            ));
        }
        Some(_) => {}
    }
    check_apart(settings, errors);
}

/// Two listeners at one place: the second one would find it taken by the first.
fn check_apart(settings: &Settings, errors: &mut Vec<String>) {
    let listens = [
        ("listen", &settings.listen),
        ("tls.listen", &settings.tls.listen),
        ("admin_listen", &settings.admin_listen),
    ];
    let found = listens.map(|(name, listen)| first_address(listen).map(|address| (name, address)));
    let mut before: Vec<(&str, SocketAddr)> = Vec::new();
    for (name, address) in found.into_iter().flatten() {
        if let Some((first, _)) = before.iter().find(|(_, other)| is_same_place(*other, address)) {
            errors.push(format!(
                "setting `{name}`: {address} is taken by `{first}`; give each a port of its own"
            ));
        }
        before.push((name, address));
    }
}

/// `0.0.0.0` is every address of its family, and `::` every one there is.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let holds = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || all.is_ipv4() == one.is_ipv4())
    };
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || holds(one, other) || holds(other, one))
}

fn first_address(listen: &str) -> Option<SocketAddr> {
    listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next())
}
