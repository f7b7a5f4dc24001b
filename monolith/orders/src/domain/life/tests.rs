//! The table of an order's life: single rows of it, and what no sequence of commands can break.

use proptest::prelude::{Just, Strategy, prop, proptest};
use proptest::prop_oneof;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(7);

fn pending() -> Life {
    Life {
        kind: OrderKind::Sale,
        status: OrderStatus::Pending,
        confirmed_at: None,
        cancelled_at: None,
        rejected_because: None,
        cancellation: None,
    }
}

fn give_up() -> Command {
    Command::GiveUp { reason: "no stock".to_owned() }
}

fn done(part: Part) -> Command {
    Command::Answer { part, answer: CancellationPart::Done }
}

fn failed(part: Part) -> Command {
    let reason = format!("the {part:?} is gone").to_lowercase();
    Command::Answer { part, answer: CancellationPart::Failed { reason } }
}

/// The life after these commands, and the notes on its way.
fn told(
    life: Life,
    commands: impl IntoIterator<Item = Command>,
) -> (Life, Vec<(OrderStatus, Option<String>)>) {
    let mut life = life;
    let mut steps = Vec::new();
    for command in commands {
        match life.after(command, NOW) {
            Ok(Next::Silent(next)) => life = next,
            Ok(Next::Step(next, note)) => {
                steps.push((next.status, note));
                life = next;
            }
            Ok(Next::Same) | Err(_) => {}
        }
    }
    (life, steps)
}

#[test]
fn an_order_called_off_before_it_was_confirmed_ends_with_nothing_owed() {
    let (life, _) = told(pending(), [Command::CallOff]);
    assert_eq!((life.status, life.cancelled_at), (OrderStatus::Pending, Some(NOW)));
    assert_eq!(life.after(Command::Confirm, NOW), Err(Refusal::CalledOff));
    let (life, _) = told(life, [give_up()]);
    assert_eq!((life.status, life.rejected_because), (OrderStatus::Cancelled, None));
    assert_eq!(life.cancellation, Some(all(CancellationPart::Done)));
}

#[test]
fn a_rejected_order_and_a_credit_note_cannot_be_called_off() {
    let (rejected, _) = told(pending(), [give_up()]);
    assert_eq!(rejected.rejected_because.as_deref(), Some("no stock"));
    assert_eq!(rejected.after(Command::CallOff, NOW), Err(Refusal::Rejected));
    let (note, _) = told(Life { kind: OrderKind::Cancellation, ..pending() }, [Command::Confirm]);
    assert_eq!(note.after(Command::CallOff, NOW), Err(Refusal::CreditNote));
}

#[test]
fn answers_of_a_cancellation_may_come_in_any_order() {
    use Part::{Payment, Shipment, Stock};
    let (cancelling, _) = told(pending(), [Command::Confirm, Command::CallOff]);
    for [first, second, third] in [
        [Stock, Payment, Shipment],
        [Stock, Shipment, Payment],
        [Payment, Stock, Shipment],
        [Payment, Shipment, Stock],
        [Shipment, Stock, Payment],
        [Shipment, Payment, Stock],
    ] {
        let (life, steps) = told(cancelling.clone(), [done(first), done(second)]);
        assert_eq!((life.status, steps), (OrderStatus::Cancelling, vec![]));
        let (life, steps) = told(life, [done(third)]);
        assert_eq!(life.cancellation, Some(all(CancellationPart::Done)));
        assert_eq!(steps, [(OrderStatus::Cancelled, None)]);
    }
}

#[test]
fn one_part_that_cannot_be_undone_makes_the_cancellation_fail_and_the_history_says_why() {
    use Part::{Payment, Shipment, Stock};
    let (cancelling, _) = told(pending(), [Command::Confirm, Command::CallOff]);
    let (life, steps) = told(cancelling, [failed(Shipment), done(Shipment), failed(Payment), done(Stock)]);
    assert_eq!(life.status, OrderStatus::CancelFailed);
    let note = "the payment is gone; the shipment is gone".to_owned();
    assert_eq!(steps, [(OrderStatus::CancelFailed, Some(note))]);
}

fn command() -> impl Strategy<Value = Command> {
    let part = prop_oneof![Just(Part::Stock), Just(Part::Payment), Just(Part::Shipment)];
    prop_oneof![
        Just(Command::Confirm),
        Just(Command::CallOff),
        Just(give_up()),
        Just(Command::TakeBack { reason: "declined".to_owned() }),
        part.clone().prop_map(done),
        part.prop_map(failed),
    ]
}

/// Whether the order may go from one to the other, or stay.
fn is_allowed(from: OrderStatus, to: OrderStatus) -> bool {
    use OrderStatus::{CancelFailed, Cancelled, Cancelling, Confirmed, Pending, Rejected};
    let arrows = [
        (Pending, Confirmed),
        (Pending, Rejected),
        (Pending, Cancelled),
        (Confirmed, Cancelling),
        (Cancelling, Cancelled),
        (Cancelling, CancelFailed),
    ];
    from == to || arrows.contains(&(from, to))
}

fn check(life: &Life) {
    let parts = life.cancellation.as_ref().map(|it| [&it.stock, &it.payment, &it.shipment]);
    let all_done = parts.is_some_and(|parts| parts.iter().all(|part| **part == CancellationPart::Done));
    let some_failed = parts.is_some_and(|parts| parts.into_iter().any(|part| failure(part).is_some()));
    let none_waits = parts.is_some_and(|parts| !parts.contains(&&CancellationPart::Waiting));
    assert_eq!(parts.is_some(), life.cancelled_at.is_some(), "{life:?}");
    assert_eq!(life.rejected_because.is_some(), life.status == OrderStatus::Rejected, "{life:?}");
    assert_eq!(all_done, life.status == OrderStatus::Cancelled, "{life:?}");
    assert_eq!(some_failed && none_waits, life.status == OrderStatus::CancelFailed, "{life:?}");
}

proptest! {
    #[test]
    fn no_sequence_of_commands_leaves_the_arrows(commands in prop::collection::vec(command(), 0..20)) {
        let mut life = pending();
        for command in commands {
            let (next, steps) = told(life.clone(), [command]);
            assert!(is_allowed(life.status, next.status), "{life:?} became {next:?}");
            assert!(next.status == life.status || !steps.is_empty(), "the history misses {next:?}");
            assert!(life.confirmed_at.is_none() || next.confirmed_at == life.confirmed_at);
            check(&next);
            life = next;
        }
    }
}
