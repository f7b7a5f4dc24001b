//! Record: what came of a request, counted and logged once, when its answer has ended or was given up.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use control::Side;
use http::request;

use crate::access_log::{Line, Queued};
use crate::client::Client;
use crate::gate::WriteGuard;
use crate::metrics::{Flight, Outcome};
use crate::phases::identify::Identity;
use crate::plan::{ContextId, UpstreamId};
use crate::protect::forwarded::ClientAddress;
use crate::strict::Asked;
use crate::worker::Worker;

/// Goes with a request from its head to the end of its answer; the drop records it.
#[derive(Debug)]
pub(crate) struct Ticket {
    worker: Rc<Worker>,
    started: Instant,
    flight: Flight,
    is_read: bool,
    pub(crate) context: Option<ContextId>,
    pub(crate) side: Side,
    pub(crate) fell_back: bool,
    /// Whether the route named the upstream, so that neither side was chosen.
    pub(crate) is_sideless: bool,
    /// Whether the client reads trailers.
    pub(crate) takes_trailers: bool,
    /// None until there is an answer.
    pub(crate) status: Option<u16>,
    /// Of a write: a switch of ownership waits for it.
    pub(crate) write: Option<WriteGuard>,
    /// Bytes of the request's body; none where it has no body.
    pub(crate) received: Option<Rc<Cell<u64>>>,
    /// Bytes of the answer's body.
    pub(crate) sent: u64,
    /// Only where the access log is on.
    line: Option<Box<Line>>,
}

impl Ticket {
    pub(crate) fn begin(worker: &Rc<Worker>, client: &Client, parts: &request::Parts) -> Self {
        Self {
            worker: Rc::clone(worker),
            started: Instant::now(),
            flight: worker.stats.begin(),
            is_read: parts.method.is_safe(),
            context: None,
            side: Side::Monolith,
            fell_back: false,
            is_sideless: false,
            takes_trailers: false,
            status: None,
            write: None,
            received: None,
            sent: 0,
            line: worker.log.as_ref().map(|_| Box::new(line(worker, client, parts))),
        }
    }

    /// Completes the line of the access log, if there is one.
    pub(crate) fn identified(&mut self, identity: &Identity) {
        if let Some(line) = &mut self.line {
            line.request_id = Some(identity.request_id.clone());
            line.traceparent = identity.traceparent.clone();
        }
    }

    /// The request that was refused before it could be one, as far as it could be read.
    pub(crate) fn stands_for(&mut self, asked: Option<&Asked>) {
        if let (Some(line), Some(asked)) = (&mut self.line, asked) {
            line.method.clone_from(&asked.method);
            line.target.clone_from(&asked.target);
        }
    }

    /// Whose request it is, as far as the networks before us are trusted.
    pub(crate) fn came_from(&mut self, address: &ClientAddress) {
        if let Some(line) = &mut self.line {
            line.client = address.text.clone();
        }
    }

    /// From now on the request is under way at that side.
    pub(crate) fn decided(&mut self, side: Side, upstream: UpstreamId, write: Option<WriteGuard>) {
        (self.side, self.write) = (side, write);
        self.worker.stats.decided(&mut self.flight, self.context, side);
        if let Some(line) = &mut self.line {
            line.upstream = Some((side, upstream));
        }
    }

    fn log(&mut self, took: Duration) {
        let (Some(mut line), Some(log)) = (self.line.take(), &self.worker.log) else { return };
        line.took = took;
        line.context = self.context;
        line.status = self.status;
        line.bytes = self.sent;
        line.fell_back = self.fell_back;
        if self.fell_back {
            line.upstream = Some((Side::Monolith, self.worker.plan.monolith));
        }
        if log.borrow_mut().offer(line) == Queued::Dropped {
            self.worker.stats.unlogged();
        }
    }
}

fn line(worker: &Worker, client: &Client, parts: &request::Parts) -> Line {
    Line {
        plan: Arc::clone(&worker.plan),
        time: SystemTime::now(),
        took: Duration::ZERO,
        client: client.hop.peer().text.clone(),
        method: parts.method.clone(),
        target: parts.uri.clone(),
        version: parts.version,
        status: None,
        bytes: 0,
        context: None,
        upstream: None,
        request_id: None,
        traceparent: None,
        fell_back: false,
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let Self { context, side, is_read, status, sent, .. } = *self;
        let received = self.received.as_ref().map_or(0, |received| received.get());
        let outcome = Outcome { context, side, is_read, status, took, received, sent };
        self.worker.stats.end(self.flight, &outcome);
        self.log(took);
    }
}
