//! A client's stream with the check on its reading side.
//!
//! Invariant: bytes that pass stay where the socket's read put them; only a unit that arrives in pieces is copied.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::strict::scanner::{Scanner, Stop};
use crate::strict::{Asked, Door, Fault, Limits, STAND_IN};

/// How long, and how many bytes, a refused client is listened to after its answer: closing earlier would reset the
/// connection, and the answer could be lost on the way.
const LINGER: Duration = Duration::from_secs(2);
const MOST_LINGERED: usize = 1024 * 1024;

/// A stream that hands on only what passed.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    inner: S,
    scanner: Scanner,
    door: Arc<Door>,
    answers_before: u64,
    mode: Mode,
    /// What could not be handed on yet: first what has passed, then the unit that is not complete.
    held: BytesMut,
    passed: usize,
    lingering: Option<Box<Lingering>>,
    /// Interim answers that are being written.
    hints: Option<Box<Bytes>>,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Watching,
    /// The answer to the last head decides what follows it.
    Deciding,
    /// The bytes are of another protocol.
    Upgraded,
    /// The stand-in was the last to be handed on.
    Refused,
    Broken(Fault),
}

#[derive(Debug)]
struct Lingering {
    timer: Pin<Box<Sleep>>,
    left: usize,
}

impl<S> Guarded<S> {
    /// Begins between two requests, none of which is being answered.
    pub(crate) fn new(inner: S, limits: Limits, door: Arc<Door>) -> Self {
        Self {
            inner,
            scanner: Scanner::new(limits),
            answers_before: door.answers.load(Relaxed),
            door,
            mode: Mode::Watching,
            held: BytesMut::new(),
            passed: 0,
            lingering: None,
            hints: None,
        }
    }

    /// The stream, if another request may follow on it: the last one was read to its end, none has begun, and nothing
    /// was refused. What it sends after a refusal, or of a body that was given up, must never be taken for a request.
    pub(crate) fn between_requests(self) -> Option<S> {
        let is_between =
            matches!(self.mode, Mode::Watching) && self.held.is_empty() && self.scanner.is_between();
        is_between.then_some(self.inner)
    }

    /// The stream, to say a last word on it.
    pub(crate) fn into_inner(self) -> S {
        self.inner
    }

    /// Looks at what arrived, which the buffer holds from `before` on, and leaves there what has passed.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if !self.held.is_empty() {
            self.held.extend_from_slice(fresh);
            buf.set_filled(before);
            return self.inspect_held();
        }
        let (passed, stop) = self.scanner.scan(fresh);
        if passed < fresh.len() || stop.is_some() {
            self.held.extend_from_slice(fresh.get(passed..).unwrap_or_default());
            buf.set_filled(before + passed);
            self.stop(0, stop);
        }
    }

    fn inspect_held(&mut self) {
        let (passed, stop) = self.scanner.scan(&self.held);
        self.stop(passed, stop);
    }

    /// Of what is held, so much has passed; what follows depends on why the reading stopped.
    fn stop(&mut self, passed: usize, stop: Option<Stop>) {
        self.passed = passed;
        match stop {
            None => {}
            Some(Stop::Upgrade) => self.mode = Mode::Deciding,
            Some(Stop::Head { fault, is_head }) => {
                let asked = Asked::read(self.held.get(passed..).unwrap_or_default());
                let _ = self.door.fault.set(Box::new((fault, asked)));
                self.held.truncate(passed);
                let method = if is_head { "HEAD" } else { "GET" };
                self.held.extend_from_slice(format!("{method} {STAND_IN} HTTP/1.1\r\n\r\n").as_bytes());
                self.passed = self.held.len();
                self.mode = Mode::Refused;
            }
            Some(Stop::Body(fault)) => {
                self.held.truncate(passed);
                self.mode = Mode::Broken(fault);
            }
        }
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let size = self.passed.min(buf.remaining());
        buf.put_slice(self.held.get(..size).unwrap_or_default());
        self.held.advance(size);
        self.passed -= size;
        if self.held.is_empty() {
            // An idle connection keeps no memory for it.
            self.held = BytesMut::new();
        }
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Whether the answer to the last head has been decided.
    fn poll_decided(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.door.upgraded.load(Relaxed) {
            self.mode = Mode::Upgraded;
            self.passed = self.held.len();
            return Poll::Ready(());
        }
        if self.door.answers.load(Relaxed).wrapping_sub(self.answers_before) < self.scanner.heads() {
            self.door.reader.register(cx.waker());
            self.door.is_waiting.store(true, Relaxed);
            return Poll::Pending;
        }
        self.mode = Mode::Watching;
        self.inspect_held();
        Poll::Ready(())
    }

    /// Reads and forgets. The end is not told: hyper would take it for a client that is gone, and not answer.
    fn poll_forget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    let Some(lingering) = &mut self.lingering else { continue };
                    let Some(left) = lingering.left.checked_sub(buf.filled().len()) else {
                        return Poll::Ready(());
                    };
                    lingering.left = left;
                }
                _ => return Poll::Ready(()),
            }
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| {
            Box::new(Lingering { timer: Box::pin(sleep(LINGER)), left: MOST_LINGERED })
        });
        if lingering.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_forget(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            match this.mode {
                Mode::Watching => {}
                Mode::Upgraded => return Pin::new(&mut this.inner).poll_read(cx, buf),
                Mode::Deciding => {
                    ready!(this.poll_decided(cx));
                    continue;
                }
                Mode::Refused => {
                    let _ = this.poll_forget(cx);
                    return Poll::Pending;
                }
                Mode::Broken(fault) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault.detail)));
                }
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.inspect(buf, before);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Writes interim answers. It is begun only where hyper flushes, because then nothing of it is left to be written.
    fn poll_hints(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let door = &self.door;
        loop {
            // Taken again after each writing: more may have come while the client did not read.
            let hints = self.hints.get_or_insert_with(|| Box::new(door.hints.take().into()));
            if hints.is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, hints))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            hints.advance(written);
            if hints.is_empty() {
                self.hints = None;
            }
        }
        self.hints = None;
        self.door.hints.emptied();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.hints.is_some() {
            ready!(self.poll_hints(cx))?;
        }
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hints.is_some() {
            ready!(self.poll_hints(cx))?;
        }
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.door.hints.is_filled() {
            ready!(self.poll_hints(cx))?;
        }
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        if matches!(this.mode, Mode::Refused | Mode::Broken(_)) {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
