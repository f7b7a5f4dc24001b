//! Ownership of a context, as one side's process sees it: the control store says who owns, the fence in the side's
//! own database is what enforces it, and this brings the second in line with the first.
//!
//! Invariant: a fence is read before the control store is asked, and moved only if nobody moved it since. So a process
//! that was slow between the two can never undo a newer switch.

mod users;

use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::Unavailable;
use contracts::replication::{Fence, FenceState};
use control::{ControlError, ControlStore, DataMode, Flag, Side};
use platform::error::chain;

pub use users::OwnedUsers;

/// Pause between two looks while a switch is in progress.
const STEP: Duration = Duration::from_millis(20);

/// Whether this side takes the context's writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Ours,
    /// The other side does.
    Theirs,
    /// A switch is in progress; soon one of the two does.
    Undecided,
}

/// One side's share in the ownership of one context.
pub struct Ownership {
    context: &'static str,
    side: Side,
    fence: Arc<dyn Fence>,
    control: Option<ControlStore>,
}

impl Ownership {
    /// Without a control store the fence alone decides, and nothing here moves it.
    pub fn new(
        context: &'static str,
        side: Side,
        fence: Arc<dyn Fence>,
        control: Option<ControlStore>,
    ) -> Self {
        Self { context, side, fence, control }
    }

    /// Which context.
    pub fn context(&self) -> &'static str {
        self.context
    }

    /// Which side.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Ends a switch whose time is over, then brings the fence in line with the control store.
    pub async fn reconcile(&self) -> Result<Standing, Unavailable> {
        let seen = self.fence.state().await?;
        let Some(control) = self.control.clone() else {
            return Ok(standing(seen));
        };
        let flag = settle(control, self.context).await?;
        if seen.token > flag.token {
            return Err(self.foreign(seen, &flag));
        }
        match decide(self.side, seen, &flag) {
            Move::Leave(standing) => Ok(standing),
            Move::Open => {
                let opened = self.fence.open(seen.token, flag.token).await?;
                tracing::info!(
                    token = flag.token,
                    opened,
                    "{} belongs to the {}: fence opened",
                    self.context,
                    self.side
                );
                Ok(if opened { Standing::Ours } else { Standing::Undecided })
            }
            Move::Close => {
                let closed = self.fence.close(seen.token, flag.token).await?;
                tracing::info!(
                    token = flag.token,
                    closed,
                    "{} belongs to the other side: fence closed",
                    self.context
                );
                Ok(if closed { Standing::Theirs } else { Standing::Undecided })
            }
        }
    }

    /// The fence was read first, so the control store must have reached its token, unless it is another store.
    fn foreign(&self, seen: FenceState, flag: &Flag) -> Unavailable {
        let reason = format!(
            "the fence of {} was moved under token {}, which the control store has not reached (it is at {}); set \
             control.path to the store that the switch was made in",
            self.context, seen.token, flag.token
        );
        Unavailable { context: "control store".to_owned(), reason, maybe_done: false }
    }

    /// What to do about a write that met a closed fence: waits out a switch in progress until `until`.
    pub async fn heal(&self, until: Instant) -> Standing {
        let mut is_told = false;
        loop {
            match self.reconcile().await {
                Ok(Standing::Undecided) => {}
                Ok(decided) => return decided,
                Err(error) if !is_told => {
                    tracing::warn!("cannot tell who owns {}: {error}", self.context);
                    is_told = true;
                }
                Err(_) => {}
            }
            if Instant::now() + STEP >= until {
                return Standing::Undecided;
            }
            tokio::time::sleep(STEP).await;
        }
    }
}

/// What to do about a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Leave(Standing),
    Open,
    Close,
}

fn standing(fence: FenceState) -> Standing {
    if fence.closed { Standing::Theirs } else { Standing::Ours }
}

fn decide(side: Side, fence: FenceState, flag: &Flag) -> Move {
    let ours = flag.writes == side;
    if flag.data == DataMode::Shared {
        return Move::Leave(standing(fence));
    }
    // Only the switcher moves fences while a switch is in progress.
    if flag.hold.is_some() {
        return Move::Leave(if fence.closed { Standing::Undecided } else { Standing::Ours });
    }
    match (ours, fence.closed) {
        (true, true) => Move::Open,
        (true, false) => Move::Leave(Standing::Ours),
        (false, true) => Move::Leave(Standing::Theirs),
        (false, false) => Move::Close,
    }
}

