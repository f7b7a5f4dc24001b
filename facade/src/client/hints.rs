//! Interim answers of an upstream, 103 Early Hints above all (RFC 8297), for a client of HTTP/1.1.
//!
//! A client of HTTP/1.0 knows none, and to one of HTTP/2 hyper offers no way to send them; theirs are dropped.
//!
//! Invariant: what is passed on is well-formed, and has nothing in it that concerns the upstream's connection.

use std::future::poll_fn;
use std::task::{Context, Poll};

use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{Response, StatusCode, response};

use crate::headers;
use crate::protect::forwarded::ForwardedPlan;
use crate::strict::grammar::{find, split_field, trim};
use crate::strict::{Door, Relay};

/// Listens to one exchange's interim answers.
#[derive(Debug)]
pub(crate) struct Hints<'a> {
    from: &'a Relay,
    to: &'a Door,
    plan: &'a ForwardedPlan,
    is_registered: bool,
}

impl<'a> Hints<'a> {
    pub(crate) fn new(from: &'a Relay, to: &'a Door, plan: &'a ForwardedPlan) -> Self {
        if from.is_filled() {
            // Left over from an exchange that nobody listened to.
            drop(from.take());
            from.emptied();
        }
        Self { from, to, plan, is_registered: false }
    }

    /// Passes on what is there.
    pub(crate) fn pass_on(&mut self) {
        if !self.from.is_filled() {
            return;
        }
        // Whoever was woken must register again.
        self.is_registered = false;
        let heads = self.from.take();
        self.from.emptied();
        let mut rest = heads.as_slice();
        while let Some(end) = find(rest, b"\r\n\r\n") {
            let (head, behind) = rest.split_at(end + 4);
            if let Some(parts) = read(head) {
                self.to.hints.put(&written(parts, self.plan));
            }
            rest = behind;
        }
    }

    /// Has the task woken when more comes, which only another task can bring.
    pub(crate) fn listen(&mut self, cx: &Context<'_>) {
        if !self.is_registered {
            self.from.register(cx);
            self.is_registered = true;
        }
    }
}

/// Waits until the client's stream has taken what was passed on: the final answer comes behind it.
pub(crate) async fn are_sent(door: &Door) {
    poll_fn(|cx| {
        door.hints.register(cx);
        if door.hints.is_filled() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

/// None where it is not well-formed.
fn read(head: &[u8]) -> Option<response::Parts> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = lines.next()?.get(9..12)?;
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::from_bytes(status).ok().filter(StatusCode::is_informational)?;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = split_field(line)?;
        let value = HeaderValue::from_bytes(trim(value)).ok()?;
        parts.headers.append(HeaderName::from_bytes(name).ok()?, value);
    }
    Some(parts)
}

fn written(mut parts: response::Parts, plan: &ForwardedPlan) -> Vec<u8> {
    headers::to_client(&mut parts, plan);
    parts.headers.remove(CONTENT_LENGTH);
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    for (name, value) in &parts.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ForwardedSettings;

    #[test]
    fn a_hint_loses_what_concerns_one_connection_and_a_bad_one_is_dropped() {
        let plan = ForwardedPlan::new(&ForwardedSettings::default(), Vec::new(), &mut Vec::new());
        let (from, to) = (Relay::default(), Door::default());
        let mut hints = Hints::new(&from, &to, &plan);
        from.put(
            b"HTTP/1.1 103 Hm\r\nLink: </a>\r\nConnection: x-own\r\nX-Own: 1\r\nContent-Length: 3\r\n\r\n",
        );
        from.put(b"HTTP/1.1 103 Hm\r\nLink : </b>\r\n\r\nHTTP/1.1 199 \r\nlink: </c>\r\n\r\n");
        hints.pass_on();
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nvia: 1.1 banyan\r\n\r\n\
                        HTTP/1.1 199 \r\nlink: </c>\r\nvia: 1.1 banyan\r\n\r\n";
        assert_eq!(String::from_utf8(to.hints.take()).unwrap(), expected);
    }
}
