//! Which instance gets a request; each worker chooses for itself.
//!
//! Invariant: an instance that is put aside is chosen only if the settings say so while all are.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::{Balance, WhenNoneHealthy};
use crate::upstream::budget::Budget;
use crate::upstream::chance::Chance;
use crate::upstream::plan::Policy;
use crate::upstream::pool::Pool;
use crate::upstream::shared::Shared;

/// One worker's connections to one upstream.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) policy: Policy,
    pub(crate) budget: Budget,
    pools: Vec<Rc<Pool>>,
    /// Places in `pools`, each as often as it weighs, well mixed.
    turns: Vec<usize>,
    next: Cell<usize>,
    chance: Chance,
}

impl Balancer {
    pub(crate) fn new(shared: &Arc<Shared>, policy: &Policy, connect_timeout: Duration) -> Self {
        let pools = shared.instances.iter().map(|instance| Pool::new(Arc::clone(instance), connect_timeout));
        let pools: Vec<_> = pools.collect();
        let chance = Chance::new();
        let turns = turns(pools.len(), &policy.weights);
        // Workers begin at different places, so that they do not all ask the same instance first.
        let next = Cell::new(chance.below(turns.len()));
        let budget = Budget::new(&policy.retry);
        Self { shared: Arc::clone(shared), policy: policy.clone(), budget, pools, turns, next, chance }
    }

    /// An instance in good health, another than `failed` if there is one.
    pub(crate) fn choose(&self, failed: Option<&Rc<Pool>>) -> Option<&Rc<Pool>> {
        let first = self.first()?;
        if failed.is_none() && first.instance.is_usable() {
            return Some(first);
        }
        let is_other = |pool: &&Rc<Pool>| failed.is_none_or(|failed| !Rc::ptr_eq(failed, pool));
        let from = self.next.get();
        let all = || self.turns.iter().cycle().skip(from).take(self.turns.len());
        let usable = || all().filter_map(|at| self.pools.get(*at)).filter(|pool| pool.instance.is_usable());
        usable().find(is_other).or_else(|| usable().next()).or(match self.policy.when_none_healthy {
            WhenNoneHealthy::Refuse => None,
            WhenNoneHealthy::TryAll => Some(first),
        })
    }

    fn first(&self) -> Option<&Rc<Pool>> {
        if let [only] = self.pools.as_slice() {
            return Some(only);
        }
        let any = || self.pools.get(*self.turns.get(self.chance.below(self.turns.len()))?);
        match self.policy.balance {
            Balance::RoundRobin => {
                let at = self.next.get();
                self.next.set(if at + 1 < self.turns.len() { at + 1 } else { 0 });
                self.pools.get(*self.turns.get(at)?)
            }
            Balance::Random => any(),
            Balance::LeastRequests => {
                let (one, other) = (any()?, any()?);
                let is_better = other.instance.is_usable()
                    && (!one.instance.is_usable() || other.in_flight() < one.in_flight());
                Some(if is_better { other } else { one })
            }
        }
    }

    pub(crate) fn sweep(&self) {
        self.pools.iter().for_each(|pool| pool.sweep());
    }
}

/// Smooth weighted round robin, worked out once: the one that has waited longest for its share is next.
fn turns(count: usize, weights: &[u32]) -> Vec<usize> {
    let weight = |at: usize| i64::from(weights.get(at).copied().unwrap_or(1));
    let total: i64 = (0..count).map(weight).sum();
    let mut owed = vec![0; count];
    let mut turns = Vec::new();
    for _ in 0..total {
        owed.iter_mut().enumerate().for_each(|(at, owed)| *owed += weight(at));
        let most = owed.iter_mut().enumerate().rev().max_by_key(|(_, owed)| **owed);
        if let Some((at, owed)) = most {
            *owed -= total;
            turns.push(at);
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn turns_are_taken_by_weight_and_well_mixed() {
        assert_eq!(turns(2, &[]), [0, 1]);
        assert_eq!(turns(3, &[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }
}
