//! Bodies on their way through: piece by piece, each direction with its own patience.
//!
//! Invariant: no body is ever held whole; a side that stops sending ends its exchange after the idle time.

use std::collections::VecDeque;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::answer::Refusal;
use crate::client::expect::Gate;
use crate::client::measure::Measure;
use crate::client::plan::BodyLimits;
use crate::phases::record::Ticket;
use crate::trailers::Announced;
use crate::upload::Upload;
use crate::upstream::incoming::Incoming;
use crate::upstream::pool::Lease;

/// Bytes of an answer's body that are looked at before its head goes on.
const MOST_LOOKED_AT: usize = 16 * 1024;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a client's request body did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It stopped for longer than the idle time.
    Stalled,
    /// It came slower than it has to.
    Slow,
    /// It is larger than it may be.
    TooLarge,
    /// It broke off, or its framing is wrong.
    Broken,
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stalled => "the request body stopped arriving",
            Self::Slow => "the request body arrives too slowly",
            Self::TooLarge => "the request body is larger than this server takes",
            Self::Broken => "the request body broke off, or its chunks or trailers are wrong",
        })
    }
}

impl Error for BodyFault {}

impl BodyFault {
    /// What the client is told.
    pub(crate) fn refusal(self) -> Refusal {
        let detail = self.to_string();
        match self {
            Self::Stalled | Self::Slow => Refusal::new(StatusCode::REQUEST_TIMEOUT, detail).closing(),
            Self::TooLarge => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail),
            Self::Broken => Refusal::new(StatusCode::BAD_REQUEST, detail).closing(),
        }
    }
}

/// Runs while nothing arrives; made only when something is waited for, because most bodies are already there.
#[derive(Debug, Default)]
struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Patience {
    fn something_came(&mut self) {
        self.running = false;
    }

    /// `limit` counts from the first time that nothing was there.
    fn poll_over(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.running {
            timer.as_mut().reset(tokio::time::Instant::now() + limit);
            self.running = true;
        }
        timer.as_mut().poll(cx)
    }
}

/// A request's body on its way to an upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// It comes from the client.
    Client(Box<ClientBody>),
}

/// A body that a client sends.
#[derive(Debug)]
pub(crate) struct ClientBody {
    upload: Rc<Upload>,
    patience: Patience,
    measure: Measure,
    /// Shut while the client waits to be told to send, and the upstream has not asked for the body.
    gate: Option<Gate>,
}

impl RequestBody {
    pub(crate) fn new(upload: Option<&Rc<Upload>>, limits: &BodyLimits) -> Self {
        upload.map_or(Self::Empty, |upload| {
            Self::Client(Box::new(ClientBody {
                upload: Rc::clone(upload),
                patience: Patience::default(),
                measure: Measure::new(*limits),
                gate: upload.is_awaited().then(|| Gate::new(limits.wait)),
            }))
        })
    }

    /// The upstream asks for the body; whether that was waited for.
    pub(crate) fn open_gate(&mut self) -> bool {
        match self {
            Self::Client(body) => body.gate.take().is_some(),
            Self::Empty => false,
        }
    }

    /// Whether it waits to be asked for.
    pub(crate) fn is_gated(&self) -> bool {
        matches!(self, Self::Client(body) if body.gate.is_some())
    }

