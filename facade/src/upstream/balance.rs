//! Which instance gets a request; each worker chooses for itself.
//!
//! Invariant: an instance that is put aside is chosen only if the settings say so while all are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::{Balance, WhenNoneHealthy};
use crate::upstream::budget::Budget;
use crate::upstream::chance::Chance;
use crate::upstream::era::Era;
use crate::upstream::members::{Member, Members};
use crate::upstream::plan::Policy;
use crate::upstream::pool::Pool;
use crate::upstream::shared::Shared;

/// One worker's connections to one upstream.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) policy: Policy,
    pub(crate) budget: Budget,
    connect_timeout: Duration,
    set: RefCell<Set>,
    next: Cell<usize>,
    chance: Chance,
}

/// The instances that this worker knows of.
#[derive(Debug, Default)]
struct Set {
    members: Arc<Members>,
    pools: Vec<Rc<Pool>>,
    /// Places in `pools`, each as often as it weighs, well mixed.
    turns: Vec<usize>,
}

/// An instance that was chosen for a request, and when.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) pool: Rc<Pool>,
    pub(crate) era: Era,
}

impl Balancer {
    /// In place of the one `before`, it takes over the connections to instances that stay.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        policy: &Policy,
        connect_timeout: Duration,
        before: Option<&Self>,
    ) -> Self {
        let set =
            Set::new(shared.members(), connect_timeout, before.map(|before| before.set.borrow()).as_deref());
        let chance = Chance::new();
        // Workers begin at different places, so that they do not all ask the same instance first.
        let next = Cell::new(chance.below(set.turns.len()));
        let budget = Budget::new(&policy.retry);
        let (shared, policy, set) = (Arc::clone(shared), policy.clone(), RefCell::new(set));
        Self { shared, policy, budget, connect_timeout, set, next, chance }
    }

    /// Follows the upstream's instances if they have changed.
    pub(crate) fn refresh(&self) {
        let members = self.shared.members();
        let mut set = self.set.borrow_mut();
        if !Arc::ptr_eq(&members, &set.members) {
            *set = Set::new(members, self.connect_timeout, Some(&set));
            self.next.set(self.chance.below(set.turns.len()));
        }
    }

    /// An instance in good health, another than `failed` if there is one.
    pub(crate) fn choose(&self, failed: Option<&Rc<Pool>>) -> Option<Chosen> {
        let set = self.set.borrow();
        let first = self.first(&set)?;
        if failed.is_none()
            && let Some(chosen) = self.admit(first)
        {
            return Some(chosen);
        }
        let is_other = |pool: &&Rc<Pool>| failed.is_none_or(|failed| !Rc::ptr_eq(failed, pool));
        let from = self.next.get();
        let turns = || set.turns.iter().cycle().skip(from).take(set.turns.len());
        let all = || turns().filter_map(|at| set.pools.get(*at));
        let admit = |pool: &Rc<Pool>| self.admit(pool);
        all().filter(is_other).find_map(admit).or_else(|| all().find_map(admit)).or_else(|| {
            let era = first.instance.era();
            match self.policy.when_none_healthy {
                WhenNoneHealthy::Refuse => None,
                WhenNoneHealthy::TryAll => Some(Chosen { pool: Rc::clone(first), era }),
            }
        })
    }

    fn admit(&self, pool: &Rc<Pool>) -> Option<Chosen> {
        let era = pool.instance.admit(self.policy.ejection.base_ms)?;
        Some(Chosen { pool: Rc::clone(pool), era })
    }

    fn first<'s>(&self, set: &'s Set) -> Option<&'s Rc<Pool>> {
        if let [only] = set.pools.as_slice() {
            return Some(only);
        }
        let any = || set.pools.get(*set.turns.get(self.chance.below(set.turns.len()))?);
        match self.policy.balance {
            Balance::RoundRobin => {
                let at = self.next.get();
                self.next.set(if at + 1 < set.turns.len() { at + 1 } else { 0 });
                set.pools.get(*set.turns.get(at)?)
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
        self.set.borrow().pools.iter().for_each(|pool| pool.sweep());
    }
}

impl Set {
    /// Connections to instances that stay are kept; those to others end with the exchanges under way.
    fn new(members: Arc<Members>, connect_timeout: Duration, before: Option<&Self>) -> Self {
        let known = before.map_or(&[][..], |before| &before.pools);
        let pool = |member: &Member| {
            let known = known.iter().find(|pool| Arc::ptr_eq(&pool.instance, &member.instance));
            known.cloned().unwrap_or_else(|| Pool::new(Arc::clone(&member.instance), connect_timeout))
        };
        let pools: Vec<_> = members.present.iter().map(pool).collect();
        let stays = |pool: &&Rc<Pool>| pools.iter().any(|kept| Rc::ptr_eq(kept, pool));
        known.iter().filter(|pool| !stays(pool)).for_each(|pool| pool.retire());
        pools.iter().for_each(|pool| pool.resume(connect_timeout));
        let weights: Vec<_> = members.present.iter().map(|member| member.weight).collect();
        Self { turns: turns(&weights), pools, members }
    }
}

/// Smooth weighted round robin, worked out once: the one that has waited longest for its share is next.
fn turns(weights: &[u32]) -> Vec<usize> {
    let total: i64 = weights.iter().copied().map(i64::from).sum();
    let mut owed = vec![0; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..total {
        owed.iter_mut().zip(weights).for_each(|(owed, weight)| *owed += i64::from(*weight));
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
        assert_eq!(turns(&[1, 1]), [0, 1]);
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }
}
