//! Facts about the switch of ownership.
//!
//! Invariant: at no point do both fences stand open, and after any failure one command puts things right.

use std::time::Duration;

use control::{Ack, FlagChange, Heartbeat, InstanceKind, Side, Who};
use rusqlite::Connection;

use crate::backfill::BackfillOptions;
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::meter::Meter;
use crate::switch::{self, SwitchReport};
use crate::tests::application::Application;
use crate::tests::world::{World, who};
use crate::verify::VerifyOptions;
use crate::{dual_write, status};

pub(super) const BEFORE_FLIP: [&str; 7] = [
    "switch_verified",
    "switch_held",
    "switch_acknowledged",
    "switch_fenced",
    "switch_drained",
    "switch_compared",
    "switch_prepared",
];
pub(super) const AFTER_FLIP: [&str; 4] =
    ["switch_flipped", "switch_opened", "switch_retired", "switch_finished"];

pub(super) fn to(world: &World, side: Side) -> Result<SwitchReport, MigrateError> {
    let options = VerifyOptions { patience: Duration::ZERO, ..VerifyOptions::default() };
    switch::run(&world.extraction, side, &who(), options, &mut Meter::silent())
}

/// Fence open, dual-write, fencing token.
fn row(conn: &Connection) -> (bool, bool, i64) {
    let sql = "SELECT fence = 'open', dual_write, fence_token FROM banyan_contexts";
    conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
}

fn assert_owner(world: &World, owner: Side, why: &str) {
    let (monolith, service) = (row(&world.source), row(&world.target));
    let flag = world.extraction.flag().unwrap();
    assert_eq!(flag.writes, owner, "{why}");
    assert_eq!(flag.hold, None, "{why}");
    let (owns, follows) = if owner == Side::Monolith { (monolith, service) } else { (service, monolith) };
    assert!(owns.0 && owns.1, "{why}: the owner's fence is open and it dual-writes: {owns:?}");
    assert!(!follows.0 && !follows.1, "{why}: the other's fence is closed: {follows:?}");
}

