//! The commands of a fake that a test wants to go wrong one by one.
//!
//! Invariant: a mishap befalls the next call of its own command, whatever else is called before.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Mishap, Mishaps};
use crate::Unavailable;

/// How often each command was called, and what is to befall it.
#[derive(Debug, Default)]
pub(crate) struct Commands(Mutex<BTreeMap<&'static str, Command>>);

#[derive(Debug, Default)]
struct Command {
    calls: u64,
    mishaps: Mishaps,
}

impl Commands {
    pub(crate) fn befall(&self, command: &'static str, mishap: Mishap) {
        self.commands().entry(command).or_default().mishaps.push(mishap);
    }

    pub(crate) fn calls(&self, command: &str) -> u64 {
        self.commands().get(command).map_or(0, |command| command.calls)
    }

    pub(crate) fn run<T, E: From<Unavailable>>(
        &self,
        (context, command): (&str, &'static str),
        refused: impl FnOnce(String) -> E,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut commands = self.commands();
        let command = commands.entry(command).or_default();
        command.calls += 1;
        command.mishaps.befall(context, refused, work)
    }

    fn commands(&self) -> MutexGuard<'_, BTreeMap<&'static str, Command>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mishap_befalls_the_next_call_of_its_command() {
        let commands = Commands::default();
        let mut done = Vec::new();
        let mut run = |command: &'static str| {
            let gone = |reason| Unavailable { context: "test".to_owned(), reason, maybe_done: false };
            let work = || {
                done.push(command);
                Ok::<_, Unavailable>(())
            };
            commands.run(("test", command), gone, work).map_err(|error| error.maybe_done)
        };
        for mishap in [Mishap::Lost, Mishap::Unanswered, Mishap::Refused] {
            commands.befall("stop", mishap);
        }
        assert_eq!(run("start"), Ok(()));
        assert_eq!([run("stop"), run("stop"), run("stop")], [Err(true), Err(true), Err(false)]);
        assert_eq!(run("stop"), Ok(()));
        assert_eq!(done, ["start", "stop", "stop"]);
        assert_eq!((commands.calls("start"), commands.calls("stop"), commands.calls("go")), (1, 4, 0));
    }
}
