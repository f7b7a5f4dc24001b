//! Upgrades (RFC 9110 §7.8): WebSocket and any other protocol that an upstream switches to.
//!
//! Invariant: nothing that the client sends after its request reaches the upstream before the upstream's 101; and an
//! upstream switches only to what the client asked for.

use std::collections::VecDeque;
use std::io::{self, Cursor};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Response, Version, request, response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, copy_bidirectional, join};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::answer::Answer;
use crate::client::accept::Reception;
use crate::client::stats::count;
use crate::client::websocket::Tunnel;
use crate::headers;
use crate::protect::forwarded::ForwardedPlan;
use crate::upstream::pool::Lease;

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const UPGRADE_OPTION: HeaderValue = HeaderValue::from_static("upgrade");
/// How long one side may go on after the other has said its last.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The protocols that a request asks for; none where it may not ask, or asks for HTTP/2 only: a server that
/// switched to that would take further requests past every rule here.
pub(crate) fn wanted(parts: &request::Parts) -> Option<HeaderValue> {
    let is_asked = parts.headers.contains_key(UPGRADE)
        && (parts.version == Version::HTTP_11 || parts.extensions.get::<Tunnel>().is_some())
        && tokens(&parts.headers, CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    if !is_asked {
        return None;
    }
    let protocols = tokens(&parts.headers, UPGRADE).filter(|protocol| !is_http2(protocol));
    HeaderValue::from_bytes(&protocols.collect::<Vec<_>>().join(&b", "[..]))
        .ok()
        .filter(|list| !list.is_empty())
}

/// Says it again to the next one, after all that concerned one connection was taken out.
pub(crate) fn ask(headers: &mut HeaderMap, protocols: HeaderValue) {
    headers.remove(HTTP2_SETTINGS);
    headers.append(CONNECTION, UPGRADE_OPTION);
    headers.insert(UPGRADE, protocols);
}

/// An upstream's connection after its 101, on its way to the tunnel. An answer's extensions have to be able to go to
/// another thread, although this one never does.
#[derive(Debug, Clone)]
pub(crate) struct Far(Arc<Mutex<Option<(OwnedReadHalf, OwnedWriteHalf, BytesMut)>>>);

impl Far {
    /// What came behind the 101 first, then what the connection brings.
    fn open(self) -> Option<impl AsyncRead + AsyncWrite + Unpin> {
        let (reader, writer, first) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(join(Cursor::new(first).chain(reader), writer))
    }
}

/// An upstream's 101, made into ours; none if it switches to anything but what it was asked for.
pub(crate) fn switched(
    mut parts: response::Parts,
    lease: Lease,
    asked: Option<&HeaderValue>,
    plan: &ForwardedPlan,
) -> Option<Box<Answer>> {
    let protocol = granted(asked?, &parts.headers)?;
    let (reader, writer, first) = lease.into_connection().into_parts();
    parts.extensions.insert(Far(Arc::new(Mutex::new(Some((reader, writer?, first))))));
    headers::to_client(&mut parts, plan);
    parts.headers.insert(CONNECTION, UPGRADE_OPTION);
    parts.headers.insert(UPGRADE, protocol);
    Some(Box::new(Answer { parts, held: VecDeque::new(), rest: None }))
}

fn granted(asked: &HeaderValue, answer: &HeaderMap) -> Option<HeaderValue> {
    let mut granted = tokens(answer, UPGRADE).peekable();
    granted.peek()?;
    let is_asked = |protocol: &[u8]| items(asked).any(|one| one.eq_ignore_ascii_case(protocol));
    granted.all(is_asked).then(|| answer.get(UPGRADE).cloned()).flatten()
}

fn is_http2(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"h2c")
        || protocol.eq_ignore_ascii_case(b"h2")
        || protocol.to_ascii_lowercase().starts_with(b"http/")
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().flat_map(items)
}

