//! Adaptive concurrency: how many requests an upstream gets at once, found by its latency.
//!
//! The algorithm is Gradient2 of Netflix' concurrency-limits (`Gradient2Limit.java`), over windows as its
//! `WindowedLimit` has them: while latency is as usual, the limit grows by a little; when it rises over the tolerance,
//! the limit shrinks by as much. It grows by its square root, as Envoy's adaptive concurrency filter has it: a fixed
//! step of four would never let a limit below eight. It is counted by worker, since workers share nothing that is
//! written.
//!
//! Invariant: below the limit nothing is refused, and the limit stays between its bounds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::protect::policy::Protection;
use crate::protect::stats::{Concurrency, ProtectStats};
use crate::settings::{AdaptiveSettings, UpstreamSettings};

/// Samples that a window holds at least; fewer say nothing.
const FEWEST_SAMPLES: u32 = 10;
/// How much of the step is taken at once.
const SMOOTHING: f64 = 0.2;
/// Windows over which the usual latency is averaged.
const LONG: f64 = 60.0;
/// What is left of the limit when an upstream does not answer in time.
const BACKOFF: f64 = 0.9;

/// The limits of one worker, by upstream.
#[derive(Debug)]
pub(crate) struct Adaptive(Vec<Option<Rc<Limiter>>>);

/// An upstream has as many requests as it can take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shed;

/// A place among an upstream's requests, until the head of the answer.
#[derive(Debug)]
pub(crate) struct Permit(Option<Taken>);

#[derive(Debug)]
struct Taken {
    limiter: Rc<Limiter>,
    began: Instant,
}

#[derive(Debug)]
struct Limiter {
    settings: AdaptiveSettings,
    in_flight: Cell<u32>,
    state: RefCell<State>,
    /// What metrics see.
    shown: Arc<Concurrency>,
}

#[derive(Debug)]
struct State {
    limit: f64,
    /// Usual latency in seconds; 0 before the first window.
    usual: f64,
    window: Window,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    samples: u32,
    sum: Duration,
    most_in_flight: u32,
}

impl Adaptive {
    /// One limiter for each upstream that is named in the settings; those that were known under the same settings go
    /// on. `stats` is where metrics read the limits.
    pub(crate) fn new(protection: &Protection, stats: &ProtectStats, before: Option<&Self>) -> Self {
        let Protection { adaptive: settings, upstreams, .. } = protection;
        let limiter = |(place, name): (usize, &String)| {
            settings.upstreams.contains(name).then(|| {
                let known = before.and_then(|before| before.0.get(place)?.as_ref());
                match known.filter(|known| is_same(&known.settings, settings)) {
                    Some(same) => Rc::clone(same),
                    None => Limiter::new(settings, stats.upstream(place)),
                }
            })
        };
        Self(upstreams.iter().enumerate().map(limiter).collect())
    }

    /// Takes a place among the requests of an upstream, by its place in the plan.
    pub(crate) fn try_enter(&self, upstream: usize) -> Result<Permit, Shed> {
        match self.0.get(upstream) {
            Some(Some(limiter)) => limiter.enter(),
            _ => Ok(Permit(None)),
        }
    }
}

impl Permit {
    /// The head of the answer is there.
    pub(crate) fn answered(self) {
        if let Some(taken) = &self.0 {
            taken.limiter.sample(taken.began.elapsed(), Instant::now());
        }
    }

    /// There was no answer in time.
    pub(crate) fn timed_out(self) {
        if let Some(taken) = &self.0 {
            taken.limiter.back_off();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let in_flight = &self.limiter.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
    }
}

impl Limiter {
    fn new(settings: &AdaptiveSettings, shown: Arc<Concurrency>) -> Rc<Self> {
        let limit = f64::from(settings.initial.clamp(settings.min, settings.max.max(settings.min)));
        shown.show(limit);
        Rc::new(Self {
            settings: settings.clone(),
            in_flight: Cell::new(0),
            state: RefCell::new(State { limit, usual: 0.0, window: Window::new(Instant::now()) }),
            shown,
        })
    }

    fn enter(self: &Rc<Self>) -> Result<Permit, Shed> {
        let in_flight = self.in_flight.get();
        let mut state = self.state.borrow_mut();
        if f64::from(in_flight) >= state.limit.floor() {
            self.shown.refused();
            return Err(Shed);
        }
        self.in_flight.set(in_flight + 1);
        state.window.most_in_flight = state.window.most_in_flight.max(in_flight + 1);
        Ok(Permit(Some(Taken { limiter: Rc::clone(self), began: Instant::now() })))
    }

    fn sample(&self, latency: Duration, now: Instant) {
        let mut state = self.state.borrow_mut();
        state.window.samples += 1;
        state.window.sum += latency;
        let is_over =
            now.duration_since(state.window.since) >= Duration::from_millis(self.settings.window_ms);
        if is_over && state.window.samples >= FEWEST_SAMPLES {
            self.close_window(&mut state, now);
        }
    }

