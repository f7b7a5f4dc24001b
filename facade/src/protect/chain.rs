//! Reading the chain of addresses that proxies in front have written: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Invariant: what cannot be read ends the chain; nothing behind it, further from us, is believed.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What one proxy said of the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// None where it is hidden, unknown or no address.
    pub(crate) node: Option<IpAddr>,
    pub(crate) proto: Option<String>,
    pub(crate) host: Option<String>,
}

/// The elements of `X-Forwarded-For`, the nearest last.
pub(crate) fn of_x_forwarded_for(headers: &HeaderMap) -> Vec<Element> {
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    let nodes = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    nodes.map(|text| Element { node: node(text), ..Element::default() }).collect()
}

/// The elements of `Forwarded`, the nearest last; none at all where its syntax is broken.
pub(crate) fn of_forwarded(headers: &HeaderMap) -> Vec<Element> {
    let mut elements = Vec::new();
    for value in headers.get_all(FORWARDED) {
        let Some(parts) = value.to_str().ok().and_then(|text| split(text, ',')) else { return Vec::new() };
        for part in parts {
            let Some(element) = element(part) else { return Vec::new() };
            elements.push(element);
        }
    }
    elements
}

fn element(text: &str) -> Option<Element> {
    let mut element = Element::default();
    for pair in split(text, ';')?.into_iter().filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = unquoted(value.trim())?;
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => element.node = node(value.as_bytes()),
            "proto" => element.proto = Some(value),
            "host" => element.host = Some(value),
            _ => {}
        }
    }
    Some(element)
}

/// Splits outside of quotes; none where a quote stays open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (place, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if letter == separator && !quoted => {
                parts.push(text.get(start..place)?);
                start = place + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    (!quoted).then_some(parts)
}

fn unquoted(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let inner = rest.strip_suffix('"')?;
    let (mut out, mut escaped) = (String::with_capacity(inner.len()), false);
    for letter in inner.chars() {
        match letter {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return None,
            _ => {
                out.push(letter);
                escaped = false;
            }
        }
    }
    (!escaped).then_some(out)
}

/// An address, perhaps in brackets, perhaps with a port.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(values: &[&str]) -> Vec<Element> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        of_forwarded(&headers)
    }

    fn nodes(elements: &[Element]) -> Vec<Option<String>> {
        elements.iter().map(|element| element.node.map(|node| node.to_string())).collect()
    }

    #[test]
    fn addresses_come_with_ports_brackets_and_mapped() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:80 ", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(node(text.as_bytes()), address.parse().ok(), "{text}");
        }
        for text in ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "[::1", "a b", "1.2.3.4:x"] {
            assert_eq!(node(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn forwarded_is_read_with_its_quotes() {
        let read = forwarded(&[
            "for=192.0.2.60;proto=https;by=203.0.113.43, For=\"[2001:db8:cafe::17]:4711\";host=\"a,b;c\"",
            "for=unknown",
        ]);
        assert_eq!(nodes(&read), [Some("192.0.2.60".into()), Some("2001:db8:cafe::17".into()), None]);
        assert_eq!((read[0].proto.as_deref(), read[1].host.as_deref()), (Some("https"), Some("a,b;c")));
    }

    #[test]
    fn a_broken_forwarded_says_nothing() {
        for text in ["for=\"192.0.2.1", "for", "for=192.0.2.1, \"", "for=\"a\"b\"", "for=\"a\\\""] {
            assert_eq!(forwarded(&[text]), [], "{text}");
        }
    }
}