    /// What knows when the body last moved.
    pub(crate) fn upload(&self) -> Option<Rc<Upload>> {
        match self {
            Self::Empty => None,
            Self::Client(body) => Some(Rc::clone(&body.upload)),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Self::Client(body) = self.get_mut() else { return Poll::Ready(None) };
        if let Some(gate) = &mut body.gate {
            ready!(gate.poll(cx));
            body.gate = None;
        }
        match body.upload.poll_frame(cx) {
            Poll::Ready(frame) => {
                body.patience.something_came();
                Poll::Ready(frame.map(|frame| body.measure.take(frame?)))
            }
            Poll::Pending => {
                let (limit, fault) = body.measure.wait();
                ready!(body.patience.poll_over(limit, cx));
                Poll::Ready(Some(Err(fault)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.upload.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.upload.size_hint(),
        }
    }
}

/// An upstream's answer body, with the connection it comes over.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    /// A body that came without goes on without, even if all of it is there: it may have trailers.
    has_length: bool,
    /// What came with the head: one piece, mostly.
    first: Option<Frame<Bytes>>,
    more: VecDeque<Frame<Bytes>>,
    /// A connection whose answer is not read to its end is of no use to the next request: it closes with this.
    lease: Option<Lease>,
    announced: Announced,
    idle: Duration,
    patience: Patience,
}

impl UpstreamBody {
    pub(crate) fn new(incoming: Incoming, headers: &HeaderMap, lease: Lease, idle: Duration) -> Self {
        let announced = match incoming {
            Incoming::Chunked(_) => Announced::read(headers),
            _ => Announced::default(),
        };
        let has_length = matches!(incoming, Incoming::Nothing | Incoming::Length(_));
        Self {
            incoming,
            first: None,
            more: VecDeque::new(),
            has_length,
            lease: Some(lease),
            announced,
            idle,
            patience: Patience::default(),
        }
    }

    /// Looks at what came with the head, without waiting for more: if that is broken already, the client can still be
    /// told. What comes later cannot be waited for, or an event stream's head would be late.
    pub(crate) fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut size = 0;
        while let Poll::Ready(Some(frame)) = self.poll_incoming(cx)? {
            size += frame.data_ref().map_or(0, Bytes::len);
            match self.first {
                None => self.first = Some(frame),
                Some(_) => self.more.push_back(frame),
            }
            if self.is_read() || size > MOST_LOOKED_AT {
                break;
            }
        }
        Ok(())
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        let frame = ready!(self.incoming.poll_frame(&mut lease.connection, cx));
        if self.is_read() {
            self.give_back();
        }
        Poll::Ready(frame.and_then(|frame| frame.map(|frame| self.announced.pass(frame)).transpose()))
    }

    /// Nothing more comes, so the connection is free for others.
    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(held) = self.first.take().or_else(|| self.more.pop_front()) {
            return Poll::Ready(Some(Ok(held)));
        }
        match self.poll_incoming(cx) {
            Poll::Ready(frame) => {
                self.patience.something_came();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.patience.poll_over(self.idle, cx));
                Poll::Ready(Some(Err("the answer's body stopped arriving".into())))
            }
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let held = self.first.iter().chain(&self.more).filter_map(Frame::data_ref).map(Bytes::len).sum();
        let hint = plus(&self.incoming.size_hint(), held);
        if self.has_length { hint } else { open(&hint) }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.more.is_empty() && self.is_read()
    }

    /// Whether nothing more comes over the connection.
    pub(crate) fn is_read(&self) -> bool {
        self.incoming.is_read()
    }
}

/// A size and that of what is held of it.
fn plus(rest: &SizeHint, held: usize) -> SizeHint {
    let held = u64::try_from(held).unwrap_or(u64::MAX);
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower().saturating_add(held));
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper.saturating_add(held));
    }
    hint
}

/// At least as much.
fn open(hint: &SizeHint) -> SizeHint {
    let mut open = SizeHint::new();
    open.set_lower(hint.lower());
    open
}

/// An answer's body on its way to the client; the exchange is recorded when it ends, one way or the other.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    held: VecDeque<Frame<Bytes>>,
    rest: Option<UpstreamBody>,
    /// Counts what passes; its drop records the exchange.
    ticket: Ticket,
}

impl ResponseBody {
    /// What was held back, then what is still to come.
    pub(crate) fn new(held: VecDeque<Frame<Bytes>>, rest: Option<UpstreamBody>, ticket: Ticket) -> Self {
        Self { held, rest, ticket }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match (self.held.pop_front(), &mut self.rest) {
            (Some(frame), _) => Some(Ok(frame)),
            (None, Some(body)) => ready!(body.poll_frame(cx)),
            (None, None) => None,
        };
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.ticket.sent += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.rest.as_ref().is_none_or(UpstreamBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), UpstreamBody::size_hint);
        let held: usize = self.held.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let hint = plus(&rest, held);
        // A length that is known goes out as Content-Length, and then there is no place for trailers.
        if self.held.iter().any(Frame::is_trailers) { open(&hint) } else { hint }
    }
}
