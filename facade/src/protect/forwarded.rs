//! Where a request comes from, and what upstreams are told of it: `Forwarded` (RFC 7239), `X-Forwarded-*`, `Via`.
//!
//! Invariant: what a client says of its own origin reaches an upstream only from a trusted network.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::header::{Entry, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::{StatusCode, Version};
use ipnet::IpNet;

use crate::answer::Refusal;
use crate::protect::chain::{Element, X_FORWARDED_FOR, of_forwarded, of_x_forwarded_for};
use crate::settings::{ForwardedSettings, ForwardedSource};
use crate::strict::grammar::{is_plain_host, length, trim};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// The settings, checked and ready for use.
#[derive(Debug)]
pub(crate) struct ForwardedPlan {
    /// Tells this plan from those before and after a reload.
    serial: u64,
    trusted: Vec<IpNet>,
    settings: ForwardedSettings,
    /// Removed from requests of clients that are not trusted.
    removed: Names,
    /// Removed from every request: only the facade itself writes these.
    reserved: Names,
    via: [HeaderValue; 3],
}

/// The client a request is from, behind all trusted proxies.
#[derive(Debug, Clone)]
pub(crate) struct ClientAddress {
    pub(crate) ip: IpAddr,
    pub(crate) text: HeaderValue,
}

/// What a connection's requests have in common, made once.
#[derive(Debug)]
pub(crate) struct Hop {
    /// Whether the peer is trusted, and under which plan.
    trust: Cell<(u64, bool)>,
    peer: ClientAddress,
    proto: &'static str,
    port: HeaderValue,
    /// The last `Host`, and the `Forwarded` that was made for it: most connections name one host only.
    made: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

/// Names with a first look that settles nearly every other name: its length.
#[derive(Debug, Default)]
struct Names {
    lengths: u64,
    names: Vec<HeaderName>,
}

impl Names {
    fn new(names: Vec<HeaderName>) -> Self {
        let bit = |name: &HeaderName| 1 << name.as_str().len().min(63);
        Self { lengths: names.iter().map(bit).fold(0, |all, one: u64| all | one), names }
    }

    fn holds(&self, name: &str) -> bool {
        self.lengths >> name.len().min(63) & 1 == 1 && self.names.iter().any(|own| own.as_str() == name)
    }
}

impl ForwardedPlan {
    /// `reserved` are headers that only the facade itself may write.
    pub(crate) fn new(
        settings: &ForwardedSettings,
        reserved: Vec<HeaderName>,
        errors: &mut Vec<String>,
    ) -> Self {
        let mut trusted = Vec::new();
        for (index, text) in settings.trusted.iter().enumerate() {
            match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
                Ok(network) => trusted.push(network),
                Err(_) => errors.push(format!(
                    "setting `forwarded.trusted[{index}]` is `{text}`, which is no network; write it as 10.0.0.0/8 or ::1/128"
                )),
            }
        }
        let mut removed = Vec::new();
        for (index, name) in settings.removed.iter().enumerate() {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => removed.push(name),
                Err(_) => errors.push(format!(
                    "setting `forwarded.removed[{index}]` is `{name}`, which is no header name"
                )),
            }
        }
        let via = |version: &str| HeaderValue::from_str(&format!("{version} {}", settings.pseudonym));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let via = match (via("1.0"), via("1.1"), via("2.0")) {
            (Ok(old), Ok(usual), Ok(new))
                if settings.pseudonym.bytes().all(is_plain) && !settings.pseudonym.is_empty() =>
            {
                [old, usual, new]
            }
            _ => {
                errors.push(format!(
                    "setting `forwarded.pseudonym` is `{}`; a pseudonym is letters, digits, `-`, `_` and `.`",
                    settings.pseudonym
                ));
                [const { HeaderValue::from_static("1.1 banyan") }; 3]
            }
        };
        let (removed, reserved) = (Names::new(removed), Names::new(reserved));
        let serial = SERIAL.fetch_add(1, Relaxed);
        Self { serial, trusted, settings: settings.clone(), removed, reserved, via }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether the other end of a connection is trusted. A connection lives on over reloads, so what was found counts
    /// under the plan that it was found under.
    fn believes(&self, hop: &Hop) -> bool {
        let (serial, is_trusted) = hop.trust.get();
        if serial == self.serial {
            return is_trusted;
        }
        let is_trusted = self.trusts(hop.peer.ip);
        hop.trust.set((self.serial, is_trusted));
        is_trusted
    }

    /// Says on a message that it passed through here; `version` is the one it was received with.
    pub(crate) fn append_via(&self, headers: &mut HeaderMap, version: Version) {
        if !self.settings.via {
            return;
        }
        let [old, usual, new] = &self.via;
        let via = match version {
            Version::HTTP_11 => usual,
            Version::HTTP_2 => new,
            _ => old,
        };
        headers.append(VIA, via.clone());
    }

