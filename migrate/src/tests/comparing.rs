//! Facts about verification and repair, on the driver in memory.
//!
//! Invariant: what is corrupted is chosen by the test, so a verification that finds less or more fails it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::repair::{RepairReport, Writes, repair};
use crate::engine::run::{Parts, RunOptions, Stop, Until, run};
use crate::engine::verify::{Kind, Mode, Report, Resume, VerifyOptions, confirmed, verify};
use crate::engine::{Driver, Position};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::tests::model::{Hook, Model};

/// Copied and at rest.
fn copied(count: i64) -> Model {
    let model = Model::with_rows(count);
    catch_up(&model, Parts::Both);
    model
}

fn catch_up(model: &Model, parts: Parts) {
    let options = RunOptions { until: Until::CaughtUp, parts, ..RunOptions::default() };
    run(model, &Model::stream(), &options, &Stop::default(), &FailPoints::none(), &mut |_| {}).unwrap();
}

fn options() -> VerifyOptions {
    VerifyOptions { part_rows: 7_000, patience: Duration::from_millis(100), ..VerifyOptions::default() }
}

fn try_verify(model: &Model, options: &VerifyOptions) -> Result<Report, MigrateError> {
    verify(model, &Model::stream(), options, &Stop::default(), &mut |_| {})
}

fn found(report: &Report) -> BTreeSet<(i64, Kind)> {
    report.differences.iter().map(|found| (found.key.parse().unwrap(), found.kind)).collect()
}

fn do_repair(model: &Model, report: &Report, writes: Writes) -> (RepairReport, String) {
    let mut log = Vec::new();
    let done = repair(model, &Model::stream(), report, writes, &mut log, &FailPoints::none()).unwrap();
    (done, String::from_utf8(log).unwrap())
}

#[test]
fn equal_tables_are_clean_and_all_rows_are_counted() {
    let report = try_verify(&copied(20_000), &options()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.rows(), report.tables[0].parts), (20_000, 3));
}

#[test]
fn small_parts_share_a_pair_of_snapshots() {
    let model = copied(20_000);
    let snapshots = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&snapshots);
    model.target().before_snapshot = Hook::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let report = try_verify(&model, &VerifyOptions { part_rows: 100, ..options() }).unwrap();
    assert_eq!((report.rows(), report.tables[0].parts), (20_000, 201));
    let taken = snapshots.load(Ordering::Relaxed);
    assert!(taken < 100, "{taken} snapshots for 201 parts");
}

#[test]
fn every_corrupted_row_is_found_and_no_other() {
    let model = copied(30_000);
    {
        let rows = &mut model.target().rows;
        rows.insert(1, "other".to_owned());
        rows.remove(&15_001);
        rows.insert(90_000, "too many".to_owned());
        let (one, two) = (rows[&20_000].clone(), rows[&20_001].clone());
        rows.extend([(20_000, two), (20_001, one)]);
    }
    let report = try_verify(&model, &options()).unwrap();
    let expected = [
        (1, Kind::Differs),
        (15_001, Kind::Missing),
        (20_000, Kind::Differs),
        (20_001, Kind::Differs),
        (90_000, Kind::Extra),
    ];
    assert_eq!(found(&report), expected.into());
    assert_eq!(report.wrong(), 5);
    let listed = report.differences.iter().find(|found| found.key == "1").unwrap();
    let columns: Vec<_> = listed.columns.iter().map(|column| column.column.as_str()).collect();
    assert_eq!(columns, ["name"], "only the column that differs is shown");
}

#[test]
fn a_target_with_a_whole_range_too_much_is_split_by_its_own_keys() {
    let model = copied(10);
    model.target().rows.extend((100..20_100).map(|key| (key, "too many".to_owned())));
    let report = try_verify(&model, &options()).unwrap();
    assert_eq!((report.tables[0].extra, report.wrong()), (20_000, 20_000));
    assert_eq!(report.differences.len(), options().limit);
}

#[test]
fn changes_that_catch_up_has_not_applied_are_moving_and_no_difference() {
    let model = copied(100);
    model.source().put(5, Some("changed"));
    let report = try_verify(&model, &options()).unwrap();
    assert_eq!((report.wrong(), report.moving(), report.dirty_left), (0, 1, 1));
    assert!(!report.is_clean());
    catch_up(&model, Parts::CatchUp);
    assert!(try_verify(&model, &options()).unwrap().is_clean());
}

