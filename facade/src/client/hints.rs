//! Interim answers of an upstream, 103 Early Hints above all (RFC 8297), for a client of HTTP/1.1.
//!
//! A client of HTTP/1.0 knows none, and to one of HTTP/2 hyper offers no way to send them; theirs are dropped.
//!
//! Invariant: what is passed on is well-formed, and has nothing in it that concerns the upstream's connection.

use std::future::poll_fn;
use std::task::Poll;

use http::header::CONTENT_LENGTH;
use http::response;

use crate::headers;
use crate::protect::forwarded::ForwardedPlan;
use crate::strict::Door;

/// Passes an interim answer on.
pub(crate) fn pass_on(parts: response::Parts, door: &Door, plan: &ForwardedPlan) {
    door.hints.put(&written(parts, plan));
}

/// Waits until the client's stream has taken what was passed on: the final answer comes behind it.
pub(crate) async fn are_sent(door: &Door) {
    poll_fn(|cx| {
        door.hints.register(cx);
        if door.hints.is_filled() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

fn written(mut parts: response::Parts, plan: &ForwardedPlan) -> Vec<u8> {
    headers::to_client(&mut parts, plan);
    parts.headers.remove(CONTENT_LENGTH);
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    headers::write(&parts.headers, &mut head);
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ForwardedSettings;
    use crate::strict::answers::Heads;

    #[test]
    fn a_hint_loses_what_concerns_one_connection() {
        let plan = ForwardedPlan::new(&ForwardedSettings::default(), Vec::new(), &mut Vec::new());
        let door = Door::default();
        for hint in [
            "HTTP/1.1 103 Hm\r\nLink: </a>\r\nConnection: x-own\r\nX-Own: 1\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 199 \r\nlink: </c>\r\n\r\n",
        ] {
            let parts = Heads::default().read(&mut hint.as_bytes().into()).unwrap().unwrap();
            pass_on(parts, &door, &plan);
        }
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nvia: 1.1 banyan\r\n\r\n\
                        HTTP/1.1 199 \r\nlink: </c>\r\nvia: 1.1 banyan\r\n\r\n";
        assert_eq!(String::from_utf8(door.hints.take()).unwrap(), expected);
    }
}
