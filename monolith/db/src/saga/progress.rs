//! The way of one saga, as a pure function of what became of its steps.
//!
//! Invariant: the position only grows by a step that was done, turns once, and from then on only shrinks, by a step that
//! was undone.

use std::fmt;

use serde::Serialize;

use super::StepError;
use super::erased::Way;

/// Where a saga stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its steps are being done.
    Running,
    /// Its steps are being undone.
    Compensating,
    /// All steps are done.
    Done,
    /// All steps are undone.
    Undone,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Compensating, Self::Done, Self::Undone];

    /// As it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Done => "done",
            Self::Undone => "undone",
        }
    }

    /// The phase of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Whether nothing more will happen.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Undone)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far a saga is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) phase: Phase,
    /// While running, how many steps are done; while compensating, how many may have left something.
    pub(super) position: usize,
    /// How often the present step has failed.
    pub(super) attempts: u32,
    pub(super) last_error: Option<String>,
    /// Why it turned back.
    pub(super) reason: Option<String>,
}

/// What happens after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another step, or the end.
    GoOn,
    /// The same step, after a pause.
    Pause,
}

impl Progress {
    /// The step at hand; none at the end of the way.
    pub(super) fn step(&self, steps: &'static [&'static str]) -> Option<(Way, &'static str)> {
        match self.phase {
            Phase::Running => steps.get(self.position).map(|step| (Way::Run, *step)),
            Phase::Compensating => {
                let last = self.position.checked_sub(1)?;
                steps.get(last).map(|step| (Way::Undo, *step))
            }
            Phase::Done | Phase::Undone => None,
        }
    }

    /// Ends the saga if no step is left. A program that knows fewer steps than the saga has gone skips those it does not know.
    pub(super) fn end_if_over(&mut self, steps: &'static [&'static str]) {
        self.position = self.position.min(steps.len());
        match self.phase {
            Phase::Running if self.position == steps.len() => self.phase = Phase::Done,
            Phase::Compensating if self.position == 0 => self.phase = Phase::Undone,
            _ => {}
        }
    }

    /// Takes note of what became of the step at hand.
    pub(super) fn advance(&mut self, ended: &Result<(), StepError>, max_attempts: u32) -> Next {
        let error = match ended {
            Ok(()) => {
                self.passed();
                return Next::GoOn;
            }
            Err(error) => error,
        };
        self.attempts = self.attempts.saturating_add(1);
        self.last_error = Some(error.to_string());
        if self.phase == Phase::Compensating {
            return Next::Pause;
        }
        let reason = match error {
            StepError::Refused { reason } => reason.clone(),
            StepError::Retry { reason } if self.attempts >= max_attempts => {
                format!("given up after {} attempts: {reason}", self.attempts)
            }
            StepError::Retry { .. } => return Next::Pause,
        };
        self.phase = Phase::Compensating;
        // The step itself may have been done in part.
        self.position += 1;
        self.attempts = 0;
        self.reason = Some(reason);
        Next::GoOn
    }

    fn passed(&mut self) {
        self.position = match self.phase {
            Phase::Compensating => self.position.saturating_sub(1),
            _ => self.position + 1,
        };
        self.attempts = 0;
        self.last_error = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEPS: &[&str] = &["one", "two", "three", "four"];

    fn outcome() -> impl Strategy<Value = Result<(), StepError>> {
        prop_oneof![
            4 => Just(Ok(())),
            1 => Just(Err(StepError::Refused { reason: "no".to_owned() })),
            2 => Just(Err(StepError::Retry { reason: "later".to_owned() })),
        ]
    }

    proptest! {
        #[test]
        fn every_step_that_ran_is_undone_once_in_reverse_unless_all_are_done(
            outcomes in prop::collection::vec(outcome(), 0..60),
            done in 0..STEPS.len(),
        ) {
            let mut progress =
                Progress { phase: Phase::Running, position: done, attempts: 0, last_error: None, reason: None };
            let (mut touched, mut undone) = ((0..done).collect::<Vec<_>>(), Vec::new());
            // What is undone for ever ends at last.
            for ended in outcomes.into_iter().chain(std::iter::repeat_n(Ok(()), 2 * STEPS.len())) {
                progress.end_if_over(STEPS);
                let Some((way, step)) = progress.step(STEPS) else { break };
                let index = STEPS.iter().position(|name| *name == step).unwrap();
                match way {
                    Way::Run if touched.last() != Some(&index) => touched.push(index),
                    Way::Undo if ended.is_ok() => undone.push(index),
                    _ => {}
                }
                progress.advance(&ended, 3);
            }
            progress.end_if_over(STEPS);
            prop_assert!(progress.phase.is_end());
            undone.reverse();
            if progress.phase == Phase::Done {
                prop_assert_eq!(touched, (0..STEPS.len()).collect::<Vec<_>>());
                prop_assert!(undone.is_empty());
            } else {
                prop_assert_eq!(touched, undone);
            }
        }
    }
}