fn items(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Joins both sides once the client has its answer. What is `kept` is dropped when they part.
pub(crate) fn start<B>(
    reception: &Rc<Reception>,
    of_client: OnUpgrade,
    response: &mut Response<B>,
    kept: impl Sized + 'static,
) {
    let Some(far) = response.extensions_mut().remove::<Far>().and_then(Far::open) else { return };
    let reception = Rc::clone(reception);
    tokio::task::spawn_local(async move {
        let near = match of_client.await {
            Ok(near) => near,
            Err(error) => return tracing::debug!(%error, "an upgrade failed: {error}"),
        };
        let _open = Open::new(&reception);
        tunnel(near, far, reception.plan().upgrade_idle).await;
        drop(kept);
    });
}

/// Counts a tunnel while it is open. Holds the drain as every connection does.
struct Open {
    reception: Rc<Reception>,
    _drain: watch::Receiver<bool>,
}

impl Open {
    fn new(reception: &Rc<Reception>) -> Self {
        count(&reception.worker.clients.upgrades);
        count(&reception.worker.clients.upgrades_open);
        Self { reception: Rc::clone(reception), _drain: reception.drain.clone() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reception.worker.clients.upgrades_open.fetch_sub(1, Relaxed);
    }
}

/// Passes bytes both ways until both sides have ended, or nothing has passed for `idle`.
async fn tunnel(near: Upgraded, far: impl AsyncRead + AsyncWrite + Unpin, idle: Duration) {
    let pulse = Pulse::default();
    let mut near = Felt { stream: TokioIo::new(near), pulse: &pulse };
    let mut far = Felt { stream: far, pulse: &pulse };
    let copy = copy_bidirectional(&mut near, &mut far);
    tokio::pin!(copy);
    let step = idle.min(LAST_WORDS);
    let (mut before, mut quiet) = (pulse.beats.load(Relaxed), Duration::ZERO);
    loop {
        tokio::select! {
            ended = &mut copy => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an upgraded connection broke: {error}");
                }
                return;
            }
            () = sleep(step) => {
                let beats = pulse.beats.load(Relaxed);
                quiet = if beats == before { quiet + step } else { Duration::ZERO };
                before = beats;
                let patience = if pulse.half_ended.load(Relaxed) { step } else { idle };
                if quiet >= patience {
                    return;
                }
            }
        }
    }
}

/// What passes through a tunnel.
#[derive(Debug, Default)]
struct Pulse {
    beats: AtomicU64,
    half_ended: AtomicBool,
}

/// A side of a tunnel whose bytes are felt.
struct Felt<'p, S> {
    stream: S,
    pulse: &'p Pulse,
}

impl<S: AsyncRead + Unpin> AsyncRead for Felt<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        self.pulse.beats.fetch_add(1, Relaxed);
        if into.filled().len() == before {
            self.pulse.half_ended.store(true, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Felt<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.pulse.beats.fetch_add(1, Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(version: Version, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::get("/").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        wanted(&parts).map(|list| list.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_headers_and_never_to_http2() {
        let ask =
            |upgrade| asked(Version::HTTP_11, &[("connection", "keep-alive, Upgrade"), ("upgrade", upgrade)]);
        assert_eq!(ask("websocket").as_deref(), Some("websocket"));
        assert_eq!(ask("h2c"), None);
        assert_eq!(ask("H2C, websocket, HTTP/2.0").as_deref(), Some("websocket"));
        assert_eq!(asked(Version::HTTP_11, &[("upgrade", "websocket")]), None);
        assert_eq!(asked(Version::HTTP_10, &[("connection", "upgrade"), ("upgrade", "websocket")]), None);
    }

    #[test]
    fn only_what_was_asked_for_is_granted() {
        let upgrade =
            |value: &'static str| HeaderMap::from_iter([(UPGRADE, HeaderValue::from_static(value))]);
        let asked = HeaderValue::from_static("websocket, chat/2");
        assert_eq!(granted(&asked, &upgrade("WebSocket")).unwrap(), "WebSocket");
        assert!(granted(&asked, &upgrade("chat")).is_none());
        assert!(granted(&asked, &HeaderMap::new()).is_none());
    }
}
