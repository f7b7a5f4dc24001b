//! Facts about the switch of ownership over change capture.
//!
//! Invariant: at no point do both fences stand open, nothing is applied to the side that owns the data, and after any failure
//! one command puts things right.

use std::time::{Duration, Instant};

use control::Side;
use rusqlite::Connection;

use crate::engine::catch_up::Follower;
use crate::engine::run::{Adopt, Until, run};
use crate::engine::verify::{VerifyOptions as CompareOptions, verify};
use crate::engine::{Driver as _, Phase, RunOptions, Source as _, Stop, Target as _};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::flow::{End, Flow};
use crate::status;
use crate::tests::application::Application;
use crate::tests::switching::{AFTER_FLIP, BEFORE_FLIP, to};
use crate::tests::world::{World, who};

const THERE: Flow = Flow { from: End::Source, to: End::Target };
const BACK: Flow = Flow { from: End::Target, to: End::Source };

/// Capture installed, and everything copied.
fn captured(count: i64) -> World {
    let world = World::new();
    world.seed(count);
    world.extraction.store.set_capture("users", true, &who()).unwrap();
    let (stream, driver) = world.extraction.stream(THERE).unwrap();
    driver.source().unwrap().install_capture(&stream).unwrap();
    catch_up(&world, THERE);
    world
}

fn follow(world: &World, flow: Flow, until: Until, stop: &Stop) -> Result<(), MigrateError> {
    let (stream, driver) = world.extraction.stream(flow).unwrap();
    let options = RunOptions { until, adopt: Adopt::Nothing, workers: 1, ..RunOptions::default() };
    run(&driver, &stream, &options, stop, &FailPoints::none(), &mut |_| {}).map(drop)
}

fn catch_up(world: &World, flow: Flow) {
    follow(world, flow, Until::CaughtUp, &Stop::default()).unwrap();
}

fn phase(world: &World, flow: Flow) -> Option<Phase> {
    let (stream, driver) = world.extraction.stream(flow).unwrap();
    driver.target().unwrap().stream(&stream.name).unwrap().map(|row| row.phase)
}

/// Whether the fence is open.
fn open(conn: &Connection) -> bool {
    conn.query_row("SELECT fence = 'open' FROM banyan_contexts", [], |row| row.get(0)).unwrap()
}

fn assert_owner(world: &World, owner: Side, why: &str) {
    let flag = world.extraction.flag().unwrap();
    assert_eq!((flag.writes, flag.hold), (owner, None), "{why}");
    let fences = (open(&world.source), open(&world.target));
    let (expected, follows, rests) = match owner {
        Side::Monolith => ((true, false), THERE, BACK),
        Side::Service => ((false, true), BACK, THERE),
    };
    assert_eq!(fences, expected, "{why}: only the owner's fence is open");
    assert_ne!(phase(world, follows), Some(Phase::Resting), "{why}: what follows the owner is awake");
    assert!(matches!(phase(world, rests), None | Some(Phase::Resting)), "{why}: what fills the owner rests");
}

