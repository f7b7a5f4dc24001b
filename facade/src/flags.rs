//! The flags as the data plane sees them: one snapshot, swapped as a whole, and one gate per context.
//!
//! Invariant: a gate closes before the snapshot that holds writes is published, and opens after the one that no
//! longer does; so a write that has passed an open gate reads a snapshot at least as new as that opening. Flags of a copy
//! are acknowledged to nobody, and where the owner may have changed since, no write is taken.

pub(crate) mod copy;
mod vitals;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use control::{Ack, Flag, Watcher, now_ms};

use self::copy::Copied;
use crate::gate::Gate;
use crate::plan::{ContextId, Plan};

/// The flags of all contexts of the plan, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct FlagTable {
    flags: Vec<Flag>,
    /// Whose owner is not known for certain, by place; empty where the store has spoken.
    unsure: Vec<bool>,
}

impl FlagTable {
    pub(crate) fn get(&self, context: ContextId) -> Option<&Flag> {
        self.flags.get(context.0)
    }

    /// Whether it is known for certain who owns the context.
    pub(crate) fn is_sure(&self, context: ContextId) -> bool {
        !self.unsure.get(context.0).copied().unwrap_or(false)
    }
}

/// What all workers share of the flags.
#[derive(Debug)]
pub(crate) struct Flags {
    table: Arc<ArcSwap<FlagTable>>,
    /// One for each context that there is room for.
    gates: Vec<Arc<Gate>>,
    hold_limit: Duration,
    state: Mutex<State>,
    /// Who reads the store; asked only when somebody wants to know how the store is.
    watcher: OnceLock<WatchedBy>,
}

/// The watcher holds on to what holds the flags, so these must not hold on to it.
struct WatchedBy(Weak<Watcher>);

#[derive(Debug, Default)]
struct State {
    names: Vec<String>,
    holds: Vec<Option<SeenHold>>,
    trouble: Option<String>,
    /// When the store said what is served, if that comes from a copy.
    copied_ms: Option<i64>,
}

/// A hold since this facade first saw it.
#[derive(Debug, Clone)]
struct SeenHold {
    token: i64,
    until: Instant,
    attempts: u32,
    /// Seen at rest once. It stays so while the gate is closed: a count that rises again is of a write that is
    /// just being turned back.
    drained: bool,
    let_go: bool,
}

/// A hold whose time is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overdue {
    pub(crate) context: ContextId,
    pub(crate) name: String,
    pub(crate) token: i64,
}

/// How long the store's answer to the end of a hold may take to come back as a flag.
const SETTLING: Duration = Duration::from_millis(250);
/// After this many rounds of settling the writes go on as the flag was last known: the fences guard the data.
const MOST_ATTEMPTS: u32 = 4;

