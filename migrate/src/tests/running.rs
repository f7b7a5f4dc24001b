//! Facts about the runner, on the driver in memory.
//!
//! Invariant: waiting is for a condition, with a deadline; the condition is what is tested.

use std::time::{Duration, Instant};

use crate::engine::run::{Adopt, Parts, Pause, RunOptions, RunReport, Steering, Stop, Until, run};
use crate::engine::{Driver, Target as _};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::tests::model::Model;

fn options() -> RunOptions {
    let mut options = RunOptions { until: Until::CaughtUp, ..RunOptions::default() };
    options.copier.chunk = 10;
    options
}

fn try_run(model: &Model, options: &RunOptions) -> Result<RunReport, MigrateError> {
    run(model, &Model::stream(), options, &Stop::default(), &FailPoints::none(), &mut |_| {})
}

/// Runs beside `work`, which is told how to stop the run.
fn run_beside<T>(
    model: &Model,
    options: &RunOptions,
    work: impl FnOnce(&Stop) -> T,
) -> (T, Result<RunReport, MigrateError>) {
    let (stop, stream, points) = (Stop::default(), Model::stream(), FailPoints::none());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(model, &stream, options, &stop, &points, &mut |_| {}));
        let worked = work(&stop);
        (worked, running.join().unwrap())
    })
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn steer(model: &Model, steering: &Steering) {
    steering.write(&mut Driver::target(model).unwrap(), "items").unwrap();
}

#[test]
fn a_run_copies_everything_and_ends_when_it_has_caught_up() {
    let model = Model::with_rows(95);
    let report = try_run(&model, &options()).unwrap();
    assert!(report.copied && report.ended && model.is_equal(), "{report:?}");
    assert_eq!(report.rows_copied, 95);
    assert_eq!(model.target().loads, 1, "an empty target is loaded");
}

#[test]
fn changes_made_while_it_runs_arrive_and_the_log_is_pruned() {
    let model = Model::with_rows(50);
    let follow = RunOptions { until: Until::Stopped, ..options() };
    let ((), report) = run_beside(&model, &follow, |stop| {
        model.source().put(3, Some("changed"));
        model.source().put(4, None);
        model.source().put(900, Some("new"));
        until("changes arrive", || model.is_equal());
        model.source().truncate();
        model.source().put(5, Some("after"));
        until("a table emptied at the source is emptied", || model.is_equal());
        until("the log is pruned", || model.source().log.is_empty());
        stop.stop();
    });
    let report = report.unwrap();
    assert_eq!(report.pruned, 5);
    assert!(report.lag_ms.is_some());
    assert!(!report.ended, "it was told to stop");
}

#[test]
fn what_building_waits_for_is_said_beside_the_stream() {
    let model = Model::with_rows(20);
    model.target().full = true;
    let ((), report) = run_beside(&model, &options(), |_| {
        until("it is said", || model.target().notes.values().any(|said| said.contains("the disk is full")));
        model.target().full = false;
    });
    assert!(report.unwrap().ended && model.is_equal());
}

#[test]
fn a_run_goes_on_when_a_database_comes_back() {
    let model = Model::with_rows(50);
    let mut follow = RunOptions { until: Until::Stopped, ..options() };
    // A chunk that was leased when the target went away is free again when its lease is over.
    follow.copier.lease_seconds = 1;
    let ((), report) = run_beside(&model, &follow, |stop| {
        until("it has begun", || !model.target().rows.is_empty());
        model.source().away = true;
        model.target().away = true;
        model.source().put(3, Some("while away"));
        std::thread::sleep(Duration::from_millis(50));
        model.source().away = false;
        until("the other one is waited for", || !model.source().away);
        model.target().away = false;
        until("it goes on", || model.is_equal());
        stop.stop();
    });
    report.unwrap();
}

#[test]
fn a_second_run_with_another_mapping_is_refused() {
    let model = Model::with_rows(5);
    try_run(&model, &options()).unwrap();
    let mut stream = Model::stream();
    stream.mappings[0].select.push_str(" AND name <> ''");
    let error =
        run(&model, &stream, &options(), &Stop::default(), &FailPoints::none(), &mut |_| {}).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains(&stream.hash()), "{error}");
}

