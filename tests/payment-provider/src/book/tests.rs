//! The book's rules, one by one and under any sequence of commands.

use proptest::prelude::*;

use super::*;

fn terms(minor: i64, payment_method: &str) -> Terms {
    Terms {
        amount: Money { minor, currency: "GBP".to_owned() },
        payment_method: payment_method.to_owned(),
        description: "order 7".to_owned(),
    }
}

fn authorize(minor: i64, payment_method: &str) -> Command {
    Command::Authorize { key: "k".to_owned(), terms: terms(minor, payment_method) }
}

fn void() -> Command {
    Command::Void { key: "k".to_owned() }
}

fn capture(book: &Book) -> Command {
    let id = book.by_key("k").and_then(|record| record.id.clone());
    Command::Capture { id: id.unwrap_or_else(|| "auth_none".to_owned()) }
}

fn carry_out(book: &mut Book, command: &Command) -> Result<Record, Refusal> {
    if let Some(entry) = book.decide(command)? {
        book.apply(entry);
    }
    book.answer(command)
}

#[test]
fn the_same_request_is_answered_the_same_and_another_is_refused() {
    let mut book = Book::default();
    let first = carry_out(&mut book, &authorize(5, "pm_ok")).unwrap();
    assert_eq!(carry_out(&mut book, &authorize(5, "pm_ok")).unwrap(), first);
    let refusal = carry_out(&mut book, &authorize(6, "pm_ok")).unwrap_err();
    assert_eq!(refusal, Refusal::KeyReused { key: "k".to_owned() });
}

#[test]
fn a_decline_is_remembered_until_the_key_is_voided() {
    for (payment_method, code) in [("pm_declined", "declined"), ("pm_insufficient", "insufficient_funds")] {
        let mut book = Book::default();
        for _ in 0..2 {
            let refusal = carry_out(&mut book, &authorize(5, payment_method)).unwrap_err();
            assert_eq!(refusal, Refusal::Declined { code });
        }
        assert_eq!(carry_out(&mut book, &void()).unwrap().status, Status::Voided);
        assert!(matches!(
            carry_out(&mut book, &authorize(5, payment_method)),
            Err(Refusal::Closed { code: "voided", .. })
        ));
    }
}

#[test]
fn a_key_voided_before_it_is_known_refuses_the_late_authorization() {
    let mut book = Book::default();
    let tombstone = carry_out(&mut book, &void()).unwrap();
    assert_eq!((tombstone.id, tombstone.status), (None, Status::Voided));
    assert!(matches!(
        carry_out(&mut book, &authorize(5, "pm_ok")),
        Err(Refusal::Closed { code: "voided", .. })
    ));
}

#[test]
fn a_captured_key_is_refunded_in_full_by_voiding_it() {
    let mut book = Book::default();
    carry_out(&mut book, &authorize(5, "pm_ok")).unwrap();
    let command = capture(&book);
    assert_eq!(carry_out(&mut book, &command).unwrap().captured, 5);
    for _ in 0..2 {
        let record = carry_out(&mut book, &void()).unwrap();
        assert_eq!((record.status, record.captured, record.refunded), (Status::Refunded, 5, 5));
    }
    assert!(matches!(carry_out(&mut book, &command), Err(Refusal::Closed { code: "refunded", .. })));
    let summary = serde_json::to_value(book.summary()).unwrap();
    assert_eq!(summary["by_status"]["refunded"], serde_json::json!({ "count": 1, "minor": { "GBP": 5 } }));
    assert_eq!(summary["refunded"]["GBP"], 5);
    assert_eq!(summary["charges_per_key_max"], 1);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Authorize(i64, &'static str),
    Capture,
    Void,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..3_i64, prop_oneof![Just("pm_ok"), Just("pm_declined")])
            .prop_map(|(minor, payment_method)| Step::Authorize(minor, payment_method)),
        3 => Just(Step::Capture),
        1 => Just(Step::Void),
    ];
    prop::collection::vec(step, 0..20)
}

proptest! {
    #[test]
    fn no_sequence_charges_a_key_twice_and_replaying_it_gives_the_same_book(steps in steps()) {
        let (mut book, mut journal, mut is_voided) = (Book::default(), Vec::new(), false);
        for step in steps {
            let command = match step {
                Step::Authorize(minor, payment_method) => authorize(minor, payment_method),
                Step::Capture => capture(&book),
                Step::Void => void(),
            };
            is_voided |= matches!(step, Step::Void);
            if let Ok(Some(entry)) = book.decide(&command) {
                journal.push(serde_json::to_string(&entry).unwrap());
                book.apply(entry);
                prop_assert_eq!(book.decide(&command).unwrap_or(None), None, "a repeat does something");
            }
            if let Some(record) = book.by_key("k") {
                let held = record.captured - record.refunded;
                prop_assert!(record.charges <= 1 && held <= record.minor(), "{:?}", record);
                prop_assert!(!is_voided || held == 0, "{:?}", record);
            }
        }
        let mut replayed = Book::default();
        for line in &journal {
            replayed.apply(serde_json::from_str(line).unwrap());
        }
        prop_assert_eq!(replayed, book);
    }
}
