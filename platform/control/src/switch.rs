//! The switch of ownership, as the control store sees it.
//!
//! ```text
//! begin ──► held ──► flip ──► flipped ──► finish
//!             └────► abort (by the switcher, a facade or any process once the deadline passed)
//! ```
//!
//! Invariants: `flip` and `abort` exclude each other, since each is one transaction that checks the other did not
//! happen; `flip` succeeds only before the deadline; whoever finds a switch past its deadline may end it, so a
//! switcher that died holds nobody up.

use crate::audit::{Entry, Who, record};
use crate::clock::{now_ms, store_now_ms};
use crate::conn::Conn;
use crate::error::ControlError;
use crate::flag::{DataMode, Flag, Hold, Side, Weight};
use crate::flags::{get, needs_no_hold, needs_reason, save, touch};
use crate::records::{gate_data, gate_lag, load_verification};
use crate::store::ControlStore;

impl ControlStore {
    /// Begins a switch: from now on, facades hold the context's writes. Refused while another one is in progress,
    /// or while the data at the new owner is not proven right.
    pub fn begin_switch(&self, context: &str, to: Side, who: &Who) -> Result<Hold, ControlError> {
        let (context, who, settings) = (context.to_owned(), who.clone(), self.shared_settings());
        let hold = self.decide(move |conn| {
            let before = get(conn, &context)?;
            needs_reason(&who)?;
            needs_no_hold(&before)?;
            if before.writes == to {
                return Err(ControlError::Refused {
                    reason: format!("{context} belongs to the {to} already"),
                    remedy: "there is nothing to do".to_owned(),
                });
            }
            if before.data == DataMode::Shared {
                return Err(ControlError::Refused {
                    reason: format!("both sides of {context} share one database, so no data needs to move"),
                    remedy: format!("run `facade flag set {context} --writes {to}`"),
                });
            }
            gate_data(conn, &settings, &before)?;
            gate_lag(conn, &settings, &context)?;
            let mut after = before.clone();
            touch(conn, &mut after)?;
            let began_ms = after.changed_at_ms;
            let deadline_ms = began_ms + settings.hold_limit_ms;
            let hold = Hold { token: after.token, to, began_ms, deadline_ms, flipped: false };
            after.hold = Some(hold);
            save(conn, &after)?;
            let evidence = load_verification(conn, &context)?.map(|verification| verification.evidence);
            let entry = Entry { who: &who, action: "switch begun", forced: false, evidence };
            record(conn, &entry, &before, &after)?;
            Ok(hold)
        })?;
        Ok(self.local_hold(hold))
    }

    /// The point of no doubt: the owner changes, in one commit. Fails with [`ControlError::SwitchLost`] if the
    /// switch was aborted or its deadline has passed; then the old owner goes on.
    pub fn flip(&self, context: &str, token: i64, who: &Who) -> Result<Flag, ControlError> {
        let (context, who) = (context.to_owned(), who.clone());
        let flag = self.decide(move |conn| {
            let before = get(conn, &context)?;
            let lost = || ControlError::SwitchLost { context: context.clone(), token };
            let hold = before.hold.filter(|hold| hold.token == token).ok_or_else(lost)?;
            if hold.flipped {
                return Ok(before);
            }
            let mut after = before.clone();
            touch(conn, &mut after)?;
            if after.changed_at_ms >= hold.deadline_ms {
                return Err(lost());
            }
            after.writes = hold.to;
            // On the way home, too, reads stay where they are: the operator ramps them down.
            after.reads = Weight::FULL;
            after.forced = false;
            after.hold = Some(Hold { flipped: true, ..hold });
            save(conn, &after)?;
            let entry = Entry { who: &who, action: "flipped", forced: false, evidence: None };
            record(conn, &entry, &before, &after)?;
            Ok(after)
        })?;
        Ok(self.local(flag))
    }

    /// Lets facades release the held writes to the new owner, whose fence is open now. Repeating it is harmless.
    pub fn finish_switch(&self, context: &str, token: i64, who: &Who) -> Result<Flag, ControlError> {
        let (context, who) = (context.to_owned(), who.clone());
        let flag = self.decide(move |conn| {
            let flag = get(conn, &context)?;
            match flag.hold {
                Some(hold) if hold.token == token && hold.flipped => {
                    end(conn, &flag, &who, "switch finished")
                }
                Some(hold) if hold.token == token => Err(ControlError::SwitchLost { context, token }),
                _ => Ok(flag),
            }
        })?;
        Ok(self.local(flag))
    }

    /// Ends a switch before its flip, so that the old owner goes on. Returns whether this call ended it: false means
    /// that it was flipped or ended before.
    pub fn abort_switch(&self, context: &str, token: i64, who: &Who) -> Result<bool, ControlError> {
        let (context, who) = (context.to_owned(), who.clone());
        self.decide(move |conn| {
            let flag = get(conn, &context)?;
            match flag.hold {
                Some(hold) if hold.token == token && !hold.flipped => {
                    end(conn, &flag, &who, "switch aborted").map(|_| true)
                }
                _ => Ok(false),
            }
        })
    }

    /// The flag after ending a switch whose deadline has passed: aborted if it was not flipped, finished if it was.
    pub fn settle(&self, context: &str) -> Result<Flag, ControlError> {
        let who = Who::new("control store", "the deadline of the switch passed");
        // A look without the writer's lock first: nearly always there is nothing to end.
        let flag = self.flag(context)?;
        if flag.hold.is_none_or(|hold| now_ms() < hold.deadline_ms) {
            return Ok(flag);
        }
        let context = context.to_owned();
        let flag = self.decide(move |conn| {
            let (flag, now_ms) = (get(conn, &context)?, store_now_ms(conn)?);
            match flag.hold {
                Some(hold) if now_ms < hold.deadline_ms => Ok(flag),
                Some(hold) if hold.flipped => end(conn, &flag, &who, "switch finished"),
                Some(_) => end(conn, &flag, &who, "switch aborted"),
                None => Ok(flag),
            }
        })?;
        Ok(self.local(flag))
    }
}

fn end(conn: &mut Conn, before: &Flag, who: &Who, action: &'static str) -> Result<Flag, ControlError> {
    let mut after = before.clone();
    touch(conn, &mut after)?;
    after.hold = None;
    save(conn, &after)?;
    record(conn, &Entry { who, action, forced: false, evidence: None }, before, &after)?;
    Ok(after)
}
