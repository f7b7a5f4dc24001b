//! What happens to gates and acknowledgements as flags come in.

use std::time::{Duration, Instant};

use control::{ControlSettings, Flag, Hold, Side};

use super::copy::Copied;
use super::{Flags, MOST_ATTEMPTS, SETTLING};
use crate::plan::{ContextId, Plan};
use crate::settings::{ContextSettings, Settings, UpstreamSettings};

const USERS: ContextId = ContextId(0);
const LIMIT: Duration = Duration::from_secs(1);

fn flags() -> Flags {
    let settings = Settings {
        upstreams: [(
            "monolith".to_owned(),
            UpstreamSettings { url: "http://127.0.0.1:1".to_owned(), ..UpstreamSettings::default() },
        )]
        .into(),
        contexts: [(
            "users".to_owned(),
            ContextSettings { service: "monolith".to_owned(), ..ContextSettings::default() },
        )]
        .into(),
        control: ControlSettings { path: "control.db".into(), ..ControlSettings::default() },
        ..Settings::default()
    };
    Flags::new(&Plan::new(&settings).unwrap(), LIMIT, || ())
}

fn flag(token: i64) -> Flag {
    Flag { token, ..Flag::unmoved("users") }
}

fn held(token: i64, deadline_ms: i64) -> Flag {
    Flag {
        hold: Some(Hold { token, to: Side::Service, began_ms: 0, deadline_ms, flipped: false }),
        ..flag(token)
    }
}

fn ack(flags: &Flags) -> (i64, bool) {
    flags.acks().first().map(|ack| (ack.token, ack.held)).unwrap()
}

#[test]
fn an_ordinary_change_is_acknowledged_with_its_token() {
    let flags = flags();
    flags.apply(&[flag(7)], Instant::now(), 0);
    assert_eq!(ack(&flags), (7, false));
}

#[tokio::test]
async fn a_hold_is_acknowledged_once_writes_are_at_rest() {
    let flags = flags();
    let gate = flags.gate(USERS).unwrap().clone();
    let write = gate.enter(LIMIT).await.unwrap();
    flags.apply(&[held(8, 900)], Instant::now(), 0);
    assert_eq!(ack(&flags), (8, false));
    drop(write);
    assert_eq!(ack(&flags), (8, true));
    flags.apply(&[flag(9)], Instant::now(), 0);
    assert_eq!(ack(&flags), (9, false));
    assert_eq!(gate.enter(LIMIT).await.unwrap().waited, None);
}

#[test]
fn a_hold_lasts_no_longer_than_its_deadline_and_the_limit() {
    let now = Instant::now();
    for (deadline_ms, lasts) in [(400, 400), (5_000, 1_000), (-3, 0)] {
        let flags = flags();
        flags.apply(&[held(8, deadline_ms)], now, 0);
        assert_eq!(flags.next_deadline(), Some(now + Duration::from_millis(lasts)));
    }
}

#[test]
fn an_overdue_hold_is_settled_some_times_and_then_let_go() {
    let flags = flags();
    let mut now = Instant::now();
    flags.apply(&[held(8, 100)], now, 0);
    assert_eq!(flags.overdue(now), []);
    now += Duration::from_millis(100);
    for _ in 0..MOST_ATTEMPTS {
        assert_eq!(flags.overdue(now).first().map(|overdue| overdue.token), Some(8));
        // Seeing the same hold again gives it no new time.
        flags.apply(&[held(8, 100)], now, 100);
        now += SETTLING;
    }
    assert_eq!(flags.overdue(now), []);
    assert_eq!((flags.next_deadline(), ack(&flags)), (None, (8, false)));
    assert!(!flags.gate(USERS).unwrap().is_drained());
}

#[test]
fn trouble_is_over_when_flags_come_again() {
    let flags = flags();
    flags.set_trouble("gone".to_owned());
    assert_eq!(flags.trouble().as_deref(), Some("gone"));
    flags.apply(&[flag(1)], Instant::now(), 0);
    assert_eq!(flags.trouble(), None);
}

#[test]
fn flags_of_a_copy_are_acknowledged_to_nobody_and_unsure_until_the_store_speaks() {
    let flags = flags();
    let copied = Flag { dual_write: true, ..held(8, 900) };
    flags.begin_with(Copied { flags: vec![copied.clone()], confirmed_ms: 0 });
    let is_sure = || flags.table().load().is_sure(USERS);
    assert!(flags.acks().is_empty() && !is_sure());
    assert_eq!(flags.table().load().get(USERS).unwrap().hold, None, "nobody would end it");
    flags.set_trouble("gone".to_owned());
    let told = flags.trouble().unwrap();
    assert!(told.starts_with("gone; ") && told.contains("writes of users are refused"), "{told}");
    assert!(flags.acks().is_empty());
    flags.apply(&[flag(9)], Instant::now(), 0);
    assert_eq!((ack(&flags), is_sure(), flags.trouble()), ((9, false), true, None));
    flags.begin_with(Copied { flags: Vec::new(), confirmed_ms: 0 });
    assert!(!is_sure(), "nobody knows what became of a context that was never heard of");
}
