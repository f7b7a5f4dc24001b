//! One form for all spellings of a path.
//!
//! Invariant: two spellings that RFC 3986 calls the same have the same normal form.

use std::borrow::Cow;

/// Upstreams decode once; one that hands the path on may do so again.
const MOST_DECODINGS: usize = 4;

/// Whether a path begins with a prefix that has no slash at its end, and goes on with a new segment.
pub(crate) fn claims(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path as an upstream understands it: unreserved characters decoded, segments without their parameters
/// (`;v=1`), `.` and `..` resolved, slashes single (RFC 3986 §3.3, §6.2.2). Only for matching: what is forwarded is
/// what the client wrote.
pub(crate) fn normal(path: &str) -> Cow<'_, str> {
    if is_normal(path) { Cow::Borrowed(path) } else { Cow::Owned(resolve(&decode(path, is_unreserved))) }
}

/// Whether a path has one reading, which is the path itself: most have, and then there is nothing to work out.
pub(crate) fn is_plain(path: &str) -> bool {
    is_normal(path) && !path.as_bytes().contains(&b'\\')
}

fn is_normal(path: &str) -> bool {
    let mut previous = 0;
    path.bytes().all(|byte| {
        let odd = matches!(byte, b'%' | b';') || (previous == b'/' && matches!(byte, b'/' | b'.'));
        previous = byte;
        !odd
    })
}

/// A path in its further readings, for upstreams that also decode what is reserved, do so again, or take a backslash
/// for a slash. Of a path without `%` and backslash there are none.
pub(crate) fn readings(path: &str) -> impl Iterator<Item = String> {
    let has = |byte: u8| path.as_bytes().contains(&byte);
    let mut next = (has(b'%') || has(b'\\')).then(|| path.to_owned());
    let mut left = MOST_DECODINGS;
    std::iter::from_fn(move || {
        let decoded = decode(next.as_deref()?, |byte| byte.is_ascii());
        left = left.checked_sub(1)?;
        let reading = resolve(&decoded.replace('\\', "/"));
        let is_last = next.as_deref() == Some(&decoded);
        next = Some(decoded).filter(|_| !is_last);
        Some(reading)
    })
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Percent-encoded characters decoded, once, where they are `wanted`, which must be ASCII; the others in upper case.
pub(crate) fn decode(path: &str, wanted: impl Fn(u8) -> bool) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| wanted(*byte)) {
            Some(byte) => {
                decoded.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                // The case of the digits means nothing (RFC 3986 §6.2.2.1).
                let digits = digits.unwrap_or_default();
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
                rest = after.get(digits.len()..).unwrap_or_default();
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

/// Parameters cut off, `.` and `..` resolved, slashes single.
pub(crate) fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split_once(';').map_or(segment, |(name, _)| name) {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_has_one_normal_form() {
        for spelling in [
            "/api/users/7",
            "/api/%75sers/7",
            "//api/./users/7",
            "/x/../api/users/%37",
            "/api//users/7",
            "/api/users;v=1/7",
            "/api/x/..;/users/7;a=b",
        ] {
            assert_eq!(normal(spelling), "/api/users/7", "{spelling}");
        }
        assert_eq!(normal("/a%2Fb"), "/a%2Fb");
        assert_eq!(normal("/%c3%bC%2f"), "/%C3%BC%2F");
        assert_eq!(normal("/a%2"), "/a%2");
        assert_eq!(normal("/a%+7"), "/a%+7");
        assert_eq!(normal("/../.."), "/");
        assert_eq!(normal("/a%é/"), "/a%é/");
    }

    #[test]
    fn further_readings_decode_what_is_reserved_and_decode_again() {
        let of = |path| readings(path).collect::<Vec<_>>();
        assert_eq!(of("/a/b"), Vec::<String>::new());
        assert!(of("/x%2F..%2fa").contains(&"/a".to_owned()));
        assert!(of("/x/%252e%252e/a").contains(&"/a".to_owned()));
        assert!(of("\\a\\b").contains(&"/a/b".to_owned()));
        assert!(of("/a%3Bv/b").contains(&"/a/b".to_owned()));
        assert!(of("/%25252525252525").len() <= MOST_DECODINGS);
    }
}