    fn close_window(&self, state: &mut State, now: Instant) {
        let window = std::mem::replace(&mut state.window, Window::new(now));
        let latency = (window.sum / window.samples).as_secs_f64().max(1e-6);
        state.usual = match state.usual {
            0.0 => latency,
            usual => usual + (latency - usual) / LONG,
        };
        // After a long slow phase the usual latency is too high and comes down at once, not over many windows.
        if state.usual / latency > 2.0 {
            state.usual *= 0.95;
        }
        // A limit that is not reached says nothing about a higher one.
        if f64::from(window.most_in_flight) < state.limit / 2.0 {
            return;
        }
        let tolerance = f64::from(self.settings.tolerance_percent) / 100.0;
        let gradient = (tolerance * state.usual / latency).clamp(0.5, 1.0);
        // The queue that is allowed for, and with it the limit's growth.
        let wanted = state.limit * gradient + state.limit.sqrt();
        self.set(state, state.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING);
    }

    fn back_off(&self) {
        let mut state = self.state.borrow_mut();
        let less = state.limit * BACKOFF;
        self.set(&mut state, less);
    }

    fn set(&self, state: &mut State, limit: f64) {
        state.limit = limit.clamp(f64::from(self.settings.min), f64::from(self.settings.max));
        self.shown.show(state.limit);
    }
}

impl Window {
    fn new(since: Instant) -> Self {
        Self { since, samples: 0, sum: Duration::ZERO, most_in_flight: 0 }
    }
}

/// Whether an upstream fares the same under both, whichever others are named beside it.
fn is_same(one: &AdaptiveSettings, other: &AdaptiveSettings) -> bool {
    AdaptiveSettings { upstreams: Vec::new(), ..one.clone() }
        == AdaptiveSettings { upstreams: Vec::new(), ..other.clone() }
}

/// Reports what is wrong with the settings.
pub(crate) fn check(
    settings: &AdaptiveSettings,
    upstreams: &BTreeMap<String, UpstreamSettings>,
    errors: &mut Vec<String>,
) {
    for name in settings.upstreams.iter().filter(|name| !upstreams.contains_key(*name)) {
        errors.push(format!(
            "setting `adaptive.upstreams` names `{name}`, which does not exist; add [upstreams.{name}] with its url"
        ));
    }
    if settings.min == 0 || settings.max < settings.min {
        errors.push(format!(
            "setting `adaptive.min` is {} and `adaptive.max` is {}; `min` is at least 1 and at most `max`",
            settings.min, settings.max
        ));
    }
    if settings.window_ms == 0 || settings.tolerance_percent < 100 {
        errors.push(
            "setting `adaptive.window_ms` must not be 0 and `tolerance_percent` not below 100".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(min: u32, initial: u32, max: u32) -> Rc<Limiter> {
        let settings = AdaptiveSettings { min, initial, max, ..AdaptiveSettings::default() };
        Limiter::new(&settings, Arc::default())
    }

    /// Fills the limiter and lets every window's requests take so long.
    fn windows(limiter: &Rc<Limiter>, count: u32, latency_ms: u64) -> f64 {
        for _ in 0..count {
            let mut held = Vec::new();
            while let Ok(permit) = limiter.enter() {
                held.push(permit);
            }
            let later = Instant::now() + Duration::from_secs(1);
            (0..20).for_each(|_| limiter.sample(Duration::from_millis(latency_ms), later));
            drop(held);
            limiter.state.borrow_mut().window.since = Instant::now();
        }
        limiter.state.borrow().limit
    }

    #[test]
    fn below_the_limit_nothing_is_refused_and_at_the_limit_everything() {
        let limiter = limiter(1, 3, 10);
        let held: Vec<_> = (0..3).map(|_| limiter.enter().unwrap()).collect();
        assert_eq!(limiter.enter().unwrap_err(), Shed);
        drop(held);
        assert!(limiter.enter().is_ok());
    }

    #[test]
    fn the_limit_grows_while_latency_is_as_usual_and_shrinks_when_it_rises() {
        let limiter = limiter(4, 20, 200);
        let grown = windows(&limiter, 30, 10);
        assert!(grown > 30.0, "{grown}");
        let shrunk = windows(&limiter, 10, 100);
        assert!(shrunk < grown / 1.5, "{shrunk} of {grown}");
        let again = windows(&limiter, 60, 10);
        assert!(again > shrunk, "{again}");
    }

    #[test]
    fn the_limit_keeps_its_bounds() {
        let limiter = limiter(4, 20, 30);
        assert!(windows(&limiter, 200, 10) <= 30.0);
        (0..100).for_each(|_| limiter.enter().unwrap().timed_out());
        assert!((limiter.state.borrow().limit - 4.0).abs() < 0.01);
    }

    #[test]
    fn a_limit_that_is_not_reached_stays() {
        let limiter = limiter(4, 20, 100);
        for _ in 0..100 {
            let permit = limiter.enter().unwrap();
            limiter.state.borrow_mut().window.since = Instant::now() - Duration::from_secs(1);
            limiter.state.borrow_mut().window.samples = 20;
            permit.answered();
        }
        assert!((limiter.state.borrow().limit - 20.0).abs() < 0.01);
    }
}
