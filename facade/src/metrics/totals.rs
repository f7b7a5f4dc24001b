//! The sums of all workers' cells at one instant, and what follows from them.
//!
//! Invariant: plain numbers; whoever holds them need not ask when they were read.

use std::sync::Arc;

use control::Side;

use super::cells::{BOUNDS_US, CLASSES, ContextCells, FlightCells, KINDS, SideCells, WorkerStats, place};
use crate::plan::ContextId;

/// Everything counted so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(super) sides: Vec<SideTotals>,
    pub(super) contexts: Vec<ContextTotals>,
    pub(super) undecided: Flights,
    pub(crate) connections: Flights,
    pub(super) unlogged: u64,
}

/// Of what begins and ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flights {
    pub(crate) begun: u64,
    ended: u64,
}

/// Of one side of one context.
#[derive(Debug, Clone, Default)]
pub(crate) struct SideTotals {
    pub(super) requests: [[u64; CLASSES.len()]; KINDS.len()],
    pub(super) buckets: [u64; BOUNDS_US.len()],
    pub(super) sum_us: u64,
    pub(super) flight: Flights,
    pub(super) received: u64,
    pub(super) sent: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ContextTotals {
    pub(super) fallbacks: u64,
    pub(super) held: u64,
    pub(super) held_us: u64,
}

impl Totals {
    pub(crate) fn read(workers: &[Arc<WorkerStats>]) -> Self {
        let mut totals = Self::default();
        for worker in workers {
            totals.sides.resize_with(worker.sides.len(), SideTotals::default);
            totals.contexts.resize_with(worker.contexts.len(), ContextTotals::default);
            totals.sides.iter_mut().zip(&worker.sides).for_each(|(sum, cells)| sum.add(cells));
            totals.contexts.iter_mut().zip(&worker.contexts).for_each(|(sum, cells)| sum.add(cells));
            totals.undecided.add(&worker.undecided);
            totals.connections.add(&worker.connections);
            totals.unlogged += worker.unlogged.get();
        }
        totals
    }

    pub(crate) fn side(&self, context: Option<ContextId>, side: Side) -> SideTotals {
        self.sides.get(place(context, side)).cloned().unwrap_or_default()
    }

    pub(crate) fn fallbacks(&self, context: ContextId) -> u64 {
        self.contexts.get(context.0).map_or(0, |context| context.fallbacks)
    }

    /// Requests under way, whether their side is decided or not.
    pub(crate) fn in_flight(&self) -> u64 {
        self.undecided.open() + self.sides.iter().map(|side| side.flight.open()).sum::<u64>()
    }

    /// What has been added since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut sides = self.sides.clone();
        for (now, then) in sides.iter_mut().zip(&earlier.sides) {
            now.subtract(then);
        }
        Self { sides, ..self.clone() }
    }
}

impl Flights {
    fn add(&mut self, cells: &FlightCells) {
        // The end first: what ends between the two readings must not have ended before it began.
        self.ended += cells.ended.get();
        self.begun += cells.begun.get();
    }

    /// Begun and not ended.
    pub(crate) fn open(self) -> u64 {
        self.begun.saturating_sub(self.ended)
    }
}

impl SideTotals {
    fn add(&mut self, cells: &SideCells) {
        // The buckets first: a histogram must not hold more than its count says.
        self.buckets.iter_mut().zip(&cells.buckets).for_each(|(sum, cell)| *sum += cell.get());
        let kinds = self.requests.iter_mut().zip(&cells.requests);
        for (sum, cell) in kinds.flat_map(|(sums, cells)| sums.iter_mut().zip(cells)) {
            *sum += cell.get();
        }
        self.sum_us += cells.sum_us.get();
        self.flight.add(&cells.flight);
        self.received += cells.received.get();
        self.sent += cells.sent.get();
    }

    fn subtract(&mut self, earlier: &Self) {
        let less = |now: &mut u64, then: &u64| *now = now.saturating_sub(*then);
        self.buckets.iter_mut().zip(&earlier.buckets).for_each(|(now, then)| less(now, then));
        let kinds = self.requests.iter_mut().zip(&earlier.requests);
        kinds.flat_map(|(now, then)| now.iter_mut().zip(then)).for_each(|(now, then)| less(now, then));
    }

    /// Requests that ended.
    pub(crate) fn count(&self) -> u64 {
        self.requests.iter().flatten().sum()
    }

    /// Requests that ended with a status from 500 on.
    pub(crate) fn errors(&self) -> u64 {
        self.requests.iter().filter_map(|classes| classes.get(4)).sum()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.flight.open()
    }

    /// The latency in milliseconds below which that share of the requests lies, as if they were spread evenly within
    /// each bucket; what is beyond the last bound counts as that bound. None where there was no request.
    pub(crate) fn quantile_ms(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share * count as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (held, bound) in self.buckets.iter().zip(BOUNDS_US) {
            let (held, bound) = (*held as f64, bound as f64 / 1_000.0);
            if held > 0.0 && below + held >= rank {
                return Some(lower + (bound - lower) * (rank - below) / held);
            }
            (below, lower) = (below + held, bound);
        }
        Some(lower)
    }
}

impl ContextTotals {
    fn add(&mut self, cells: &ContextCells) {
        self.fallbacks += cells.fallbacks.get();
        self.held += cells.held.get();
        self.held_us += cells.held_us.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let mut side = SideTotals::default();
        assert_eq!(side.quantile_ms(0.5), None);
        side.requests[0][1] = 100;
        (side.buckets[1], side.buckets[3]) = (90, 10);
        assert_eq!(side.quantile_ms(0.9), Some(1.0));
        assert!(side.quantile_ms(0.5).is_some_and(|ms| (0.5..1.0).contains(&ms)));
        assert!(side.quantile_ms(0.99).is_some_and(|ms| (4.5..5.0).contains(&ms)));
    }

    #[test]
    fn what_was_slower_than_every_bound_counts_as_the_last() {
        let mut side = SideTotals::default();
        side.requests[1][5] = 1;
        assert_eq!(side.quantile_ms(0.99), Some(30_000.0));
    }
}
