//! The alphabets of RFC 9110 and 9112: tokens, field values, targets, hosts, chunk sizes.
//!
//! Invariant: pure functions of bytes; where the RFC leaves a choice, what two servers may read differently is not
//! in the alphabet.

use std::net::Ipv6Addr;

/// A set of bytes.
type Alphabet = [bool; 256];

const fn alphabet(is_in: &[u8]) -> Alphabet {
    let mut set = [false; 256];
    let mut rest = is_in;
    while let [byte, tail @ ..] = rest {
        put(&mut set, *byte);
        rest = tail;
    }
    set
}

#[expect(
    clippy::indexing_slicing,
    reason = "a byte is always within 256 places, and constants cannot use get_mut"
)]
const fn put(set: &mut Alphabet, byte: u8) {
    set[byte as usize] = true;
}

/// RFC 9110 §5.6.2.
static TOKEN: Alphabet =
    alphabet(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
/// What RFC 3986 allows in a path, and `|`, `"`, `{`, `}`, which clients in wide use do not encode.
static PATH: Alphabet =
    alphabet(b"-._~!$&'()*+,;=:@/%|\"{}[]0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
/// The same with what such clients leave in queries.
static QUERY: Alphabet =
    alphabet(b"-._~!$&'()*+,;=:@/?%|{}[]\\^`0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

fn is_of(set: &Alphabet, bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| is_in(set, *byte))
}

fn is_in(set: &Alphabet, byte: u8) -> bool {
    set.get(usize::from(byte)).is_some_and(|is_in| *is_in)
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && is_of(&TOKEN, bytes)
}

/// Upper-case words, as every method is that is in use; what is not may be read as another one by somebody.
pub(crate) fn is_usual_method(method: &[u8]) -> bool {
    method.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_".contains(byte))
}

/// Compares names as servers do that pass headers on as variables, where a dash is an underscore.
pub(crate) fn is_named(name: &[u8], expected: &[u8]) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.iter().map(fold).eq(expected.iter().copied())
}

/// A name with an underscore where one that frames a body has its dash.
pub(crate) fn looks_like_framing(name: &[u8]) -> bool {
    match name.len() {
        14 => name.contains(&b'_') && is_named(name, b"content-length"),
        17 => name.contains(&b'_') && is_named(name, b"transfer-encoding"),
        _ => false,
    }
}

/// A field's name and what follows its colon; none where something else than a colon ends the name.
pub(crate) fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|byte| !is_in(&TOKEN, *byte))?;
    let (name, rest) = line.split_at(end);
    let value = rest.strip_prefix(b":")?;
    if name.is_empty() { None } else { Some((name, value)) }
}

/// A field value (RFC 9110 §5.5): no control bytes but the tab, so no bare CR and no NUL. Without an early exit, so
/// that the compiler makes it wide.
pub(crate) fn is_field_text(bytes: &[u8]) -> bool {
    let is_bad = |byte: u8| u8::from(byte < 0x20) & u8::from(byte != b'\t') | u8::from(byte == 0x7f);
    bytes.iter().fold(0, |bad, byte| bad | is_bad(*byte)) == 0
}

/// Spaces and tabs taken off both ends (`OWS`).
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Path and query as a client may send them: no fragment, nothing beyond ASCII, and in the path every `%` begins
/// a byte other than NUL.
pub(crate) fn is_path_and_query(bytes: &[u8]) -> bool {
    let (path, query) = match memchr::memchr(b'?', bytes) {
        Some(mark) => bytes.split_at(mark),
        None => (bytes, [].as_slice()),
    };
    is_of(&PATH, path) && is_of(&QUERY, query) && has_sound_escapes(path)
}

fn has_sound_escapes(mut path: &[u8]) -> bool {
    while let Some(found) = memchr::memchr(b'%', path) {
        match path.get(found + 1..) {
            Some([b'0', b'0', ..]) => return false,
            Some([high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                path = rest
            }
            _ => return false,
        }
    }
    true
}

/// A name or an address, and perhaps a port: no user, no path, no list.
pub(crate) fn is_plain_host(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (address, port) = rest.split_at(end);
            if !std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
                return false;
            }
            (address, port.get(1..).unwrap_or_default())
        }
        None => host.split_at(memchr::memchr(b':', host).unwrap_or(host.len())),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(byte);
    let is_port = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => digits.len() <= 5 && length(digits).is_some_and(|port| port <= 65_535),
        _ => false,
    };
    // A name of empty parts is no name, and a path to whoever keeps files by host.
    let has_parts = !name.starts_with(b".") && !name.windows(2).any(|pair| pair == b"..");
    !name.is_empty() && has_parts && name.iter().all(is_name) && is_port
}