/// Were the source's snapshot the older one, it would lack what the target has, and no log row would tell.
#[test]
fn what_is_written_and_applied_right_before_the_targets_snapshot_is_no_difference() {
    let model = copied(100);
    let (source, target, writes) =
        (Arc::clone(&model.source), Arc::downgrade(&model.target), AtomicU64::new(0));
    model.target().before_snapshot = Hook::new(move || {
        let text = format!("write {}", writes.fetch_add(1, Ordering::Relaxed));
        let mut source = source.lock().unwrap();
        source.put(5, Some(&text));
        let (target, position) = (target.upgrade().unwrap(), Position(source.position.to_string()));
        let mut target = target.lock().unwrap();
        target.rows.insert(5, text);
        let row = target.streams.get_mut("items").unwrap();
        (row.next, row.pos) = (position.clone(), position);
    });
    let report = try_verify(&model, &options()).unwrap();
    assert!(report.is_clean(), "{:?}", report.differences);
}

#[test]
fn write_load_raises_no_false_alarm_and_hides_no_corruption() {
    let model = copied(9_000);
    let follow = RunOptions { until: Until::Stopped, parts: Parts::CatchUp, ..RunOptions::default() };
    let (stop, stream, points) = (Stop::default(), Model::stream(), FailPoints::none());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&model, &stream, &follow, &stop, &points, &mut |_| {}));
        scope.spawn(|| {
            for number in 0.. {
                if stop.is_stopped() {
                    break;
                }
                let key = 1 + number * 7_919 % 9_000;
                let text = format!("write {number}");
                model.source().put(key, (number % 5 > 0).then_some(text.as_str()));
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let patient = VerifyOptions { patience: Duration::from_secs(10), part_rows: 2_000, ..options() };
        for _ in 0..5 {
            let report = try_verify(&model, &patient).unwrap();
            assert_eq!(report.wrong(), 0, "{:?}", report.differences);
        }
        model.target().rows.insert(900_000, "too many".to_owned());
        let report = try_verify(&model, &patient).unwrap();
        assert_eq!(found(&report), [(900_000, Kind::Extra)].into());
        stop.stop();
        running.join().unwrap().unwrap();
    });
}

#[test]
fn a_stopped_verification_goes_on_where_it_stopped() {
    let model = copied(20_000);
    model.target().rows.remove(&1);
    let (stop, seen) = (Stop::default(), Cell::new(0));
    let small = VerifyOptions { part_rows: 1_000, ..options() };
    let stopped = verify(&model, &Model::stream(), &small, &stop, &mut |report: &Report| {
        seen.set(seen.get() + 1);
        if report.tables[0].parts == 5 {
            stop.stop();
        }
    });
    assert!(!stopped.unwrap().complete);
    // Were it not gone on with, this corruption in a part already compared would be found.
    model.target().rows.remove(&2);
    let report = try_verify(&model, &small).unwrap();
    assert!(report.complete);
    assert_eq!((found(&report), report.rows()), ([(1, Kind::Missing)].into(), 20_000));
    model.target().rows.remove(&3);
    let anew = VerifyOptions { resume: Resume::Anew, ..small };
    assert_eq!(try_verify(&model, &anew).unwrap().wrong(), 3);
    assert!(model.target().holds.is_empty(), "no hold is left");
}

#[test]
fn a_sample_compares_the_same_parts_for_the_same_seed() {
    let model = copied(20_000);
    let sample =
        |seed| VerifyOptions { mode: Mode::Sample { percent: 30, seed }, part_rows: 500, ..options() };
    let rows = |seed| try_verify(&model, &sample(seed)).unwrap();
    let first = rows(1);
    assert!(first.rows() > 1_000 && first.rows() < 15_000, "{}", first.rows());
    assert_eq!(first.tables[0].hash, rows(1).tables[0].hash);
    assert_ne!(first.tables[0].hash, rows(2).tables[0].hash);
}

#[test]
fn a_sample_compares_one_part_at_least_and_none_that_is_empty_instead() {
    let sampled = |count: i64, seed| {
        let mode = Mode::Sample { percent: 1, seed };
        let model = copied(count);
        model.target().rows.values_mut().for_each(|row| *row = "corrupt".to_owned());
        let report = try_verify(&model, &VerifyOptions { mode, part_rows: 100, ..options() }).unwrap();
        assert!(report.evidence().contains("(a sample of 1 %, 1 parts)"), "{}", report.evidence());
        (report.wrong(), report.keys_of("item").into_iter().map(|key| key.0).min())
    };
    let mut first = BTreeSet::new();
    for seed in 1..=20 {
        assert_eq!(sampled(30, seed).0, 30);
        let (wrong, least) = sampled(300, seed);
        assert_eq!(wrong, 100);
        first.insert(least);
    }
    assert!(first.len() > 1, "the seed chooses: {first:?}");
    assert_eq!(sampled(0, 1).0, 0);
}

