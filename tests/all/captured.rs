//! Users move out and home over change capture, while processes die.
//!
//! Invariant of every test here: at the end one side owns the users, nothing is held, both databases are equal, and every
//! acknowledged write is found on both.

use harness::load::LoadReport;
use harness::process::{self, Job, Output};
use harness::{Cluster, Part, databases, wait};

use crate::support::{
    PATIENCE, SWITCH_POINTS, assert_no_fault, cluster, is_held, load, owner, restart, work,
};

fn migrate(cluster: &Cluster, args: &[&str]) -> Output {
    cluster.migrate(args).unwrap().ok().unwrap()
}

/// Capture installed, everything copied; the run goes on.
fn copy_users(cluster: &Cluster) -> Job {
    migrate(cluster, &["capture", "install", "users"]);
    let run = cluster.migrate_job(&["run", "users"]).unwrap();
    wait_until_copied(cluster);
    run
}

fn wait_until_copied(cluster: &Cluster) {
    wait::until("users are copied", PATIENCE, || {
        Ok((cluster.migrate(&["verify", "users"])?.code == Some(0)).then_some(()))
    })
    .unwrap();
}

/// Tries the switch until it is done, as an operator would who reads its messages.
fn switch_at_last(cluster: &Cluster, to: &str) {
    wait::until(&format!("the switch to the {to} is done"), PATIENCE, || {
        if owner(cluster) == to && !is_held(cluster) {
            return Ok(Some(()));
        }
        cluster.migrate(&["switch", "users", "--to", to])?;
        Ok(None)
    })
    .unwrap();
}

fn finish(cluster: &Cluster, report: &LoadReport) {
    wait::until("both sides are equal", PATIENCE, || Ok(cluster.differences()?.is_empty().then_some(())))
        .unwrap();
    let monolith = databases::monolith_users(&cluster.monolith_db()).unwrap();
    let service = databases::service_users(&cluster.service_db()).unwrap();
    let told = [report.book.check_users(&monolith), report.book.check_users(&service)].concat();
    assert!(told.is_empty(), "{} differences:\n{}", told.len(), told.join("\n"));
    assert!(report.book.acknowledged > 0, "the load wrote nothing");
    assert!(!is_held(cluster), "a switch is still in progress");
}

#[test]
fn users_move_out_and_home_over_change_capture_without_a_failed_request() {
    let cluster = cluster(2_000);
    let load = load(&cluster);
    work(&load, 50);
    let _there = copy_users(&cluster);
    for percent in [10, 50, 100] {
        cluster.set_reads(percent).unwrap().ok().unwrap();
        work(&load, 100);
    }
    switch_at_last(&cluster, "service");
    let _back = cluster.migrate_job(&["run", "users", "--back"]).unwrap();
    // From here on the service answers alone: an old state would be a lost write.
    load.lap();
    work(&load, 300);
    let with_service = load.lap();
    assert_eq!(with_service.stale, 0, "{}", with_service.faults_in_words());
    assert!(with_service.sides.get("service").copied().unwrap_or_default() > 100, "{:?}", with_service.sides);
    switch_at_last(&cluster, "monolith");
    for percent in [50, 0] {
        cluster.set_reads(percent).unwrap().ok().unwrap();
        work(&load, 100);
    }
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    finish(&cluster, &report);
}

#[test]
fn migrate_dies_at_every_step_of_a_switch_over_change_capture() {
    let cluster = cluster(500);
    let _there = copy_users(&cluster);
    let load = load(&cluster);
    let (mut to, mut back) = ("service", None);
    for point in SWITCH_POINTS {
        // A busy machine may not come as far within the time for which writes are held; the switch is given up then.
        wait::until(&format!("migrate dies at {point}"), PATIENCE, || {
            let launch = cluster.migrate_launch(&["switch", "users", "--to", to]);
            let output = process::run(&launch.env("BANYAN_FAIL_POINT", point), PATIENCE)?;
            Ok(output.code.is_none().then_some(()))
        })
        .unwrap();
        // Writes must go on by themselves before anybody looks: a hold ends at its deadline.
        load.lap();
        work(&load, 150);
        let lap = load.lap();
        assert_eq!(lap.faults(), 0, "after a death at {point}: {}", lap.faults_in_words());
        switch_at_last(&cluster, to);
        if back.is_none() {
            back = Some(cluster.migrate_job(&["run", "users", "--back"]).unwrap());
        }
        to = if to == "service" { "monolith" } else { "service" };
    }
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    finish(&cluster, &report);
}

#[test]
fn a_run_killed_again_and_again_and_a_dead_service_leave_both_sides_equal() {
    let mut cluster = cluster(3_000);
    let load = load(&cluster);
    migrate(&cluster, &["capture", "install", "users"]);
    for round in 0..4 {
        let job = cluster.migrate_job(&["run", "users"]).unwrap();
        work(&load, 30 + 20 * round);
        assert!(job.kill().unwrap(), "the run ended by itself");
    }
    let _run = cluster.migrate_job(&["run", "users"]).unwrap();
    wait_until_copied(&cluster);
    cluster.set_reads(50).unwrap().ok().unwrap();
    cluster.kill(Part::Service).unwrap();
    work(&load, 150);
    restart(&mut cluster, Part::Service);
    work(&load, 50);
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    assert!(report.total.fallbacks > 0, "no read fell back to the monolith");
    finish(&cluster, &report);
}

#[test]
fn dual_write_beside_capture_is_refused_with_the_command_that_helps() {
    let cluster = cluster(100);
    migrate(&cluster, &["capture", "install", "users"]);
    let refused = cluster.migrate(&["dual-write", "users", "on"]).unwrap();
    assert_eq!(refused.code, Some(3));
    assert!(refused.stderr.contains("migrate capture remove users"), "{}", refused.stderr);
}