fn assert_equal(world: &World, flow: Flow, why: &str) {
    catch_up(world, flow);
    let (stream, driver) = world.extraction.stream(flow).unwrap();
    let report = verify(&driver, &stream, &CompareOptions::default(), &Stop::default(), &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{why}: {report:?}");
}

#[test]
fn ownership_goes_to_the_service_and_comes_home() {
    let world = captured(40);
    world.delete(40);
    world.set_email(3, "new@example.com");
    catch_up(&world, THERE);
    let report = to(&world, Side::Service).unwrap();
    assert!(report.switched);
    assert_eq!(report.sequences.unwrap().last_id, Some(40));
    assert_eq!(report.sequences.unwrap().version, 42, "the counter goes on behind the monolith's");
    assert_owner(&world, Side::Service, "there");
    assert_equal(&world, BACK, "nothing was written yet");

    world.rename_at_service(7, "Eve");
    for table in ["person", "contact", "address"] {
        world.target.execute(&format!("DELETE FROM {table} WHERE person_id = 8"), []).unwrap();
    }
    catch_up(&world, BACK);
    let name: String =
        world.source.query_row("SELECT name FROM users_users WHERE id = 7", [], |row| row.get(0)).unwrap();
    assert!(name.starts_with("Eve "), "{name}");
    assert_eq!(world.count(&world.source, "users_users"), 38);

    assert!(to(&world, Side::Monolith).unwrap().switched);
    assert_owner(&world, Side::Monolith, "home");
    world.set_email(9, "home@example.com");
    assert_equal(&world, THERE, "home");
    assert!(to(&world, Side::Service).unwrap().switched, "and there again");
    assert_equal(&world, BACK, "there again");
}

#[test]
fn a_failure_before_the_flip_leaves_the_old_owner_writing() {
    for point in &BEFORE_FLIP[1..] {
        let mut world = captured(5);
        world.extraction.points = FailPoints::fail_at(point);
        let error = to(&world, Side::Service).unwrap_err();
        assert!(platform::error::chain(&error).contains("the monolith goes on"), "{point}: {error}");
        assert_owner(&world, Side::Monolith, point);
        world.set_email(1, "still@example.com");
        catch_up(&world, THERE);
        world.extraction.points = FailPoints::none();
        to(&world, Side::Service).unwrap();
        assert_owner(&world, Side::Service, point);
        assert_equal(&world, BACK, point);
    }
}

#[test]
fn a_crash_before_the_flip_is_undone_by_the_next_command() {
    for point in BEFORE_FLIP {
        let mut world = captured(5);
        world.extraction.points = FailPoints::crash_at(point);
        assert!(matches!(to(&world, Side::Service), Err(MigrateError::Crashed(_))), "{point}");
        assert!(!open(&world.target), "{point}: the service must not accept writes");
        world.extraction.points = FailPoints::none();
        assert!(!to(&world, Side::Monolith).unwrap().switched, "{point}");
        assert_owner(&world, Side::Monolith, point);
        world.set_email(1, "still@example.com");
        catch_up(&world, THERE);
        assert!(to(&world, Side::Service).unwrap().switched, "{point}");
        assert_owner(&world, Side::Service, point);
        assert_equal(&world, BACK, point);
    }
}

#[test]
fn a_crash_after_the_flip_is_finished_forward_by_the_next_command() {
    for point in AFTER_FLIP {
        let mut world = captured(5);
        world.extraction.points = FailPoints::crash_at(point);
        assert!(matches!(to(&world, Side::Service), Err(MigrateError::Crashed(_))), "{point}");
        assert!(!open(&world.source), "{point}: the monolith must not accept writes");
        world.extraction.points = FailPoints::none();
        let report = to(&world, Side::Service).unwrap();
        assert!(!report.switched && report.owner == Side::Service, "{point}");
        assert_owner(&world, Side::Service, point);
        world.rename_at_service(2, "Eve");
        assert_equal(&world, BACK, point);
        assert!(to(&world, Side::Monolith).unwrap().switched, "{point}");
        assert_owner(&world, Side::Monolith, point);
    }
}

#[test]
fn changes_until_the_fence_closes_go_along() {
    let mut world = captured(5);
    let application = Application::beside(world.folder.path());
    world.extraction.points = FailPoints::watched(move |point| {
        if ["switch_verified", "switch_held", "switch_acknowledged"].contains(&point) {
            application.set_email(3, &format!("{point}@example.com"));
            application.create("Late Comer", &format!("late-{point}@example.com"));
            application.delete(if point == "switch_held" { 2 } else { application.create("X", point) });
        }
    });
    let report = to(&world, Side::Service).unwrap();
    assert!(report.drained > 0);
    assert_eq!(report.dirty_keys, 7);
    assert_owner(&world, Side::Service, "changed");
    assert_equal(&world, BACK, "changed");
}

#[test]
fn what_went_wrong_on_the_way_is_found_under_the_hold() {
    let mut world = captured(5);
    let application = Application::beside(world.folder.path());
    world.extraction.points = FailPoints::watched(move |point| match point {
        "switch_held" => application.set_email(3, "changed@example.com"),
        "switch_drained" => {
            let sql = "UPDATE contact SET value = 'wrong@example.com' WHERE person_id = 3 AND kind = 'email'";
            application.target.execute_batch(sql).unwrap();
        }
        _ => {}
    });
    let error = platform::error::chain(&to(&world, Side::Service).unwrap_err());
    assert!(error.contains("differ in 1 rows"), "{error}");
    assert_owner(&world, Side::Monolith, "wrong");
}

#[test]
fn a_switch_is_refused_until_everything_is_copied_applied_and_equal() {
    let world = World::new();
    world.seed(5);
    world.extraction.store.set_capture("users", true, &who()).unwrap();
    let refusal = |world: &World| {
        let error = to(world, Side::Service).unwrap_err();
        assert_owner(world, Side::Monolith, "refused");
        error.to_string()
    };
    assert!(refusal(&world).contains("migrate capture install users"));
    let (stream, driver) = world.extraction.stream(THERE).unwrap();
    driver.source().unwrap().install_capture(&stream).unwrap();
    assert!(refusal(&world).contains("migrate run"), "nothing is copied");
    catch_up(&world, THERE);
    world.set_email(3, "waiting@example.com");
    assert!(refusal(&world).contains("wait to be applied"));
    catch_up(&world, THERE);
    world.target.execute_batch("UPDATE person SET given_name = 'Eve' WHERE person_id = 2").unwrap();
    assert!(refusal(&world).contains("differ in 1 rows"));
    world.target.execute_batch("UPDATE person SET given_name = 'Ann' WHERE person_id = 2").unwrap();
    let trigger: String = world
        .source
        .query_row("SELECT name FROM sqlite_schema WHERE type = 'trigger' LIMIT 1", [], |row| row.get(0))
        .unwrap();
    world.source.execute_batch(&format!("DROP TRIGGER \"{trigger}\"")).unwrap();
    assert!(refusal(&world).contains("is damaged"));
}

#[test]
fn nothing_is_applied_to_the_side_that_owns_the_data() {
    let world = captured(5);
    let (stream, driver) = world.extraction.stream(THERE).unwrap();
    let points = FailPoints::none();
    let mut late = Follower::claim(&driver, &stream, 10, &points).unwrap();
    to(&world, Side::Service).unwrap();
    // A writer that knows no fence.
    world.source.execute_batch("UPDATE users_users SET name = 'Past The Fence' WHERE id = 1").unwrap();
    assert_eq!(late.batch().unwrap_err().exit_code(), 3, "a claim of before");
    let again = Follower::claim(&driver, &stream, 10, &points).err().unwrap();
    assert!(again.to_string().contains("rests"), "{again}");
    catch_up(&world, THERE);
    let name: String = world
        .target
        .query_row("SELECT given_name FROM person WHERE person_id = 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(name, "Ann");
}

#[test]
fn a_run_rests_while_its_target_owns_the_data_and_then_goes_on() {
    let world = captured(5);
    let (world, stop) = (&world, Stop::default());
    std::thread::scope(|scope| {
        let stop = &stop;
        let extraction = world.again();
        let run = scope.spawn(move || {
            let (stream, driver) = extraction.stream(THERE).unwrap();
            run(&driver, &stream, &RunOptions::default(), stop, &FailPoints::none(), &mut |_| {}).map(drop)
        });
        let ended = Ended(stop);
        to(world, Side::Service).unwrap();
        assert_owner(world, Side::Service, "there");
        world.rename_at_service(2, "Eve");
        catch_up(world, BACK);
        to(world, Side::Monolith).unwrap();
        world.set_email(4, "goes-on@example.com");
        let deadline = Instant::now() + Duration::from_secs(30);
        let arrived = "SELECT count(*) FROM contact WHERE value = 'goes-on@example.com'";
        while world.target.query_row(arrived, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
            assert!(Instant::now() < deadline && !run.is_finished(), "the run does not go on");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(ended);
        run.join().unwrap().unwrap();
    });
}

/// Stops the run when the test ends early, so that its failure is seen.
struct Ended<'a>(&'a Stop);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
fn status_finishes_a_switch_that_was_left_behind() {
    let mut world = captured(5);
    world.extraction.points = FailPoints::crash_at("switch_flipped");
    to(&world, Side::Service).unwrap_err();
    world.extraction.points = FailPoints::none();
    let deadline = world.extraction.flag().unwrap().hold.unwrap().deadline_ms;
    while control::now_ms() <= deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!status::settle(&world.extraction).unwrap().is_empty());
    assert_owner(&world, Side::Service, "status");
}
