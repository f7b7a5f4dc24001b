//! An answer on a connection that it shares with others (HTTP/2), where a client can stop reading one of them.
//!
//! A client that opens no window is not asked for more, so nothing here would ever run again. Therefore the watch looks
//! at such answers, too, and takes away the body, and with it the upstream's connection.
//!
//! Invariant: an answer that its client does not read holds an upstream's connection no longer than the watch allows.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::{BoxError, ResponseBody};

/// One answer.
#[derive(Debug)]
pub(crate) struct Stream {
    /// None once it was taken away.
    body: RefCell<Option<Box<ResponseBody>>>,
    /// The client has to read on first; otherwise it is the upstream that is waited for.
    is_unread: Cell<bool>,
    /// Frames that were taken.
    epoch: Cell<u32>,
}

impl Stream {
    pub(crate) fn new(body: Box<ResponseBody>) -> Self {
        Self { body: RefCell::new(Some(body)), is_unread: Cell::new(true), epoch: Cell::new(0) }
    }

    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut body = self.body.borrow_mut();
        let Some(body) = &mut *body else {
            return Poll::Ready(Some(Err("the client took too long to read the answer".into())));
        };
        let polled = Pin::new(body).poll_frame(cx);
        self.is_unread.set(polled.is_ready());
        self.epoch.set(self.epoch.get().wrapping_add(1));
        polled
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.borrow().as_ref().is_some_and(|body| body.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.borrow().as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.get()
    }

    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread.get()
    }

    pub(crate) fn take_away(&self) {
        drop(self.body.take());
    }
}
