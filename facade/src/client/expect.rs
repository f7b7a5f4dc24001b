//! `Expect: 100-continue` (RFC 9110 §10.1.1): the client is told to send once the upstream asks.
//!
//! Invariant: a body that is waited for is not asked of the client before the upstream asked for it, or was silent for as
//! long as `limits.continue_ms`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{Request, StatusCode};
use tokio::time::{Sleep, sleep};

use crate::body::RequestBody;

/// Whether the upstream has asked for the body.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    is: AtomicBool,
    task: AtomicWaker,
}

/// Stands in front of a body that is waited for.
#[derive(Debug)]
pub(crate) struct Gate {
    asked: Arc<Asked>,
    timer: Pin<Box<Sleep>>,
}

impl Gate {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { asked: Arc::default(), timer: Box::pin(sleep(wait)) }
    }

    pub(crate) fn asked(&self) -> Arc<Asked> {
        Arc::clone(&self.asked)
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.asked.task.register(cx.waker());
        if self.asked.is.load(Relaxed) {
            return Poll::Ready(());
        }
        self.timer.as_mut().poll(cx)
    }
}

/// Has an upstream's 100 open the gate. Other interim answers are not passed on.
pub(crate) fn listen(request: &mut Request<RequestBody>) {
    let Some(asked) = request.body().asked() else { return };
    hyper::ext::on_informational(request, move |interim| {
        if interim.status() == StatusCode::CONTINUE {
            asked.is.store(true, Relaxed);
            asked.task.wake();
        }
    });
}