#[test]
fn ownership_goes_to_the_service_and_comes_home() {
    let world = World::new();
    world.seed(40);
    world.delete(40);
    world.dual_write(true);
    world.backfill(BackfillOptions::default());
    let report = to(&world, Side::Service).unwrap();
    assert!(report.switched);
    assert_eq!(report.sequences.unwrap().last_id, Some(40));
    assert_owner(&world, Side::Service, "there");
    let next: i64 = world
        .target
        .query_row("INSERT INTO person VALUES (NULL, 'New', NULL, 0, 0, 99) RETURNING person_id", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(next, 41, "an id that was deleted before the switch is not given out again");
    world.target.execute_batch("DELETE FROM person WHERE person_id = 41").unwrap();

    world.rename_at_service(7, "Eve");
    world.deliver_back();
    let report = to(&world, Side::Monolith).unwrap();
    assert!(report.switched);
    assert_owner(&world, Side::Monolith, "home");
    assert!(world.verify().clean());
    assert!(row(&world.source).2 > row(&world.target).2, "tokens only grow");
}

#[test]
fn switching_to_the_owner_changes_nothing() {
    let world = World::copied(3);
    let token = world.extraction.flag().unwrap().token;
    let report = to(&world, Side::Monolith).unwrap();
    assert!(!report.switched);
    assert_eq!(world.extraction.flag().unwrap().token, token);
}

#[test]
fn a_failure_before_the_flip_leaves_the_old_owner_writing() {
    for point in &BEFORE_FLIP[1..] {
        let mut world = World::copied(5);
        world.extraction.points = FailPoints::fail_at(point);
        let error = to(&world, Side::Service).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{point}");
        assert!(platform::error::chain(&error).contains("the monolith goes on"), "{point}: {error}");
        assert_owner(&world, Side::Monolith, point);
        world.set_email(1, "still@example.com");
        world.deliver_all();
        world.extraction.points = FailPoints::none();
        to(&world, Side::Service).unwrap();
        assert_owner(&world, Side::Service, point);
    }
}

#[test]
fn a_crash_before_the_flip_is_undone_by_the_next_command() {
    for point in BEFORE_FLIP {
        let mut world = World::copied(5);
        world.extraction.points = FailPoints::crash_at(point);
        assert!(matches!(to(&world, Side::Service), Err(MigrateError::Crashed(_))), "{point}");
        assert!(!row(&world.target).0, "{point}: the service must not accept writes");
        world.extraction.points = FailPoints::none();
        let report = to(&world, Side::Monolith).unwrap();
        assert!(!report.switched, "{point}");
        assert_owner(&world, Side::Monolith, point);
        world.set_email(1, "still@example.com");
        world.deliver_all();
        assert!(to(&world, Side::Service).unwrap().switched, "{point}");
        assert_owner(&world, Side::Service, point);
    }
}

#[test]
fn a_crash_after_the_flip_is_finished_forward_by_the_next_command() {
    for point in AFTER_FLIP {
        let mut world = World::copied(5);
        world.extraction.points = FailPoints::crash_at(point);
        assert!(matches!(to(&world, Side::Service), Err(MigrateError::Crashed(_))), "{point}");
        assert!(!row(&world.source).0, "{point}: the monolith must not accept writes");
        world.extraction.points = FailPoints::none();
        let report = to(&world, Side::Service).unwrap();
        assert!(!report.switched && report.owner == Side::Service, "{point}");
        assert_owner(&world, Side::Service, point);
        assert!(to(&world, Side::Monolith).unwrap().switched, "{point}");
        assert_owner(&world, Side::Monolith, point);
    }
}

#[test]
fn status_finishes_a_switch_that_was_left_behind() {
    let mut world = World::copied(5);
    world.extraction.points = FailPoints::crash_at("switch_flipped");
    to(&world, Side::Service).unwrap_err();
    world.extraction.points = FailPoints::none();
    let deadline = world.extraction.flag().unwrap().hold.unwrap().deadline_ms;
    while control::now_ms() <= deadline {
        let within = status::run(&world.extraction).unwrap();
        assert!(within.settled.is_empty() || control::now_ms() > deadline);
    }
    status::run(&world.extraction).unwrap();
    assert_owner(&world, Side::Service, "status");
}

#[test]
fn data_that_differs_is_not_handed_over() {
    let world = World::copied(5);
    world.target.execute_batch("UPDATE person SET given_name = 'Eve' WHERE person_id = 2").unwrap();
    let error = to(&world, Side::Service).unwrap_err();
    assert!(error.to_string().contains("differ in 1 rows"), "{error}");
    assert_owner(&world, Side::Monolith, "differs");
}

#[test]
fn a_change_that_was_lost_on_the_way_is_found_under_the_hold() {
    let mut world = World::copied(5);
    let application = Application::beside(world.folder.path());
    world.extraction.points = FailPoints::watched(move |point| {
        if point == "switch_held" {
            application.set_email(3, "lost@example.com");
            application.source.execute_batch("DELETE FROM banyan_intents").unwrap();
        }
    });
    let error = platform::error::chain(&to(&world, Side::Service).unwrap_err());
    assert!(error.contains("2 rows that changed lately differ"), "{error}");
    assert_owner(&world, Side::Monolith, "lost");
}

#[test]
fn changes_until_the_fence_closes_go_along() {
    let mut world = World::copied(5);
    let application = Application::beside(world.folder.path());
    world.extraction.points = FailPoints::watched(move |point| match point {
        "switch_verified" | "switch_held" | "switch_acknowledged" => {
            application.set_email(3, &format!("{point}@example.com"));
            application.create("Late Comer", &format!("late-{point}@example.com"));
            application.delete(if point == "switch_held" { 2 } else { application.create("X", point) });
        }
        "switch_fenced" => application.deliver_all(),
        _ => {}
    });
    let report = to(&world, Side::Service).unwrap();
    assert_eq!(report.drained, 11);
    assert_eq!(report.dirty_keys, 7);
    assert_owner(&world, Side::Service, "changed");
    assert!(world.verify().clean());
}

#[test]
fn images_that_cannot_be_delivered_end_the_switch_in_time() {
    let world = World::copied(5);
    let stuck = "INSERT INTO banyan_intents VALUES ('users', 5, '5', NULL, 0)";
    world.source.execute_batch(stuck).unwrap();
    let error = platform::error::chain(&to(&world, Side::Service).unwrap_err());
    assert!(error.contains("the old owner's images are delivered"), "{error}");
    assert_owner(&world, Side::Monolith, "stuck");
}

#[test]
fn a_side_that_does_not_take_images_is_not_switched_to() {
    let world = World::copied(5);
    world.set_email(3, "waiting@example.com");
    let error = to(&world, Side::Service).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("1 changed keys of users wait"), "{error}");
    assert_owner(&world, Side::Monolith, "waiting");
}

