//! Writes while ownership moves.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use control::{ControlError, ControlSettings, ControlStore, Hold, Side};

use crate::support::{Fixture, Message, Upstream, eventually, ok, replicated, who};

const POST: &str = "POST /users HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";

/// Milliseconds that holds last: longer than any of a switch's steps takes on a busy machine with a slow disk.
const LONG_MS: i64 = 120_000;

fn fixture(monolith: &Upstream, service: &Upstream) -> Arc<Fixture> {
    fixture_and_control(monolith, service).0
}

fn fixture_and_control(monolith: &Upstream, service: &Upstream) -> (Arc<Fixture>, ControlSettings) {
    let mut control = ControlSettings::default();
    let fixture = Fixture::with(monolith.address, service.address, |settings| {
        replicated(settings);
        settings.control.hold_limit_ms = LONG_MS;
        settings.control.lease_ms = 30_000;
        settings.control.answer_timeout_ms = 30_000;
        control = settings.control.clone();
    });
    fixture.prepare_switch();
    (Arc::new(fixture), control)
}

/// Begins switches whose holds run out, each lasting twice as long as the one before, until one lasts long enough on
/// this machine: writes are at rest, and `then` finds it in time. Those before were given up, as they have to be.
fn switch_until<T>(
    fixture: &Fixture,
    control: &ControlSettings,
    mut then: impl FnMut(Hold) -> Option<T>,
) -> T {
    for hold_limit_ms in (0..6).map(|doubled| 1_000 << doubled) {
        let settings = ControlSettings { hold_limit_ms, ..control.clone() };
        let hold =
            ControlStore::open(&settings).unwrap().begin_switch("users", Side::Service, &who()).unwrap();
        let is_held = || fixture.acked(|ack| ack.token == hold.token && ack.held);
        let is_over = || fixture.store.flag("users").unwrap().hold.is_none();
        let mut has_rested = false;
        eventually("writes are at rest, or the switch is given up", || {
            has_rested = is_held();
            has_rested || is_over()
        });
        if let Some(done) = has_rested.then(|| then(hold)).flatten() {
            return done;
        }
        eventually("the switch is given up", is_over);
    }
    panic!("no hold lasted long enough");
}

fn post_in_background(fixture: &Arc<Fixture>) -> thread::JoinHandle<Message> {
    let fixture = Arc::clone(fixture);
    thread::spawn(move || fixture.request(POST))
}

#[test]
fn writes_wait_for_the_switch_and_go_to_the_new_owner() {
    let (arrived, has_arrived) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let monolith = Upstream::raw(move |mut wire| {
        wire.message().unwrap();
        arrived.send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.send(ok("monolith"));
    });
    let service = Upstream::saying("service");
    let fixture = fixture(&monolith, &service);
    let early = post_in_background(&fixture);
    has_arrived.recv().unwrap();

    let hold = fixture.store.begin_switch("users", Side::Service, &who()).unwrap();
    eventually("the hold is seen", || fixture.acked(|ack| ack.token == hold.token));
    assert!(!fixture.acked(|ack| ack.held), "a write is still under way");
    let late = post_in_background(&fixture);
    go_on.send(()).unwrap();
    assert_eq!(early.join().unwrap().text(), "monolith");
    eventually("writes are at rest", || fixture.acked(|ack| ack.token == hold.token && ack.held));

    fixture.store.flip("users", hold.token, &who()).unwrap();
    // The new owner's fence is yet to open, so its first write must still wait.
    assert_eq!(service.seen().len(), 0);
    fixture.store.finish_switch("users", hold.token, &who()).unwrap();
    let answer = late.join().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("banyan-side")), ("service", Some("service")));
}

#[test]
fn reads_go_on_while_writes_are_held() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = fixture(&monolith, &service);
    let hold = fixture.store.begin_switch("users", Side::Service, &who()).unwrap();
    eventually("writes are at rest", || fixture.acked(|ack| ack.token == hold.token && ack.held));
    assert_eq!(fixture.get("/users/7").text(), "monolith");
    assert!(fixture.store.abort_switch("users", hold.token, &who()).unwrap());
}

#[test]
fn a_switch_that_nobody_finishes_is_given_up_and_the_write_succeeds() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let (fixture, control) = fixture_and_control(&monolith, &service);
    let began = Instant::now();
    let hold = switch_until(&fixture, &control, Some);
    let answer = fixture.request(POST);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "monolith"));
    let limit = Duration::from_millis(LONG_MS.unsigned_abs());
    assert!(began.elapsed() < limit, "not the hold's own end let the write go, after {:?}", began.elapsed());
    assert_eq!(fixture.store.flag("users").unwrap().hold, None);
    let lost = fixture.store.flip("users", hold.token, &who());
    assert!(matches!(lost, Err(ControlError::SwitchLost { .. })), "{lost:?}");
}

#[test]
fn a_switch_whose_end_was_lost_is_finished_forward() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let (fixture, control) = fixture_and_control(&monolith, &service);
    switch_until(&fixture, &control, |hold| {
        let before = monolith.seen().len();
        let waiting = post_in_background(&fixture);
        match fixture.store.flip("users", hold.token, &who()) {
            Ok(_) => {
                assert_eq!(waiting.join().unwrap().text(), "service");
                assert_eq!(monolith.seen().len(), before);
                Some(())
            }
            Err(ControlError::SwitchLost { .. }) => {
                assert_eq!(waiting.join().unwrap().text(), "monolith");
                None
            }
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
fn many_switches_under_load_fail_no_write_and_send_none_to_an_owner_of_the_past() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = fixture(&monolith, &service);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (fixture, stop) = (Arc::clone(&fixture), Arc::clone(&stop));
            thread::spawn(move || {
                let mut wire = fixture.connect();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    wire.send(POST);
                    assert_eq!(wire.message().unwrap().status(), 200);
                }
            })
        })
        .collect();
    for round in 0..10 {
        let to = if round % 2 == 0 { Side::Service } else { Side::Monolith };
        let hold = fixture.store.begin_switch("users", to, &who()).unwrap();
        eventually("writes are at rest", || fixture.acked(|ack| ack.token == hold.token && ack.held));
        let old = if to == Side::Service { &monolith } else { &service };
        let before = (monolith.seen().len(), service.seen().len());
        fixture.store.flip("users", hold.token, &who()).unwrap();
        assert_eq!((monolith.seen().len(), service.seen().len()), before, "a write passed a closed gate");
        let of_the_past = old.seen().len();
        fixture.store.finish_switch("users", hold.token, &who()).unwrap();
        let new = if to == Side::Service { &service } else { &monolith };
        let count = new.seen().len();
        eventually("writes reach the new owner", || new.seen().len() > count);
        assert_eq!(old.seen().len(), of_the_past);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}