/// Digits only, and within what a counter can hold.
pub(crate) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// The size in a chunk's first line, without its CRLF; extensions are read and ignored (RFC 9112 §7.1.1).
pub(crate) fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(digits);
    if digits.is_empty() || digits.len() > 15 || !is_extensions(extensions) {
        return None;
    }
    digits.iter().try_fold(0, |sum: u64, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(sum * 16 + u64::from(value))
    })
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn is_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = trim_start(rest).strip_prefix(b";") else { return false };
        let Some(after) = past_token(trim_start(after)) else { return false };
        rest = after;
        if let Some(value) = trim_start(after).strip_prefix(b"=") {
            let value = trim_start(value);
            let Some(after) = past_quoted(value).or_else(|| past_token(value)) else { return false };
            rest = after;
        }
    }
    true
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn past_token(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| !is_in(&TOKEN, *byte)).unwrap_or(bytes.len());
    if end == 0 { None } else { bytes.get(end..) }
}

fn past_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', escaped, after @ ..] if is_field_text(&[*escaped]) => after,
            [byte, after @ ..] if *byte != b'\\' && is_field_text(&[*byte]) => after,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    #[test]
    fn what_passes_as_a_target_is_a_target_for_the_http_crate_too() {
        for byte in 0_u8..=255 {
            for target in [[b'/', byte, b'a', b'a'], [b'/', b'?', byte, b'a']] {
                if is_path_and_query(&target) {
                    let uri = Uri::try_from(target.as_slice()).unwrap();
                    assert_eq!(uri.path_and_query().unwrap().as_str().as_bytes(), target);
                }
            }
        }
    }

    #[test]
    fn escapes_in_paths_are_whole() {
        for good in ["/", "/a%20b", "/%C3%a4", "/a?100%", "/x?%00"] {
            assert!(is_path_and_query(good.as_bytes()), "{good}");
        }
        for bad in ["/%", "/%2", "/%zz", "/%00", "/a\\b", "/ä", "/#", "/a?b#c", "/<", "/a?ä"] {
            assert!(!is_path_and_query(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_and_extensions_well_formed() {
        for (line, size) in [
            ("0", 0),
            ("1A", 26),
            ("00ff", 255),
            ("5;a", 5),
            ("5 ; a = b", 5),
            ("5;a=\"b;\\\"c\"", 5),
            ("5;a;b=c", 5),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), Some(size), "{line}");
        }
        for line in [
            "",
            " 5",
            "5 ",
            "+5",
            "-5",
            "0x5",
            "5;",
            "5;a=",
            "5;a=\"b",
            "5;a\0",
            "5;a=\"\x01\"",
            "5,5",
            "g",
            "1234567890abcdef",
            "5 5",
            "5\r",
        ] {
            assert_eq!(chunk_size(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn lengths_are_digits() {
        assert_eq!(length(b"0"), Some(0));
        assert_eq!(length(b"0042"), Some(42));
        for bad in
            ["", "+1", "-1", "0x1", "1 1", "1,1", "1.0", "18446744073709551617", "99999999999999999999999"]
        {
            assert_eq!(length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_host_is_a_name_and_a_port() {
        for host in [
            "shop",
            "shop:80",
            "shop.example.:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:80",
            "[::ffff:192.0.2.1]",
            "a_b",
        ] {
            assert!(is_plain_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "..",
            ".a",
            "a..b",
            "a:65536",
            "a/b",
            "u@a",
            "a b",
            "a,b",
            "a:b",
            ":80",
            "a:80:80",
            "[::1",
            "[::1]x",
            "a:999999",
            "a?b",
            "[1:2:3:4:5:6:7:8:9]",
            "[1:2]",
            "[:::1]",
            "[12345::]",
            "[1.2.3.4]",
            "[a]",
            "[fe80::1%eth0]",
            "[]",
        ] {
            assert!(!is_plain_host(host.as_bytes()), "{host}");
        }
    }
}
