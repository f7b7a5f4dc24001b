//! Verification and repair.

use super::world::{World, same, stream};
use crate::engine::run::Stop;
use crate::engine::verify::{VerifyOptions, verify};

fn item(key: &str) -> String {
    format!("CREATE TABLE item (id {key} PRIMARY KEY, phone text, amount numeric)")
}

/// Differences that verification finds.
fn differences(world: &World, key: &str, harm: &str) -> usize {
    let stream = stream(vec![same("item", &["id", "phone", "amount"])]);
    let _ = key;
    world.target.run(harm).unwrap();
    let options = VerifyOptions { part_rows: 300, ..VerifyOptions::default() };
    let report = verify(&world.driver(), &stream, &options, &Stop::default(), &mut |_| {}).unwrap();
    report.differences.len()
}

#[test]
fn every_kind_of_harm_is_found_under_any_order_of_keys() {
    for key in ["int", "text"] {
        let rows = "INSERT INTO item SELECT i, '0' || i, i / 3.0 FROM generate_series(1, 1000) i";
        let world = World::new(&format!("{}; {rows}", item(key)), &item(key));
        let stream = stream(vec![same("item", &["id", "phone", "amount"])]);
        world.begin(&stream);
        world.copy(&stream);
        assert_eq!(differences(&world, key, "SELECT 1"), 0);
        let exchanged = "UPDATE item SET phone = CASE id::text WHEN '7' THEN '08' ELSE '07' END WHERE id::text IN ('7', '8')";
        assert_eq!(differences(&world, key, exchanged), 2);
        assert_eq!(differences(&world, key, "UPDATE item SET amount = NULL WHERE id::text = '500'"), 3);
        assert_eq!(differences(&world, key, "UPDATE item SET amount = 1.00 WHERE id::text = '3'"), 4);
        assert_eq!(differences(&world, key, "DELETE FROM item WHERE id::text = '900'"), 5);
        assert_eq!(differences(&world, key, "INSERT INTO item VALUES ('5000', 'more')"), 6);
        let options = VerifyOptions { part_rows: 300, ..VerifyOptions::default() };
        let report = verify(&world.driver(), &stream, &options, &Stop::default(), &mut |_| {}).unwrap();
        let points = crate::fail_point::FailPoints::none();
        let (mut log, writes) = (Vec::new(), crate::engine::repair::Writes::Yes);
        crate::engine::repair::repair(&world.driver(), &stream, &report, writes, &mut log, &points).unwrap();
        world.assert_equal("item", "id, phone, amount");
        assert_eq!(differences(&world, key, "SELECT 1"), 0);
    }
}
