//! A client's request body, shared by its way to an upstream and by the one who answers.
//!
//! Invariant: what an answer leaves unread of it is read and thrown away, within bounds; a connection that closes
//! on a client which still sends is reset, and the client loses the answer. Over HTTP/2 it is only the stream that is
//! reset, but there are clients that lose the answer by that too.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{EXPECT, HeaderValue};
use http::{Version, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::body::BodyFault;
use crate::client::{Client, UnderWay};
use crate::plan::Plan;
use crate::strict::http2;
use crate::trailers::Announced;

/// Bytes that are read only to be thrown away.
const MOST_DISCARDED: u64 = 4 * 1024 * 1024;
/// How long that may take.
const LONGEST_DISCARD: Duration = Duration::from_secs(2);

/// A body that a client sends; whoever drops it last has the rest of it thrown away.
#[derive(Debug)]
pub(crate) struct Upload {
    state: RefCell<State>,
    moved: Cell<Instant>,
    /// The upstream would take more than the client has sent.
    is_behind: Cell<bool>,
    /// Bytes that went to an upstream; outlives the body.
    received: Rc<Cell<u64>>,
    announced: Announced,
    /// The client sends nothing before it is told to (`Expect: 100-continue`), which the first reading does.
    waits: Cell<bool>,
    /// Kept for its drop: an upstream may want the body to its end although it has answered.
    _under_way: UnderWay,
}

#[derive(Debug)]
enum State {
    Open(Incoming),
    Ended,
    /// The rest is being thrown away. For an upstream it breaks off: a body with a hole in it must not look whole.
    GivenUp,
}

impl Upload {
    /// None where there is no body.
    pub(crate) fn new(
        incoming: Incoming,
        parts: &request::Parts,
        plan: &Plan,
        client: &Rc<Client>,
    ) -> Option<Rc<Self>> {
        (!incoming.is_end_stream()).then(|| {
            let mut announced = Announced::read(&parts.headers);
            announced.retain(|name| plan.is_harmless(name));
            Rc::new(Self {
                announced,
                state: RefCell::new(State::Open(incoming)),
                moved: Cell::new(Instant::now()),
                is_behind: Cell::new(false),
                received: Rc::default(),
                // HTTP/1.0 does not know the expectation, and over HTTP/2 nobody waits for long.
                waits: Cell::new(
                    parts.version == Version::HTTP_11 && parts.headers.get(EXPECT).is_some_and(is_continue),
                ),
                _under_way: UnderWay::hold(client),
            })
        })
    }

    /// Whether the client waits to be told to send it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waits.get()
    }

    /// From when the wait for an answer counts; none while it is the client who is waited for.
    pub(crate) fn answer_is_due_since(&self) -> Option<Instant> {
        (!self.is_behind.get()).then(|| self.moved.get())
    }

    /// Bytes that went to an upstream so far.
    pub(crate) fn received(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.received)
    }

    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        self.waits.set(false);
        let mut state = self.state.borrow_mut();
        let incoming = match &mut *state {
            State::Open(incoming) => incoming,
            State::Ended => return Poll::Ready(None),
            State::GivenUp => return Poll::Ready(Some(Err(BodyFault::Broken))),
        };
        let polled = Pin::new(incoming).poll_frame(cx);
        self.is_behind.set(polled.is_pending());
        let frame = ready!(polled);
        self.moved.set(Instant::now());
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.received.set(self.received.get() + data.len() as u64);
        }
        if !matches!(frame, Some(Ok(_))) {
            *state = State::Ended;
        }
        // Those of HTTP/1 have been read before hyper read them.
        if let Some(Ok(frame)) = &frame
            && frame.trailers_ref().is_some_and(|trailers| !http2::are_sound(trailers))
        {
            return Poll::Ready(Some(Err(BodyFault::Broken)));
        }
        let Some(frame) = frame else { return Poll::Ready(None) };
        let passed = frame.map(|frame| self.announced.pass(frame));
        if let Ok(None) = passed {
            *state = State::Ended;
        }
        Poll::Ready(passed.map_err(|_| BodyFault::Broken).transpose())
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match &*self.state.borrow() {
            State::Open(incoming) => incoming.is_end_stream(),
            State::Ended => true,
            State::GivenUp => false,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &*self.state.borrow() {
            State::Open(incoming) => incoming.size_hint(),
            State::Ended => SizeHint::with_exact(0),
            State::GivenUp => SizeHint::default(),
        }
    }

    /// Throws the rest away; false if there is more of it than is worth waiting for.
    pub(crate) async fn discard(&self) -> bool {
        let State::Open(mut incoming) = self.state.replace(State::GivenUp) else { return true };
        if self.waits.get() {
            return false;
        }
        let is_short = incoming.size_hint().lower() <= MOST_DISCARDED;
        if is_short && read_away(&mut incoming).await {
            return true;
        }
        linger(incoming);
        false
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let State::Open(incoming) = self.state.replace(State::Ended)
            && !self.waits.get()
            && !incoming.is_end_stream()
        {
            linger(incoming);
        }
    }
}

fn is_continue(expectation: &HeaderValue) -> bool {
    expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Reads on while the answer is on its way.
fn linger(mut incoming: Incoming) {
    tokio::task::spawn_local(async move { read_away(&mut incoming).await });
}

/// Whether the end was reached.
async fn read_away(incoming: &mut Incoming) -> bool {
    let all = async {
        let mut left = MOST_DISCARDED;
        while !incoming.is_end_stream() {
            let Some(frame) = incoming.frame().await else { return true };
            let Ok(frame) = frame else { return false };
            let size = u64::try_from(frame.data_ref().map_or(0, Bytes::len)).unwrap_or(u64::MAX);
            let Some(less) = left.checked_sub(size) else { return false };
            left = less;
        }
        true
    };
    timeout(LONGEST_DISCARD, all).await.unwrap_or(false)
}
