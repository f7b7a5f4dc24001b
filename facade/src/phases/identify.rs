//! Identify: which request this is, and which trace it belongs to. Its id is the client's where that is sane, else a
//! new one; the trace is the client's where that is valid, else a new one.

use std::cell::{Cell, RefCell};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{Entry, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::settings::TraceBegin;
use crate::trace::{Traces, hexadecimal};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of an id: as many as of a UUID without dashes.
const LENGTH: usize = 32;
/// Ids made per allocation.
const BATCH: usize = 64;

/// What a worker makes identifiers with.
#[derive(Debug)]
pub(crate) struct Identities {
    ids: RequestIds,
    traces: RefCell<Traces>,
}

/// Which request this is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) request_id: HeaderValue,
    /// The `traceparent` that goes to the upstream.
    pub(crate) traceparent: Option<HeaderValue>,
}

impl Identities {
    pub(crate) fn new(begin: TraceBegin) -> Self {
        Self { ids: RequestIds::new(), traces: RefCell::new(Traces::new(begin)) }
    }
}

/// Makes ids: half of one is this worker's own random number, the other half counts.
#[derive(Debug)]
struct RequestIds {
    prefix: [u8; LENGTH / 2],
    next: Cell<u64>,
    made: RefCell<Bytes>,
}

impl RequestIds {
    fn new() -> Self {
        let (prefix, next) = Uuid::new_v4().as_u64_pair();
        Self { prefix: hexadecimal(prefix), next: Cell::new(next), made: RefCell::default() }
    }

    fn next(&self) -> HeaderValue {
        let mut made = self.made.borrow_mut();
        if made.len() < LENGTH {
            *made = self.batch();
        }
        // Hexadecimal digits are a header value.
        HeaderValue::from_maybe_shared(made.split_to(LENGTH)).unwrap_or(HeaderValue::from_static("-"))
    }

    fn batch(&self) -> Bytes {
        let mut batch = BytesMut::with_capacity(BATCH * LENGTH);
        for _ in 0..BATCH {
            let number = self.next.get();
            self.next.set(number.wrapping_add(1));
            batch.extend_from_slice(&self.prefix);
            batch.extend_from_slice(&hexadecimal(number));
        }
        batch.freeze()
    }
}

/// The request's identifiers, which its headers hold afterwards exactly once.
pub(crate) fn identify(identities: &Identities, headers: &mut HeaderMap) -> Identity {
    let request_id = request_id(&identities.ids, headers);
    Identity { request_id, traceparent: identities.traces.borrow_mut().settle(headers) }
}

fn request_id(ids: &RequestIds, headers: &mut HeaderMap) -> HeaderValue {
    match headers.entry(REQUEST_ID) {
        Entry::Vacant(entry) => {
            let id = ids.next();
            entry.insert(id.clone());
            id
        }
        Entry::Occupied(mut entry) => {
            let is_one = entry.iter().nth(1).is_none();
            if is_one && is_sane(entry.get().as_bytes()) {
                return entry.get().clone();
            }
            let id = ids.next();
            entry.insert(id.clone());
            id
        }
    }
}

/// Short and of harmless characters, so that it can stand in logs as it is.
fn is_sane(id: &[u8]) -> bool {
    (1..=64).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let ids = RequestIds::new();
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc-1"));
        assert_eq!(request_id(&ids, &mut headers), "abc-1");
        for bad in ["", "a b", "<script>", &"x".repeat(65)] {
            headers.insert(REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            let id = request_id(&ids, &mut headers);
            assert_eq!((id.len(), &headers[REQUEST_ID]), (LENGTH, &id));
        }
        headers.append(REQUEST_ID, HeaderValue::from_static("second"));
        request_id(&ids, &mut headers);
        assert_eq!(headers.get_all(REQUEST_ID).iter().count(), 1);
    }

    #[test]
    fn ids_do_not_repeat() {
        let ids = RequestIds::new();
        let made: HashSet<_> = (0..1_000).map(|_| ids.next().as_bytes().to_vec()).collect();
        assert_eq!(made.len(), 1_000);
    }
}
