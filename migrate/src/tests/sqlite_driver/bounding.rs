//! A log that nobody catches up with.

use super::*;

const BOUND: u64 = 10;

fn write(ends: &Ends, ids: std::ops::Range<u32>) {
    for id in ids {
        ends.write(&format!("INSERT INTO item VALUES ({id}, 'c{id}', 0)"));
    }
}

fn logged(conn: &Connection) -> u64 {
    conn.query_row("SELECT count(*) FROM banyan_log", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_full_log_ends_capture_and_the_copy_is_refused_until_it_begins_anew() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    let mut source = ends.driver.source().unwrap();
    source.bound_log(&ends.stream, BOUND).unwrap();
    // A reader that has looked at the schema looks at the bound all the same.
    source.begin(&ends.stream, None).unwrap();
    source.end().unwrap();
    write(&ends, 0..2_000);
    let rows = logged(&ends.source);
    assert!((BOUND..2_000).contains(&rows), "a log of {rows} rows");
    for said in [refusal(source.begin(&ends.stream, None)), refusal(ends.follow())] {
        assert!(said.contains("run.max_log_rows") && said.contains("capture install"), "{said}");
    }
    let faults = source.capture_state(&ends.stream).unwrap().faults;
    assert!(faults.len() == 1 && faults[0].contains("run.max_log_rows"), "{faults:?}");
    source.install_capture(&ends.stream).unwrap();
    assert!(source.capture_state(&ends.stream).unwrap().faults.is_empty());
    assert!(refusal(ends.follow()).contains("another log"));
    write(&ends, 2_000..2_100);
    assert_eq!(logged(&ends.source), 101);
}

#[test]
fn what_a_copy_writes_does_not_take_the_end_of_another_s_capture_back() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    let mapping = Mapping {
        select: "SELECT t.id, t.code, t.amount FROM source.thing AS t WHERE {keys t.id}".to_owned(),
        root: "thing".to_owned(),
        ..item_to_thing()
    };
    let onward =
        Stream { name: Stream::opposite(&ends.stream.name), mappings: vec![mapping], ..ends.stream.clone() };
    let at = |name: &str| ends.folder.path().join(name);
    let driver = SqliteDriver::new(&at("target.db"), &at("source.db"), SqliteOptions::default());
    let mut there = driver.source().unwrap();
    there.install_capture(&onward).unwrap();
    there.bound_log(&onward, BOUND).unwrap();
    for id in 0..2_000 {
        ends.target.execute_batch(&format!("INSERT INTO thing (id) VALUES ({})", 1000 + id)).unwrap();
    }
    assert_eq!(there.capture_state(&onward).unwrap().faults.len(), 1);
    write(&ends, 0..1);
    ends.follow().unwrap();
    assert_eq!(there.capture_state(&onward).unwrap().faults.len(), 1);
}