/// The context's flag, off the async runtime. A context that no facade declared yet is at the monolith.
async fn settle(control: ControlStore, context: &'static str) -> Result<Flag, Unavailable> {
    let unavailable =
        |reason: String| Unavailable { context: "control store".to_owned(), reason, maybe_done: false };
    let settled = tokio::task::spawn_blocking(move || control.settle(context)).await;
    match settled.map_err(|error| unavailable(error.to_string()))? {
        Ok(flag) => Ok(flag),
        Err(ControlError::UnknownContext { .. }) => Ok(Flag::unmoved(context)),
        Err(error) => Err(unavailable(chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use control::{ControlSettings, Hold};

    use super::*;

    /// A fence in memory.
    struct Gate(Mutex<FenceState>);

    impl Gate {
        fn moved(&self, seen: i64, to: FenceState) -> Result<bool, Unavailable> {
            let mut state = self.0.lock().unwrap();
            let is_seen = state.token == seen;
            if is_seen {
                *state = to;
            }
            Ok(is_seen)
        }
    }

    #[async_trait]
    impl Fence for Gate {
        async fn state(&self) -> Result<FenceState, Unavailable> {
            Ok(*self.0.lock().unwrap())
        }
        async fn open(&self, seen: i64, token: i64) -> Result<bool, Unavailable> {
            self.moved(seen, fence(false, token))
        }
        async fn close(&self, seen: i64, token: i64) -> Result<bool, Unavailable> {
            self.moved(seen, fence(true, token))
        }
    }

    /// Both sides of a context that the monolith owns, each with its fence as given.
    fn owned_by_the_monolith(fence: FenceState) -> (tempfile::TempDir, Arc<Gate>, [Ownership; 2]) {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            ControlSettings { path: folder.path().join("control.db"), ..ControlSettings::default() };
        let control = ControlStore::open(&settings).unwrap();
        control.declare("users", DataMode::Replicated).unwrap();
        let gate = Arc::new(Gate(Mutex::new(fence)));
        let of = |side| Ownership::new("users", side, gate.clone(), Some(control.clone()));
        let sides = [of(Side::Monolith), of(Side::Service)];
        (folder, gate, sides)
    }

    #[tokio::test]
    async fn a_fence_left_shut_at_the_owner_is_opened_and_one_left_open_elsewhere_is_shut() {
        let (_folder, gate, [monolith, service]) = owned_by_the_monolith(fence(true, 0));
        assert_eq!(monolith.heal(Instant::now()).await, Standing::Ours);
        assert!(!gate.0.lock().unwrap().closed);
        assert_eq!(service.reconcile().await, Ok(Standing::Theirs));
        assert!(gate.0.lock().unwrap().closed);
    }

    #[tokio::test]
    async fn a_fence_of_another_control_store_is_left_alone() {
        let (_folder, gate, [monolith, _]) = owned_by_the_monolith(fence(true, 9));
        let error = monolith.reconcile().await.unwrap_err();
        assert!(error.reason.contains("control.path"), "{error}");
        assert_eq!(monolith.heal(Instant::now()).await, Standing::Undecided);
        assert_eq!(*gate.0.lock().unwrap(), fence(true, 9));
    }

    fn flag(writes: Side, token: i64, hold: Option<bool>) -> Flag {
        let hold =
            hold.map(|flipped| Hold { token, to: Side::Service, began_ms: 0, deadline_ms: 1, flipped });
        Flag { writes, token, hold, ..Flag::unmoved("users") }
    }

    fn fence(closed: bool, token: i64) -> FenceState {
        FenceState { closed, token }
    }

    #[test]
    fn without_a_switch_the_fence_follows_the_owner() {
        let (open, closed) = (fence(false, 1), fence(true, 1));
        for (side, other) in [(Side::Monolith, Side::Service), (Side::Service, Side::Monolith)] {
            assert_eq!(decide(side, closed, &flag(side, 2, None)), Move::Open);
            assert_eq!(decide(side, open, &flag(side, 2, None)), Move::Leave(Standing::Ours));
            assert_eq!(decide(side, open, &flag(other, 2, None)), Move::Close);
            assert_eq!(decide(side, closed, &flag(other, 2, None)), Move::Leave(Standing::Theirs));
        }
    }

    #[test]
    fn during_a_switch_no_fence_is_touched() {
        for flipped in [false, true] {
            for writes in [Side::Monolith, Side::Service] {
                let flag = flag(writes, 5, Some(flipped));
                assert_eq!(decide(Side::Service, fence(true, 4), &flag), Move::Leave(Standing::Undecided));
                assert_eq!(decide(Side::Service, fence(false, 5), &flag), Move::Leave(Standing::Ours));
            }
        }
    }

    #[test]
    fn a_shared_database_has_no_fence_between_the_sides() {
        let shared = Flag { data: DataMode::Shared, ..flag(Side::Service, 3, None) };
        assert_eq!(decide(Side::Monolith, fence(false, 1), &shared), Move::Leave(Standing::Ours));
    }
}