#[test]
fn the_dirty_set_is_what_changed_since_the_last_verification_whose_log_was_kept() {
    let model = copied(1_000);
    let dirty = VerifyOptions { mode: Mode::Dirty, ..options() };
    try_verify(&model, &options()).unwrap();
    model.source().put(2, Some("changed, applied and pruned"));
    catch_up(&model, Parts::CatchUp);
    let error = try_verify(&model, &dirty).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("--keep-dirty"), "{error}");
    model.source().put(1, Some("before"));
    catch_up(&model, Parts::CatchUp);
    try_verify(&model, &VerifyOptions { keep_seconds: 60, ..options() }).unwrap();
    for key in [5, 6, 7] {
        model.source().put(key, Some("changed"));
    }
    catch_up(&model, Parts::CatchUp);
    model.target().rows.insert(6, "corrupt".to_owned());
    model.target().rows.insert(9, "corrupt, but not in the dirty set".to_owned());
    let report = try_verify(&model, &dirty).unwrap();
    assert_eq!((found(&report), report.rows()), ([(6, Kind::Differs)].into(), 3));
    let known = confirmed(&mut Driver::target(&model).unwrap(), "items").unwrap().unwrap();
    assert_eq!((known.mode, found(&known)), (Mode::Full, [(6, Kind::Differs)].into()));
}

#[test]
fn a_changed_mapping_voids_what_was_verified() {
    let model = copied(10);
    let report = try_verify(&model, &options()).unwrap();
    let mut row = model.target().streams["items"].clone();
    assert!(report.is_valid_for(&row));
    row.mapping_hash = "another".to_owned();
    assert!(!report.is_valid_for(&row));
    model.target().streams.insert("items".to_owned(), row);
    assert_eq!(try_verify(&model, &options()).unwrap_err().exit_code(), 3);
}

#[test]
fn nothing_is_compared_before_everything_is_copied() {
    let model = copied(10);
    model.target().chunks[0].done = None;
    let error = try_verify(&model, &options()).unwrap_err();
    assert!(error.exit_code() == 3 && error.to_string().contains("migrate run"), "{error}");
}

#[test]
fn repair_mends_what_differs_and_logs_each_row_before_and_after() {
    let model = copied(5_000);
    model.target().rows.insert(5, "corrupt".to_owned());
    model.target().rows.insert(9_000, "too many".to_owned());
    model.target().rows.remove(&77);
    let report = try_verify(&model, &options()).unwrap();
    let (looked, log) = do_repair(&model, &report, Writes::DryRun);
    assert_eq!((looked.left.len(), looked.repaired, log.as_str()), (3, 0, ""));
    assert!(!model.is_equal());
    let (done, log) = do_repair(&model, &report, Writes::Yes);
    assert!(done.left.is_empty() && model.is_equal(), "{done:?}");
    assert_eq!(done.repaired, 3);
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = |step: &str, key: &str| {
        let line = lines.iter().find(|line| line["step"] == step && line["key"] == key).unwrap();
        line["rows"].clone()
    };
    assert_eq!(row("before", "5"), serde_json::json!([["5", "corrupt"]]));
    assert_eq!(row("after", "5"), serde_json::json!([["5", "row 5"]]));
    assert_eq!((row("before", "77"), row("after", "9000")), (serde_json::json!([]), serde_json::json!([])));
}

#[test]
fn repair_leaves_alone_what_healed_or_moves() {
    let model = copied(100);
    for key in [5, 6] {
        model.target().rows.insert(key, "corrupt".to_owned());
    }
    let report = try_verify(&model, &options()).unwrap();
    model.target().rows.insert(5, "row 5".to_owned());
    model.source().put(6, Some("changed"));
    let (done, _) = do_repair(&model, &report, Writes::Yes);
    assert_eq!((done.healed, done.repaired), (2, 0));
    catch_up(&model, Parts::CatchUp);
    assert!(model.is_equal());
}