impl Flags {
    /// Flags as they are before the store has been read: everything at the monolith.
    pub(crate) fn new(
        plan: &Plan,
        hold_limit: Duration,
        on_drained: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Self {
        let names: Vec<String> = plan.context_names().map(str::to_owned).collect();
        let flags = names.iter().map(|name| Flag::unmoved(name.as_str())).collect();
        Self {
            table: Arc::new(ArcSwap::from_pointee(FlagTable { flags, unsure: Vec::new() })),
            gates: (0..plan.context_room).map(|_| Gate::new(on_drained.clone())).collect(),
            hold_limit,
            state: Mutex::new(State {
                holds: vec![None; names.len()],
                names,
                trouble: None,
                copied_ms: None,
            }),
            watcher: OnceLock::new(),
        }
    }

    /// The snapshot, to be cached by each worker.
    pub(crate) fn table(&self) -> Arc<ArcSwap<FlagTable>> {
        Arc::clone(&self.table)
    }

    pub(crate) fn gate(&self, context: ContextId) -> Option<&Arc<Gate>> {
        self.gates.get(context.0)
    }

    /// How long a write waits at a closed gate: the hold, the settling after it, and a little more.
    pub(crate) fn longest_wait(&self) -> Duration {
        self.hold_limit + SETTLING * (MOST_ATTEMPTS + 2)
    }

    /// Makes room for the contexts of a plan that follows. Those that are new are at the monolith until their flags
    /// are taken over.
    pub(crate) fn extend(&self, plan: &Plan) {
        let mut state = self.state();
        let mut table = FlagTable::clone(&self.table.load());
        for name in plan.context_names().skip(table.flags.len()) {
            table.flags.push(Flag::unmoved(name));
            state.names.push(name.to_owned());
            state.holds.push(None);
        }
        self.table.store(Arc::new(table));
    }

    /// Takes over the flag of a context that was unknown here, unless a newer one has come by itself.
    pub(crate) fn adopt(&self, flag: &Flag) {
        let _state = self.state();
        let mut table = FlagTable::clone(&self.table.load());
        if let Some(found) = table.flags.iter_mut().find(|found| found.context == flag.context)
            && found.token <= flag.token
        {
            *found = flag.clone();
        }
        self.table.store(Arc::new(table));
    }

    /// Begins with what a copy holds, until the store can be read. Nothing is held: a switch that was under way is over.
    pub(crate) fn begin_with(&self, copied: Copied) {
        let mut state = self.state();
        let mut table = FlagTable::default();
        for name in &state.names {
            let found = copied.flags.iter().find(|flag| flag.context == *name);
            // Of a context that was never heard of, nobody knows what became of it meanwhile.
            table.unsure.push(found.is_none_or(copy::may_have_moved));
            let flag = found.cloned().unwrap_or_else(|| Flag::unmoved(name.as_str()));
            table.flags.push(Flag { hold: None, ..flag });
        }
        state.copied_ms = Some(copied.confirmed_ms);
        self.table.store(Arc::new(table));
    }

    /// Whether what is served comes from a copy.
    pub(crate) fn is_copied(&self) -> bool {
        self.state().copied_ms.is_some()
    }

    /// Takes over what the store says. `now_ms` is the same instant as `now`, as milliseconds since the epoch.
    pub(crate) fn apply(&self, flags: &[Flag], now: Instant, now_ms: i64) {
        let mut state = self.state();
        state.trouble = None;
        state.copied_ms = None;
        let flags: Vec<Flag> = state
            .names
            .iter()
            .map(|name| {
                let found = flags.iter().find(|flag| flag.context == *name);
                found.cloned().unwrap_or_else(|| Flag::unmoved(name.as_str()))
            })
            .collect();
        let mut open = Vec::new();
        for ((flag, seen), gate) in flags.iter().zip(&mut state.holds).zip(&self.gates) {
            let Some(hold) = &flag.hold else {
                *seen = None;
                open.push(gate);
                continue;
            };
            if seen.as_ref().is_some_and(|seen| seen.token == hold.token) {
                continue;
            }
            let left = Duration::from_millis(u64::try_from(hold.deadline_ms - now_ms).unwrap_or(0));
            let until = now + left.min(self.hold_limit);
            *seen = Some(SeenHold { token: hold.token, until, attempts: 0, drained: false, let_go: false });
            gate.hold();
        }
        self.table.store(Arc::new(FlagTable { flags, unsure: Vec::new() }));
        for gate in open {
            gate.release();
        }
    }

    /// Remembers that the store cannot be read; the last known flags go on.
    pub(crate) fn set_trouble(&self, trouble: String) {
        self.state().trouble = Some(trouble);
    }

    /// Why the flags may be old, if they may.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.state();
        let trouble = state.trouble.clone();
        let Some(copied_ms) = state.copied_ms else { return trouble };
        let table = self.table.load();
        let is_unsure = |(_, unsure): &(&Flag, &bool)| **unsure;
        let unsure = table.flags.iter().zip(&table.unsure).filter(is_unsure);
        let unsure: Vec<_> = unsure.map(|(flag, _)| flag.context.as_str()).collect();
        let mut text = trouble.unwrap_or_else(|| "the control store was not read yet".to_owned());
        let age_s = (now_ms() - copied_ms).max(0) / 1000;
        text.push_str(&format!("; the flags come from a copy that is {age_s} s old"));
        if !unsure.is_empty() {
            text.push_str(&format!(", and writes of {} are refused until then", unsure.join(", ")));
        }
        Some(text)
    }

    /// Which token is served, per context, and whether its writes are at rest; nothing where it is a copy's.
    pub(crate) fn acks(&self) -> Vec<Ack> {
        let mut state = self.state();
        if state.copied_ms.is_some() {
            return Vec::new();
        }
        let table = self.table.load();
        let contexts = table.flags.iter().zip(&mut state.holds).zip(&self.gates);
        contexts
            .map(|((flag, seen), gate)| {
                let holding = seen.as_mut().filter(|seen| !seen.let_go).and_then(|seen| {
                    seen.drained |= gate.is_drained();
                    seen.drained.then_some(seen.token)
                });
                let context = flag.context.clone();
                Ack { context, token: holding.unwrap_or(flag.token), held: holding.is_some() }
            })
            .collect()
    }

    /// Whether any writes are held at present.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.state().holds.iter().flatten().filter(|seen| !seen.let_go).map(|seen| seen.until).min()
    }

    /// Holds whose time is over. Each is given a little more time, in which the caller settles it with the store;
    /// one that cannot be settled is let go here.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<Overdue> {
        let mut state = self.state();
        let State { names, holds, .. } = &mut *state;
        let mut overdue = Vec::new();
        for (index, seen) in holds.iter_mut().enumerate() {
            let Some(seen) = seen.as_mut().filter(|seen| !seen.let_go && seen.until <= now) else { continue };
            let (Some(name), Some(gate)) = (names.get(index), self.gates.get(index)) else { continue };
            if seen.attempts >= MOST_ATTEMPTS {
                seen.let_go = true;
                gate.release();
                tracing::warn!(
                    context = name,
                    "writes of {name} go on under the flag last known: the hold cannot be settled"
                );
                continue;
            }
            seen.attempts += 1;
            seen.until = now + SETTLING;
            overdue.push(Overdue { context: ContextId(index), name: name.clone(), token: seen.token });
        }
        overdue
    }

    /// Lets the writes of a context go although the store still has the hold.
    pub(crate) fn let_go(&self, overdue: &Overdue) {
        let mut state = self.state();
        let seen = state.holds.get_mut(overdue.context.0).and_then(Option::as_mut);
        if let (Some(seen), Some(gate)) = (seen, self.gates.get(overdue.context.0))
            && seen.token == overdue.token
        {
            seen.let_go = true;
            gate.release();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