#[test]
fn a_target_with_rows_that_are_not_ours_is_refused_unless_they_are_adopted() {
    let model = Model::with_rows(30);
    model.target().rows.insert(7, "somebody's".to_owned());
    let error = try_run(&model, &options()).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("--adopt"), "{error}");
    assert_eq!(model.target().rows.len(), 1);
    try_run(&model, &RunOptions { adopt: Adopt::Rows, ..options() }).unwrap();
    assert!(model.is_equal());
    assert_eq!(model.target().loads, 0, "its indexes stay");
}

#[test]
fn without_capture_nothing_begins() {
    let model = Model::with_rows(3);
    model.source().captured = false;
    let error = try_run(&model, &options()).unwrap_err();
    assert!(error.to_string().contains("migrate capture install items"), "{error}");
    assert!(model.target().streams.is_empty());
}

#[test]
fn a_run_that_another_one_took_over_ends_and_does_not_take_it_back() {
    let model = Model::with_rows(20);
    try_run(&model, &options()).unwrap();
    let follow = RunOptions { until: Until::Stopped, ..options() };
    let ((), first) = run_beside(&model, &follow, |_| {
        let token = || model.target().streams.get("items").unwrap().token;
        until("it follows", || token() == 2);
        Driver::target(&model).unwrap().claim("items").unwrap();
    });
    assert_eq!(first.unwrap_err().exit_code(), 3);
    assert_eq!(model.target().streams.get("items").unwrap().token, 3);
}

#[test]
fn a_paused_run_writes_nothing_until_it_is_resumed() {
    let model = Model::with_rows(40);
    try_run(&model, &options()).unwrap();
    steer(&model, &Steering { pause: Pause::All, ..Steering::default() });
    let follow = RunOptions { until: Until::Stopped, ..options() };
    let ((), report) = run_beside(&model, &follow, |stop| {
        let said = |text: &str| model.target().notes.get("run").is_some_and(|said| said.contains(text));
        until("it says that it is paused", || said("paused"));
        model.source().put(1, Some("changed"));
        let before = model.target().streams.get("items").unwrap().pos.clone();
        until("it says so again", || said("\"log_rows\":1"));
        assert_eq!(model.target().streams.get("items").unwrap().pos, before);
        steer(&model, &Steering::default());
        until("it goes on", || model.is_equal());
        stop.stop();
    });
    report.unwrap();
}

#[test]
fn a_load_above_its_limit_holds_the_backfill_back() {
    let model = Model::with_rows(2_000);
    model.source().load = 9.0;
    let limit =
        Steering { load_query: Some("SELECT 9".to_owned()), load_limit: Some(8.0), ..Steering::default() };
    steer(&model, &limit);
    let ((), report) = run_beside(&model, &options(), |_| {
        let said = || model.target().notes.get("run").is_some_and(|said| said.contains("above 8"));
        until("it says why it rests", said);
        assert!(!model.is_equal());
        model.source().load = 1.0;
    });
    assert!(report.unwrap().copied && model.is_equal());
}

#[test]
fn backfill_alone_ends_when_all_is_copied_and_leaves_the_rest_to_catch_up() {
    let model = Model::with_rows(30);
    try_run(&model, &RunOptions { parts: Parts::Backfill, ..options() }).unwrap();
    model.source().put(1, Some("changed"));
    assert!(!model.is_equal());
    let report = try_run(&model, &RunOptions { parts: Parts::CatchUp, ..options() }).unwrap();
    assert!(model.is_equal() && report.rows_copied == 0);
}

#[test]
fn a_run_that_died_at_any_point_goes_on_where_it_stopped() {
    let points = [
        "run_created",
        "chunk_leased",
        "chunk_registered",
        "chunk_read",
        "chunk_done",
        "run_loaded",
        "catch_up_snapshot",
        "catch_up_next",
        "catch_up_pos",
    ];
    for point in points {
        let model = Model::with_rows(45);
        let died = run(
            &model,
            &Model::stream(),
            &options(),
            &Stop::default(),
            &FailPoints::crash_at(point),
            &mut |_| {},
        );
        assert!(matches!(died, Err(MigrateError::Crashed(_))), "{point}: {died:?}");
        model.source().put(2, Some("after the crash"));
        // The model's leases never run out by themselves.
        model.target().chunks.iter_mut().for_each(|chunk| chunk.leased = false);
        try_run(&model, &options()).unwrap();
        assert!(model.is_equal(), "{point}");
    }
}
