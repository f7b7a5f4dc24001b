//! Cursors: where a listing goes on, as a text that clients hand back unchanged.
//!
//! Invariant: only a text that [`encode`] returned for the same kind of listing is taken. The checksum finds
//! tampering and mix-ups; it guards no secret, since a position in a listing grants nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use twox_hash::XxHash3_64;

const VERSION: &str = "v1";

/// The cursor that goes on after `last` in listings of `kind`.
pub(crate) fn encode(kind: &str, last: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{VERSION}:{last}:{:016x}", checksum(kind, last)))
}

/// The id after which to go on, if the text is a cursor for listings of `kind`.
pub(crate) fn decode(kind: &str, text: &str) -> Option<i64> {
    let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let last = plain.strip_prefix(VERSION)?.strip_prefix(':')?.split(':').next()?.parse().ok()?;
    // Comparing with what we would have written refuses every other spelling of the same position.
    (encode(kind, last) == text).then_some(last)
}

fn checksum(kind: &str, last: i64) -> u64 {
    XxHash3_64::oneshot(format!("{kind}\u{1f}{last}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        for last in [1, 42, i64::MAX] {
            assert_eq!(decode("users", &encode("users", last)), Some(last));
        }
    }

    #[test]
    fn a_cursor_of_another_listing_is_refused() {
        assert_eq!(decode("products", &encode("users", 42)), None);
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let cursor = encode("users", 1234);
        for index in 0..cursor.len() {
            for other in ["A", "z", "0", "-", "=", "+"] {
                let mut changed = cursor.clone();
                changed.replace_range(index..=index, other);
                assert!(changed == cursor || decode("users", &changed).is_none(), "{changed} was taken");
            }
        }
        assert_eq!(decode("users", ""), None);
        assert_eq!(decode("users", &format!("{cursor}=")), None);
        assert_eq!(decode("users", &URL_SAFE_NO_PAD.encode("v1:7:0000000000000000")), None);
    }
}
