//! A client's stream, with what was read of it in advance, that tells what passes.
//!
//! Invariant: bytes come out in the order in which they came in, those read in advance first.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::traffic::Traffic;

/// So many bytes in several pieces are written as one: to copy them costs less than the kernel's way of gathering them.
const GATHERED: usize = 2048;

/// The stream under a connection.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    first: Bytes,
    traffic: Arc<Traffic>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, first: Bytes, traffic: &Arc<Traffic>) -> Self {
        if !first.is_empty() {
            traffic.arrived();
        }
        Self { stream, first, traffic: Arc::clone(traffic) }
    }

    /// These bytes come out next.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.first = bytes;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.first.is_empty() {
            let count = this.first.len().min(into.remaining());
            into.put_slice(&this.first.copy_to_bytes(count));
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, into))?;
        if into.filled().len() > before {
            this.traffic.arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.traffic.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().map(|slice| slice.len()).sum::<usize>() <= GATHERED {
            let mut room = [MaybeUninit::uninit(); GATHERED];
            let mut gathered = ReadBuf::uninit(&mut room);
            slices.iter().for_each(|slice| gathered.put_slice(slice));
            return self.poll_write(cx, gathered.filled());
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.traffic.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.traffic.wrote(&polled);
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
