//! Processes die at the worst moments; the books must still be right.
//!
//! Invariant of every test here: at the end one side owns the users, nothing is held, both databases are equal, and
//! every acknowledged write is found on both.

use std::time::Duration;

use harness::load::LoadReport;
use harness::process::{self, Output};
use harness::{Cluster, Part, databases, wait};

use crate::support::{
    PATIENCE, SWITCH_POINTS, assert_no_fault, close_the_books, cluster, copy_users, is_held, load, owner,
    restart, switch, verify, work,
};

fn migrate_at(cluster: &Cluster, args: &[&str], point: &str) -> Output {
    process::run(&cluster.migrate_launch(args).env("BANYAN_FAIL_POINT", point), PATIENCE).unwrap()
}

/// Tries the switch until it is done, as an operator would who reads its messages.
fn switch_at_last(cluster: &Cluster, to: &str) {
    wait::until(&format!("the switch to the {to} is done"), PATIENCE, || {
        if owner(cluster) == to && !is_held(cluster) {
            return Ok(Some(()));
        }
        cluster.migrate(&["verify", "users"])?;
        cluster.migrate(&["switch", "users", "--to", to])?;
        Ok(None)
    })
    .unwrap();
}

fn finish(cluster: &Cluster, report: &LoadReport) {
    close_the_books(cluster, report);
    assert!(!is_held(cluster), "a switch is still in progress");
}

/// Kills a part while users are held, brings it back, and completes the switch.
fn kill_during_switch(part: Part, to: &str) {
    let mut cluster = cluster(500);
    copy_users(&cluster);
    if to == "monolith" {
        switch(&cluster, "service");
    }
    let load = load(&cluster);
    work(&load, 50);
    verify(&cluster);
    let mut job = cluster.migrate_job(&["switch", "users", "--to", to]).unwrap();
    wait::until("users are held", PATIENCE, || {
        Ok((is_held(&cluster) || job.ended()?.is_some()).then_some(()))
    })
    .unwrap();
    cluster.kill(part).unwrap();
    job.finish(PATIENCE).unwrap();
    restart(&mut cluster, part);
    switch_at_last(&cluster, to);
    work(&load, 50);
    let report = load.stop().unwrap();
    finish(&cluster, &report);
}

#[test]
fn the_service_dies_during_the_switch_to_it() {
    kill_during_switch(Part::Service, "service");
}

#[test]
fn the_monolith_dies_during_the_switch_away_from_it() {
    kill_during_switch(Part::Monolith, "service");
}

#[test]
fn the_service_dies_during_the_switch_away_from_it() {
    kill_during_switch(Part::Service, "monolith");
}

#[test]
fn the_monolith_dies_during_the_switch_to_it() {
    kill_during_switch(Part::Monolith, "monolith");
}

#[test]
fn a_facade_that_dies_does_not_stop_a_switch() {
    let mut cluster = cluster(500);
    copy_users(&cluster);
    cluster.kill(Part::Facade).unwrap();
    switch_at_last(&cluster, "service");
    restart(&mut cluster, Part::Facade);
    cluster.wait_for_side("service", PATIENCE).unwrap();
}

#[test]
fn migrate_dies_at_every_step_of_a_switch() {
    let cluster = cluster(500);
    copy_users(&cluster);
    let load = load(&cluster);
    let mut to = "service";
    let mut died = 0;
    for point in SWITCH_POINTS.into_iter().chain(["backfill_chunk"]) {
        verify(&cluster);
        let output = migrate_at(&cluster, &["switch", "users", "--to", to], point);
        died += u32::from(output.code.is_none());
        // Writes must go on by themselves before anybody looks: a hold ends at its deadline.
        load.lap();
        work(&load, 150);
        let lap = load.lap();
        assert_eq!(lap.faults(), 0, "after a death at {point}: {}", lap.faults_in_words());
        switch_at_last(&cluster, to);
        to = if to == "service" { "monolith" } else { "service" };
    }
    assert!(died >= 11, "only {died} fail points were met; are they named otherwise now?");
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    finish(&cluster, &report);
}

#[test]
fn a_backfill_killed_again_and_again_ends_equal_under_dual_writes() {
    let cluster = cluster(8_000);
    let load = load(&cluster);
    cluster.turn_dual_write("on").unwrap();
    let target = cluster.service_db();
    let copied = || -> i64 {
        databases::number(&target, "SELECT coalesce(max(rows), 0) FROM banyan_backfill").unwrap_or_default()
    };
    let mut landed = 0;
    for kill in 0..5_i64 {
        let goal = copied() + 400 + 150 * kill;
        let mut job = cluster.migrate_job(&["backfill", "users"]).unwrap();
        wait::until("the backfill goes on", PATIENCE, || {
            Ok((copied() >= goal || job.ended()?.is_some()).then_some(()))
        })
        .unwrap();
        landed += u32::from(job.kill().unwrap());
    }
    assert!(landed >= 2, "only {landed} kills landed while the backfill was at work");
    cluster.migrate(&["backfill", "users"]).unwrap().ok().unwrap();
    work(&load, 100);
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    finish(&cluster, &report);
}

#[test]
fn a_backfill_that_dies_before_and_after_a_commit_goes_on_where_it_was() {
    let cluster = cluster(3_000);
    cluster.turn_dual_write("on").unwrap();
    for point in ["backfill_chunk_copied", "backfill_chunk", "backfill_rows"] {
        let output = migrate_at(&cluster, &["backfill", "users"], point);
        assert_eq!(output.code, None, "the fail point {point} was not met: {}", output.stderr);
    }
    cluster.migrate(&["backfill", "users"]).unwrap().ok().unwrap();
    verify(&cluster);
    assert_eq!(cluster.differences().unwrap(), Vec::<String>::new());
}

#[test]
fn the_service_may_be_away_while_users_are_written() {
    let mut cluster = cluster(300);
    copy_users(&cluster);
    let load = load(&cluster);
    cluster.set_reads(50).unwrap().ok().unwrap();
    work(&load, 100);
    for _ in 0..2 {
        cluster.kill(Part::Service).unwrap();
        work(&load, 150);
        restart(&mut cluster, Part::Service);
        work(&load, 50);
    }
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    assert!(report.total.fallbacks > 0, "no read fell back to the monolith");
    finish(&cluster, &report);
    cluster.wait_for_side("service", Duration::from_secs(10)).ok();
}