    /// Refuses a request that has been here too often. `Via` counts from anybody: an upstream that sends requests back
    /// is in no trusted network, and a client that writes it only refuses itself.
    pub(crate) fn check_loop(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let most = self.settings.most_passes;
        if most == 0 || !headers.contains_key(VIA) {
            return Ok(());
        }
        let entries =
            headers.get_all(VIA).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let own = |entry: &&[u8]| {
            let mut words = entry.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
            words.nth(1) == Some(self.settings.pseudonym.as_bytes())
        };
        if entries.filter(own).count() < most {
            return Ok(());
        }
        let detail = "the request has passed this proxy too often; its upstream leads back to it";
        Err(Refusal::new(StatusCode::LOOP_DETECTED, detail))
    }

    /// Removes what the client must not say.
    fn strip(&self, headers: &mut HeaderMap, hop: &Hop) {
        let is_trusted = self.believes(hop);
        let is_lie = |name: &HeaderName| {
            self.is_ours(name.as_str()) || (!is_trusted && self.is_of_origin(name.as_str()))
        };
        if headers.keys().any(is_lie) {
            let lies: Vec<_> = headers.keys().filter(|name| is_lie(name)).cloned().collect();
            lies.iter().for_each(|name| drop(headers.remove(name)));
        }
    }

    /// Whether nobody believes a header of this name, so that strangers may send it.
    pub(crate) fn is_harmless(&self, name: &HeaderName) -> bool {
        !self.is_ours(name.as_str()) && !self.is_of_origin(name.as_str())
    }

    /// Only the facade itself says this. Spellings with `_` go whoever sends them: CGI-like upstreams read them as the
    /// same, and no proxy writes them.
    fn is_ours(&self, name: &str) -> bool {
        let is_spelt_oddly = || {
            let usual = name.replace('_', "-");
            self.reserved.holds(&usual) || self.is_of_origin(&usual)
        };
        self.reserved.holds(name) || (name.as_bytes().contains(&b'_') && is_spelt_oddly())
    }

    /// Only a trusted proxy says this.
    fn is_of_origin(&self, name: &str) -> bool {
        name.starts_with("x-forwarded-") || name == "forwarded" || self.removed.holds(name)
    }

    /// Rewrites what a request's headers say of its origin.
    pub(crate) fn rewrite(&self, headers: &mut HeaderMap, hop: &Hop) {
        self.strip(headers, hop);
        if self.believes(hop) {
            return self.extend(headers, hop);
        }
        let settings = &self.settings;
        let host = headers.get(HOST).cloned();
        if settings.forwarded {
            headers.insert(FORWARDED, hop.forwarded(host.as_ref()));
        }
        if settings.x_forwarded_for {
            headers.insert(X_FORWARDED_FOR, hop.peer.text.clone());
        }
        if settings.x_forwarded_proto {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(hop.proto));
        }
        if settings.x_forwarded_port {
            headers.insert(X_FORWARDED_PORT, hop.port.clone());
        }
        if let Some(host) = host.filter(|_| settings.x_forwarded_host) {
            headers.insert(X_FORWARDED_HOST, host);
        }
    }

    /// Goes on with the chain of a trusted proxy, and makes the other headers of its kind agree with it.
    fn extend(&self, headers: &mut HeaderMap, hop: &Hop) {
        let elements = self.elements(headers);
        let nearest = elements.last().cloned().unwrap_or_default();
        let mut own = hop.forwarded(headers.get(HOST));
        let mut list = hop.peer.text.clone();
        match self.settings.source {
            ForwardedSource::XForwardedFor => {
                list = joined(headers, &X_FORWARDED_FOR, &list);
                own = after(elements.iter().map(|element| format!("for={}", quoted(element.node))), &own);
            }
            ForwardedSource::Forwarded => {
                own = joined(headers, &FORWARDED, &own);
                list = after(elements.iter().map(|element| bare(element.node)), &list);
                headers.remove(X_FORWARDED_PORT);
                set(headers, X_FORWARDED_PROTO, nearest.proto.as_deref());
                set(headers, X_FORWARDED_HOST, nearest.host.as_deref());
            }
        }
        let host = headers.get(HOST).cloned();
        let proto = Some(HeaderValue::from_static(hop.proto));
        let settings = &self.settings;
        // What a trusted proxy has said stays; what it has not said, or said so that it may be taken for something else,
        // is what we see.
        for (is_on, name, is_sound, value) in [
            (settings.x_forwarded_host, X_FORWARDED_HOST, is_plain_host as fn(&[u8]) -> bool, host),
            (settings.x_forwarded_proto, X_FORWARDED_PROTO, is_proto, proto),
            (settings.x_forwarded_port, X_FORWARDED_PORT, is_port, Some(hop.port.clone())),
        ] {
            if !is_on || !are_all(headers, &name, is_sound) {
                headers.remove(&name);
            }
            if let (true, Entry::Vacant(entry), Some(value)) = (is_on, headers.entry(name), value) {
                entry.insert(value);
            }
        }
        for (is_on, name, value) in
            [(settings.forwarded, FORWARDED, own), (settings.x_forwarded_for, X_FORWARDED_FOR, list)]
        {
            headers.remove(&name);
            if is_on {
                headers.insert(name, value);
            }
        }
    }

    fn elements(&self, headers: &HeaderMap) -> Vec<Element> {
        match self.settings.source {
            ForwardedSource::XForwardedFor => of_x_forwarded_for(headers),
            ForwardedSource::Forwarded => of_forwarded(headers),
        }
    }

    /// Walks from the nearest proxy outwards while each is trusted. What cannot be read ends the way: the one who
    /// reported it is then the client.
    pub(crate) fn client<'h>(&self, hop: &'h Hop, headers: &HeaderMap) -> Cow<'h, ClientAddress> {
        if !self.believes(hop) {
            return Cow::Borrowed(&hop.peer);
        }
        let mut client = hop.peer.ip;
        for element in self.elements(headers).iter().rev() {
            let Some(node) = element.node else { break };
            client = node;
            if !self.trusts(node) {
                break;
            }
        }
        Cow::Owned(ClientAddress::new(client))
    }
}

