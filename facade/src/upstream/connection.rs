//! One connection to an upstream, and what drives it.
//!
//! The task that waits for an answer drives the connection itself: a task of its own would be woken for each request and
//! each answer, and a burst of requests would wait for two turns of the scheduler where one does.
//!
//! Invariant: what the client sends beside reading its answer (a body, an upgraded stream) never waits for that reading,
//! so a connection gets a task of its own before it carries such a request, and keeps it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http_body::{Body, Frame};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::RequestBody;
use crate::strict::{Interim, Relay};

type Driven = http1::Connection<TokioIo<Interim<TcpStream>>, RequestBody>;

/// A connection on which requests are sent one after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Where its interim answers come out.
    pub(crate) relay: Arc<Relay>,
    pub(crate) driver: Driver,
    pub(crate) alarm: Alarm,
}

/// What moves a connection's bytes; nothing once it has a task of its own, or has ended.
#[derive(Debug)]
pub(crate) struct Driver(Option<Box<Driven>>);

impl Connection {
    pub(crate) async fn open(stream: TcpStream) -> hyper::Result<Self> {
        let relay = Arc::<Relay>::default();
        let stream = TokioIo::new(Interim::new(stream, Arc::clone(&relay)));
        let (sender, driver) = http1::Builder::new().handshake(stream).await?;
        Ok(Self { sender, relay, driver: Driver(Some(Box::new(driver))), alarm: Alarm::default() })
    }
}

impl Driver {
    /// Whether a task of its own drives it, or nobody any more.
    pub(crate) fn is_detached(&self) -> bool {
        self.0.is_none()
    }

    /// Gives it a task of its own.
    pub(crate) fn detach(&mut self) {
        let Some(driven) = self.0.take() else { return };
        tokio::task::spawn_local(async move {
            // Its failure reaches the exchange that it serves; an idle one simply closes.
            let _ = driven.with_upgrades().await;
        });
    }

    /// Drives it, then polls what it feeds. Who polls is not woken by its own doing: whatever the connection brings, it
    /// brings while it is driven here.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut fed: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.0.is_none() {
            return fed(cx);
        }
        self.drive(cx);
        let polled = fed(&mut Context::from_waker(Waker::noop()));
        if polled.is_pending() && !has_budget_remaining() {
            // It may be pending for no other reason, and has asked nobody to come back.
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// The next piece of an answer's body.
    pub(crate) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if self.0.is_some() {
            // What is there already makes room for what follows.
            let there = Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
            if there.is_ready() {
                return there;
            }
        }
        self.poll(cx, |cx| Pin::new(&mut *incoming).poll_frame(cx))
    }

    /// Lets it see that an answer was read, and whether the other end has closed; nobody waits for it any more.
    pub(crate) fn settle(&mut self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driven) = &mut self.0
            && Pin::new(driven).poll(cx).is_ready()
        {
            self.0 = None;
        }
    }
}

/// Rings once an exchange takes too long. It is set anew only where it would ring too late, or has rung too early: most
/// exchanges end long before, and to set a timer for each costs more than to hear one that is not meant now and then.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_alarm_of_an_exchange_rings_at_its_own_deadline() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Exchanges that were answered in time.
        for deadline in [50, 80, 30] {
            assert!(alarm.poll(at(deadline), &mut Context::from_waker(Waker::noop())).is_pending());
        }
        poll_fn(|cx| alarm.poll(at(200), cx)).await;
        assert_eq!(start.elapsed().as_millis(), 200);
        poll_fn(|cx| alarm.poll(at(250), cx)).await;
        assert_eq!(start.elapsed().as_millis(), 250);
    }
}
