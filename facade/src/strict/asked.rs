//! What can be read of a request that is refused: enough to find it in the access log.
//!
//! Invariant: nothing but a log is told by it; what it says of a malformed request is a guess.

use http::{Method, Uri};

/// Bytes of a request line that are looked at.
const MOST: usize = 1024;
/// Stands where nothing could be read.
const UNREADABLE: &str = "-";

/// Method and target, where they could be read.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: Uri,
}

impl Asked {
    /// Of the bytes that the request begins with.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let bytes = bytes.get(..bytes.len().min(MOST)).unwrap_or_default();
        let line = bytes.trim_ascii_start().split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().and_then(|word| Method::from_bytes(word).ok());
        let target = words.next().and_then(|word| Uri::try_from(word).ok());
        Self {
            method: method.unwrap_or_else(|| Method::from_bytes(UNREADABLE.as_bytes()).unwrap_or_default()),
            target: target.unwrap_or_else(|| Uri::from_static(UNREADABLE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_and_the_rest_is_a_dash() {
        let long = format!("GET /{}", "a".repeat(9_000));
        for (bytes, method, target) in [
            ("GET /a?b=1 HTTP/1.1\r\nbad\r\n\r\n", "GET", "/a?b=1"),
            ("\r\nPOST /a HTTP/9.9\r\n", "POST", "/a"),
            ("GET /a b c\r\n", "GET", "/a"),
            ("GET\r\n", "GET", "-"),
            ("G@T /a HTTP/1.1\r\n", "-", "/a"),
            ("GET /a\u{1}b HTTP/1.1\r\n", "GET", "-"),
            ("\u{16}\u{3}\u{1}", "-", "-"),
            ("", "-", "-"),
            (&long, "GET", long.get(4..MOST).unwrap()),
        ] {
            let asked = Asked::read(bytes.as_bytes());
            assert_eq!(
                (asked.method.as_str(), asked.target.to_string().as_str()),
                (method, target),
                "{bytes:?}"
            );
        }
    }
}
