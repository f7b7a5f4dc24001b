//! The whole move of a small shop under load, out and home again.

use control::{ControlSettings, ControlStore, FlagChange, Weight, Who};
use harness::http::Ask;
use harness::load::Load;
use harness::{Cluster, Part};

use crate::support::{
    assert_no_fault, close_the_books, cluster, copy_users, is_held, load, owner, switch, verify, work,
};

fn ramp(cluster: &Cluster, load: &Load, percents: &[u32]) {
    for percent in percents {
        cluster.set_reads(*percent).unwrap().ok().unwrap();
        work(load, 100);
    }
}

#[test]
fn users_move_out_and_home_without_a_failed_request() {
    let cluster = cluster(2_000);
    let load = load(&cluster);
    work(&load, 100);
    cluster.turn_dual_write("on").unwrap();
    work(&load, 100);
    cluster.migrate(&["backfill", "users"]).unwrap().ok().unwrap();
    verify(&cluster);
    ramp(&cluster, &load, &[10, 50, 100]);
    switch(&cluster, "service");
    assert_eq!(owner(&cluster), "service");
    // From here on the service answers alone: an old state would be a lost write.
    load.lap();
    work(&load, 300);
    let with_service = load.lap();
    assert_eq!(with_service.stale, 0, "{}", with_service.faults_in_words());
    assert!(with_service.sides.get("service").copied().unwrap_or_default() > 100, "{:?}", with_service.sides);
    switch(&cluster, "monolith");
    assert_eq!(owner(&cluster), "monolith");
    work(&load, 100);
    ramp(&cluster, &load, &[50, 0]);
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    close_the_books(&cluster, &report);
    assert!(!is_held(&cluster));
}

#[test]
fn a_flag_that_flips_often_fails_no_request() {
    let cluster = cluster(500);
    let load = load(&cluster);
    copy_users(&cluster);
    let path = cluster.folder().join("control.db");
    let store = ControlStore::open(&ControlSettings { path, ..ControlSettings::default() }).unwrap();
    let who = Who::new("test", "flips often");
    let weights: [Weight; 4] = ["0", "100", "37", "1"].map(|percent| percent.parse().unwrap());
    for round in 0..1_000 {
        let change = FlagChange { reads: Some(weights[round % 4]), ..FlagChange::default() };
        store.set_flag("users", change, &who).unwrap();
        if round % 100 == 0 {
            work(&load, 20);
        }
    }
    work(&load, 100);
    let report = load.stop().unwrap();
    assert_no_fault(&report);
    close_the_books(&cluster, &report);
}

#[test]
fn reads_before_verification_are_refused_with_the_command_that_helps() {
    let cluster = cluster(100);
    let refused = cluster.set_reads(10).unwrap();
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("migrate"), "{}", refused.stderr);
    for (args, part) in [
        (["set", "nobody", "--reads", "10", "--reason", "test"], "nobody"),
        (["set", "users", "--reads", "101", "--reason", "test"], "101"),
    ] {
        let refused = cluster.facade_flag(&args).unwrap();
        assert_ne!(refused.code, Some(0), "{args:?}");
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
}

#[test]
fn orders_follow_the_owner_of_users() {
    use harness::http::Ask;
    use harness::{Part, databases};
    use serde_json::json;

    let mut cluster = cluster(200);
    copy_users(&cluster);
    switch(&cluster, "service");
    let body = json!({ "name": "Only There", "email": "only.there@example.com" });
    let ask = Ask::new(hyper::Method::POST, "/api/v1/users").json(&body);
    let created = cluster.http(Part::Facade, ask).unwrap();
    assert_eq!(created.status, 201, "{}", created.text());
    let user_id = created.json().unwrap()["id"].clone();
    let product_id =
        databases::number(&cluster.monolith_db(), "SELECT min(id) FROM catalog_products").unwrap();
    let body = json!({ "user_id": user_id, "lines": [{ "product_id": product_id, "quantity": 2 }] });
    let ask = Ask::new(hyper::Method::POST, "/api/v1/orders").json(&body);
    let placed = cluster.http(Part::Facade, ask).unwrap();
    assert_eq!(placed.status, 201, "{}", placed.text());
}

/// As many as the demo moves.
const GENERATED: u32 = 200_000;

#[test]
fn every_generated_and_imported_user_survives_the_mapping_there_and_back() {
    let mut cluster = cluster(GENERATED);
    // Its verification compares inverse(map(x)) with x for every row, by the manifest's own SQL.
    copy_users(&cluster);
    // And the service's code puts each user together again to answer for it.
    let first = "/api/v1/users?limit=200".to_owned();
    let (mut next, mut seen) = (Some(first.clone()), 0);
    while let Some(target) = next {
        let monolith = cluster.http(Part::Monolith, Ask::get(&target)).unwrap();
        let service = cluster.http(Part::Service, Ask::get(&target)).unwrap();
        assert_eq!(monolith.text(), service.text(), "{target}");
        let page = monolith.json().unwrap();
        seen += page["items"].as_array().unwrap().len();
        next = page["next"].as_str().map(|cursor| format!("{first}&cursor={cursor}"));
    }
    assert!(seen > GENERATED as usize, "{seen} users were listed: the imported ones are missing");
}
