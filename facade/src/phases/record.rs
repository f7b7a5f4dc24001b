//! Record: what came of a request, counted and logged once, when its answer has ended or was given up.

use std::rc::Rc;
use std::time::Instant;

use control::Side;
use http::request;

use crate::gate::WriteGuard;
use crate::metrics::Outcome;
use crate::plan::ContextId;
use crate::worker::Worker;

/// Goes with a request from its head to the end of its answer; the drop records it.
#[derive(Debug)]
pub(crate) struct Ticket {
    worker: Rc<Worker>,
    started: Instant,
    pub(crate) context: Option<ContextId>,
    pub(crate) side: Side,
    pub(crate) fell_back: bool,
    /// Whether the route named the upstream, so that neither side was chosen.
    pub(crate) is_sideless: bool,
    /// None until there is an answer.
    pub(crate) status: Option<u16>,
    /// Of a write: a switch of ownership waits for it.
    pub(crate) write: Option<WriteGuard>,
    line: Option<Box<Line>>,
}

/// What the access log says beyond the counters; only kept where the log is on.
#[derive(Debug)]
struct Line {
    method: String,
    path: String,
    request_id: String,
}

impl Ticket {
    pub(crate) fn begin(worker: &Rc<Worker>, parts: &request::Parts) -> Self {
        worker.stats.begin();
        let line =
            tracing::enabled!(target: "facade::access", tracing::Level::DEBUG).then(|| Line::of(parts));
        Self {
            worker: Rc::clone(worker),
            started: Instant::now(),
            context: None,
            side: Side::Monolith,
            fell_back: false,
            is_sideless: false,
            status: None,
            write: None,
            line: line.map(Box::new),
        }
    }

    /// Completes the line of the access log, if there is one.
    pub(crate) fn identified(&mut self, request_id: &[u8]) {
        if let Some(line) = &mut self.line {
            line.request_id = String::from_utf8_lossy(request_id).into_owned();
        }
    }
}

impl Line {
    fn of(parts: &request::Parts) -> Self {
        Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            request_id: String::new(),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let Self { context, side, status, .. } = *self;
        self.worker.stats.end(&Outcome { context, side, status, took });
        let Some(Line { method, path, request_id }) = self.line.as_deref() else { return };
        let context =
            context.and_then(|id| self.worker.plan.context(id)).map(|context| context.name.as_str());
        let duration_ms = took.as_secs_f64() * 1000.0;
        let (side, fell_back) = (side.as_str(), self.fell_back);
        tracing::debug!(
            target: "facade::access",
            method, path, request_id, status, context, side, fell_back, duration_ms,
            "{method} {path} answered {} by the {side}", status.unwrap_or_default()
        );
    }
}