#[test]
fn a_facade_that_does_not_hold_ends_the_switch_in_time() {
    let world = World::copied(5);
    let acks = vec![Ack { context: "users".to_owned(), token: 0, held: false }];
    let heartbeat = Heartbeat { instance: "facade-1".to_owned(), kind: InstanceKind::Facade, acks };
    world.extraction.store.heartbeat(&heartbeat).unwrap();
    let error = platform::error::chain(&to(&world, Side::Service).unwrap_err());
    assert!(error.contains("all processes hold the writes"), "{error}");
    assert_owner(&world, Side::Monolith, "facade");
}

#[test]
fn a_side_that_does_not_answer_is_not_switched_to() {
    let mut world = World::copied(5);
    world.extraction.target_health = Some("http://127.0.0.1:1/health/ready".to_owned());
    let error = to(&world, Side::Service).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("http://127.0.0.1:1/health/ready"), "{error}");
    assert_owner(&world, Side::Monolith, "health");
}

#[test]
fn a_switch_without_dual_write_is_refused() {
    let world = World::new();
    let error = to(&world, Side::Service).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("migrate dual-write users on"), "{error}");
}

#[test]
fn dual_write_stays_on_while_the_service_is_read_or_owns() {
    let world = World::copied(5);
    world.verify();
    let reads = FlagChange { reads: Some("10".parse().unwrap()), ..FlagChange::default() };
    world.extraction.store.set_flag("users", reads, &who()).unwrap();
    let error = dual_write::set(&world.extraction, false, &who()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(row(&world.source).1, "the owner goes on writing both");
    to(&world, Side::Service).unwrap();
    assert_eq!(dual_write::set(&world.extraction, false, &who()).unwrap_err().exit_code(), 3);
}

#[test]
fn a_late_switcher_cannot_close_a_fence_that_a_later_switch_moved() {
    let world = World::copied(5);
    world.verify();
    let hold = world.extraction.store.begin_switch("users", Side::Service, &who()).unwrap();
    let late = Who::new("late", "was asleep");
    world.extraction.store.abort_switch("users", hold.token, &late).unwrap();
    to(&world, Side::Service).unwrap();
    to(&world, Side::Monolith).unwrap();
    let (open, _, token) = row(&world.source);
    assert!(open && token > hold.token);
}

#[test]
fn status_shows_both_sides() {
    let world = World::copied(5);
    world.set_email(3, "waiting@example.com");
    let status = status::run(&world.extraction).unwrap();
    assert_eq!(status.sides[0].pending, 1);
    assert_eq!(status.backfill.unwrap().progress.rows, 5);
    assert!(status.sides[1].state.unwrap().closed);
}

#[test]
fn status_tells_the_last_backfill_and_its_direction_also_after_a_switch() {
    let world = World::copied(5);
    let text = || crate::output::backfill_text(&status::run(&world.extraction).unwrap());
    assert_eq!(text(), "done, from the monolith to the service: 5/5 keys in 1 chunks, 0 refused");
    to(&world, Side::Service).unwrap();
    assert_eq!(
        text(),
        "done, from the monolith to the service: 5/5 keys in 1 chunks, 0 refused; none from the service to the monolith \
         since dual-write was turned on there"
    );
    to(&world, Side::Monolith).unwrap();
    assert_eq!(text(), "done, from the monolith to the service: 5/5 keys in 1 chunks, 0 refused");
}