impl ClientAddress {
    pub(crate) fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        // An address is a header value.
        let text = HeaderValue::from_str(&ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self { ip, text }
    }
}

impl Hop {
    /// `proto` is `http` or `https`; `port` is ours.
    pub(crate) fn new(plan: &ForwardedPlan, peer: IpAddr, proto: &'static str, port: u16) -> Self {
        let peer = ClientAddress::new(peer);
        let trust = Cell::new((plan.serial, plan.trusts(peer.ip)));
        Self { trust, peer, proto, port: HeaderValue::from(port), made: RefCell::default() }
    }

    /// The other end of the connection itself.
    pub(crate) fn peer(&self) -> &ClientAddress {
        &self.peer
    }

    /// This connection's element of `Forwarded`.
    fn forwarded(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let host = host.cloned().unwrap_or(HeaderValue::from_static(""));
        let mut made = self.made.borrow_mut();
        if let Some((known, value)) = &*made
            && *known == host
        {
            return value.clone();
        }
        let mut element = format!("for={};proto={}", quoted(Some(self.peer.ip)), self.proto);
        if let Some(host) = host.to_str().ok().filter(|host| !host.is_empty()) {
            let host = host.replace('\\', "\\\\").replace('"', "\\\"");
            element.push_str(&format!(";host=\"{host}\""));
        }
        let value = HeaderValue::from_str(&element).unwrap_or(HeaderValue::from_static("for=unknown"));
        *made = Some((host, value.clone()));
        value
    }
}

/// Whether each item of a header's lists is of a kind.
fn are_all(headers: &HeaderMap, name: &HeaderName, is_sound: fn(&[u8]) -> bool) -> bool {
    let items = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    items.map(trim).all(is_sound)
}

/// Proxies name the protocols of WebSocket, too.
fn is_proto(proto: &[u8]) -> bool {
    [&b"http"[..], b"https", b"ws", b"wss"].iter().any(|known| proto.eq_ignore_ascii_case(known))
}

fn is_port(port: &[u8]) -> bool {
    length(port).is_some_and(|port| (1..=65_535).contains(&port))
}

fn bare(node: Option<IpAddr>) -> String {
    node.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

/// As `Forwarded` wants it: an IPv6 address stands in brackets and quotes (RFC 7239 §6).
fn quoted(node: Option<IpAddr>) -> String {
    match node {
        Some(IpAddr::V6(address)) => format!("\"[{address}]\""),
        other => bare(other),
    }
}

/// All values of a header in one list, in their order, with one more at its end.
fn joined(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    let mut list = Vec::with_capacity(128);
    for value in headers.get_all(name).iter().filter(|value| !value.is_empty()) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last.as_bytes());
    HeaderValue::from_bytes(&list).unwrap_or_else(|_| last.clone())
}

fn after(before: impl Iterator<Item = String>, last: &HeaderValue) -> HeaderValue {
    let mut list: String = before.map(|element| element + ", ").collect();
    list.push_str(last.to_str().unwrap_or_default());
    HeaderValue::from_str(&list).unwrap_or_else(|_| last.clone())
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    match value.and_then(|value| HeaderValue::from_str(value).ok()) {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    }
}

#[cfg(test)]
mod tests;
