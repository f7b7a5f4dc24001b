//! What is counted of every request.
//!
//! Invariant: the route is the pattern that matched, never the path, so that clients cannot make series; and a request
//! after the first of its kind takes no lock and allocates nothing but the pattern.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};

use crate::metrics::{Counter, Durations, Family, Gauge, Labels, Metrics};

/// The route of requests that no pattern matched, or whose handler panicked.
const UNMATCHED: &str = "unmatched";

/// The families of a process; clones share them.
#[derive(Clone)]
pub(super) struct Families {
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Durations>,
    in_flight: Gauge,
}

/// One worker's way to the series, so that it finds them without asking the others.
pub(super) struct Stats {
    families: Families,
    series: RefCell<HashMap<String, Vec<Series>>>,
}

/// The series of one method on one route.
struct Series {
    method: Method,
    durations: Durations,
    requests: Vec<(StatusCode, Counter)>,
}

/// A request that is being handled; counted until it is dropped, also when its client goes away.
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Families {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let in_flight =
            metrics.gauge("banyan_http_requests_in_flight", "Requests whose answer has not begun yet.");
        Self {
            requests: metrics.counter("banyan_http_requests_total", "Requests answered."),
            durations: metrics.durations(
                "banyan_http_request_duration_seconds",
                "Time from a request's head to the head of its answer.",
            ),
            in_flight: in_flight.get_or_create(&Labels::new()).clone(),
        }
    }
}

impl Stats {
    pub(super) fn new(families: Families) -> Self {
        Self { families, series: RefCell::default() }
    }

    pub(super) fn begin(&self) -> InFlight {
        self.families.in_flight.inc();
        InFlight(self.families.in_flight.clone())
    }

    pub(super) fn end(&self, method: &Method, route: Option<String>, status: StatusCode, duration: Duration) {
        let route = route.as_deref().unwrap_or(UNMATCHED);
        let mut series = self.series.borrow_mut();
        let known = series.get_mut(route).and_then(|all| all.iter_mut().find(|one| one.method == *method));
        if let Some(one) = known {
            return one.count(&self.families, route, status, duration);
        }
        let mut one = Series {
            method: method.clone(),
            durations: self.families.durations.get_or_create(&labels(method, route)).clone(),
            requests: Vec::new(),
        };
        one.count(&self.families, route, status, duration);
        series.entry(route.to_owned()).or_default().push(one);
    }
}

impl Series {
    fn count(&mut self, families: &Families, route: &str, status: StatusCode, duration: Duration) {
        self.durations.observe(duration);
        if let Some((_, counter)) = self.requests.iter().find(|(known, _)| *known == status) {
            counter.inc();
            return;
        }
        let mut labels = labels(&self.method, route);
        labels.push(("status", status.as_str().to_owned().into()));
        let counter = families.requests.get_or_create(&labels).clone();
        counter.inc();
        self.requests.push((status, counter));
    }
}

/// Clients may invent methods; what is none of HTTP's own is counted as one.
fn labels(method: &Method, route: &str) -> Labels {
    vec![("method", method.as_str().to_owned().into()), ("route", route.to_owned().into())]
}
