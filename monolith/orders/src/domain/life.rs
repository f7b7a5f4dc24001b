//! The life of an order, as a table: where it stands, what it is told, where it goes.
//!
//! Invariant: `pending → confirmed → cancelling → cancelled | cancel_failed`, `pending → rejected | cancelled`, and no other way.
//! What is cancelled has all its parts undone.

use contracts::Timestamp;
use contracts::orders::{Cancellation, CancellationPart, OrderKind, OrderStatus};

/// What changes in an order after it was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) kind: OrderKind,
    pub(crate) status: OrderStatus,
    pub(crate) confirmed_at: Option<Timestamp>,
    /// On a pending order: its user has called it off, and its checkout is to notice.
    pub(crate) cancelled_at: Option<Timestamp>,
    pub(crate) rejected_because: Option<String>,
    pub(crate) cancellation: Option<Cancellation>,
}

/// What an order is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// By its checkout: goods and money are promised.
    Confirm,
    /// By its user.
    CallOff,
    /// By its checkout: what was confirmed cannot be kept.
    TakeBack { reason: String },
    /// By its checkout, once all else is undone.
    GiveUp { reason: String },
    /// By the context that had to undo this part.
    Answer { part: Part, answer: CancellationPart },
}

/// What is undone when an order is called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Stock,
    Payment,
    Shipment,
}

/// What comes of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: it was told before, or too late.
    Same,
    /// A change that its history does not tell.
    Silent(Life),
    /// A step for its history, with a note.
    Step(Life, Option<String>),
}

/// Why an order does not do what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("called off")]
    CalledOff,
    #[error("rejected")]
    Rejected,
    #[error("a credit note")]
    CreditNote,
}

impl Life {
    pub(crate) fn after(&self, command: Command, now: Timestamp) -> Result<Next, Refusal> {
        use OrderStatus::{CancelFailed, Cancelled, Cancelling, Confirmed, Pending, Rejected};
        Ok(match (self.status, command) {
            (Pending, Command::Confirm) if self.cancelled_at.is_none() => self.confirmed(now),
            (Confirmed, Command::Confirm) => Next::Same,
            (Rejected, Command::Confirm | Command::CallOff) => return Err(Refusal::Rejected),
            (_, Command::Confirm) => return Err(Refusal::CalledOff),
            (_, Command::CallOff) if self.kind == OrderKind::Cancellation => return Err(Refusal::CreditNote),
            (Pending, Command::CallOff) if self.cancelled_at.is_none() => {
                self.called_off(Pending, now, Some("called off; its checkout is being stopped".to_owned()))
            }
            (Confirmed, Command::CallOff) => self.called_off(Cancelling, now, None),
            // A confirmation may come late, after what was promised for it was taken back.
            (Confirmed, Command::TakeBack { reason } | Command::GiveUp { reason }) => {
                self.called_off(Cancelling, now, Some(reason))
            }
            (Pending, Command::GiveUp { reason }) => self.given_up(reason),
            (Cancelling, Command::Answer { part, answer }) => self.answered(part, answer),
            (Pending, Command::CallOff | Command::TakeBack { .. } | Command::Answer { .. })
            | (Confirmed, Command::Answer { .. })
            | (Cancelling, Command::CallOff | Command::TakeBack { .. } | Command::GiveUp { .. })
            | (Rejected, Command::TakeBack { .. } | Command::GiveUp { .. } | Command::Answer { .. })
            | (Cancelled | CancelFailed, _) => Next::Same,
        })
    }

    fn confirmed(&self, now: Timestamp) -> Next {
        Next::Step(Self { status: OrderStatus::Confirmed, confirmed_at: Some(now), ..self.clone() }, None)
    }

    fn called_off(&self, status: OrderStatus, now: Timestamp, note: Option<String>) -> Next {
        let cancellation = Some(all(CancellationPart::Waiting));
        Next::Step(Self { status, cancelled_at: Some(now), cancellation, ..self.clone() }, note)
    }

    fn given_up(&self, reason: String) -> Next {
        if self.cancelled_at.is_some() {
            let cancellation = Some(all(CancellationPart::Done));
            return Next::Step(Self { status: OrderStatus::Cancelled, cancellation, ..self.clone() }, None);
        }
        let rejected_because = Some(reason.clone());
        Next::Step(Self { status: OrderStatus::Rejected, rejected_because, ..self.clone() }, Some(reason))
    }

    /// The first answer of a part counts.
    fn answered(&self, part: Part, answer: CancellationPart) -> Next {
        let mut cancellation = self.cancellation.clone().unwrap_or_else(|| all(CancellationPart::Waiting));
        let slot = match part {
            Part::Stock => &mut cancellation.stock,
            Part::Payment => &mut cancellation.payment,
            Part::Shipment => &mut cancellation.shipment,
        };
        if *slot != CancellationPart::Waiting {
            return Next::Same;
        }
        *slot = answer;
        let parts = [&cancellation.stock, &cancellation.payment, &cancellation.shipment];
        let is_waiting = parts.contains(&&CancellationPart::Waiting);
        let failures: Vec<&str> = parts.into_iter().filter_map(failure).collect();
        let (status, note) = match failures.as_slice() {
            [] => (OrderStatus::Cancelled, None),
            reasons => (OrderStatus::CancelFailed, Some(reasons.join("; "))),
        };
        let life = Self { cancellation: Some(cancellation), ..self.clone() };
        if is_waiting { Next::Silent(life) } else { Next::Step(Self { status, ..life }, note) }
    }
}

fn failure(part: &CancellationPart) -> Option<&str> {
    if let CancellationPart::Failed { reason } = part { Some(reason) } else { None }
}

fn all(part: CancellationPart) -> Cancellation {
    Cancellation { stock: part.clone(), payment: part.clone(), shipment: part }
}

#[cfg(test)]
mod tests;
