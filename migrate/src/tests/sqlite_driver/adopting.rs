//! Copies over the rows of an older copy, some of which the source lost meanwhile.
//!
//! Invariant: each begins as `run --adopt` and `backfill --again` do.

use super::*;
use crate::engine::Stop;
use crate::engine::run::{Adopt, begin, forget};
use crate::engine::verify::{Report, VerifyOptions, verify};

/// Copies over what the target holds, which is said to be ours.
fn adopt(ends: &Ends) -> Result<(), MigrateError> {
    ends.driver.source()?.install_capture(&ends.stream)?;
    begin(&ends.driver, &ends.stream, Adopt::Rows, &FailPoints::none())?;
    ends.copy()
}

fn thing(ends: &Ends, rows: &str) {
    ends.target.execute_batch(&format!("INSERT INTO thing (id, code, amount) VALUES {rows}")).unwrap();
}

#[test]
fn rows_that_the_source_lost_are_removed_where_their_unique_values_are_needed() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (2, 'a', 2), (3, 'c', 3), (4, 'e', 4), (6, 'f', 6)");
    thing(&ends, "(1, 'a', 1), (2, 'b', 2), (5, 'e', 5), (7, 'f', 7), (8, 'y', 8), (9, 'z', 9)");
    adopt(&ends).unwrap();
    assert_eq!(ends.things(), "2a2own 3c3own 4e4own 6f6own 8y8own 9z9own");
    ends.write("UPDATE item SET code = 'z' WHERE id = 3");
    ends.follow().unwrap();
    assert_eq!(ends.things(), "2a2own 3z3own 4e4own 6f6own 8y8own", "verification tells what is left over");
}

#[test]
fn values_that_all_moved_by_one_since_the_older_copy_are_taken_along() {
    let ends = Ends::items();
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)";
    ends.write(&format!("INSERT INTO item {numbers} SELECT i, 'p' || (i + 1), i FROM n"));
    let old = format!("INSERT INTO thing (id, code, amount) {numbers} SELECT i, 'p' || i, i FROM n");
    ends.target.execute_batch(&old).unwrap();
    adopt(&ends).unwrap();
    let moved = ends.target_text("SELECT count(*) || '' FROM thing WHERE code = 'p' || (id + 1)");
    assert_eq!(moved, "300");
}

#[test]
fn what_a_forgotten_copy_adopted_is_not_adopted_by_the_next() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (2, 'a', 2)");
    thing(&ends, "(1, 'a', 1)");
    adopt(&ends).unwrap();
    ends.driver.target().unwrap().forget_stream(&ends.stream, Kept::Nothing).unwrap();
    ends.target.execute_batch("DELETE FROM thing").unwrap();
    begin(&ends.driver, &ends.stream, Adopt::Rows, &FailPoints::none()).unwrap();
    ends.copy().unwrap();
    ends.driver.target().unwrap().finish_loading(&ends.stream).unwrap();
    thing(&ends, "(9, 'stranger', 9)");
    ends.write("UPDATE item SET code = 'stranger'");
    assert!(refusal(ends.follow()).contains("remove the row if it is not ours"));
    assert_eq!(ends.things(), "2a2own 9stranger9own");
}

#[test]
fn a_copy_that_is_to_begin_anew_does_so_also_if_the_process_that_forgot_it_dies() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 1)");
    adopt(&ends).unwrap();
    forget(&ends.driver, &ends.stream).unwrap();
    assert_eq!(ends.driver.target().unwrap().stream(&ends.stream.name).unwrap(), None);
    let row = begin(&ends.driver, &ends.stream, Adopt::Nothing, &FailPoints::none()).unwrap();
    assert_eq!(row.phase, Phase::Following);
    ends.driver.target().unwrap().forget_stream(&ends.stream, Kept::Nothing).unwrap();
    thing(&ends, "(9, 'stranger', 9)");
    let begun = begin(&ends.driver, &ends.stream, Adopt::Nothing, &FailPoints::none());
    assert!(refusal(begun.map(drop)).contains("hold rows that this copy did not put there"));
}

#[test]
fn what_a_key_map_says_of_rows_is_known_when_they_are_copied_again() {
    let mut badge = item_to_thing();
    (badge.table, badge.key, badge.carries) = ("badge".to_owned(), names(&["code"]), Vec::new());
    (badge.columns, badge.select) = (
        names(&["code", "amount"]),
        "SELECT i.id, i.code, i.amount FROM source.item AS i WHERE {keys i.id}".to_owned(),
    );
    let ends = Ends::of(ITEM, "CREATE TABLE badge (code TEXT PRIMARY KEY, amount UNIQUE)", vec![badge]);
    ends.write("INSERT INTO item VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z')");
    adopt(&ends).unwrap();
    ends.driver.target().unwrap().finish_loading(&ends.stream).unwrap();
    ends.driver.source().unwrap().remove_capture(&ends.stream).unwrap();
    ends.write("DELETE FROM item WHERE id = 1; UPDATE item SET amount = 'x' WHERE id = 2; UPDATE item SET code = 'd' WHERE id = 3");
    forget(&ends.driver, &ends.stream).unwrap();
    adopt(&ends).unwrap();
    let badges = "SELECT group_concat(code || amount, ' ') FROM (SELECT * FROM badge ORDER BY code)";
    assert_eq!(ends.target_text(badges), "bx dz");
}

#[test]
fn the_way_back_removes_what_the_service_gave_away_and_nothing_that_never_went_there() {
    let mut forward = item_to_thing();
    forward.select.push_str(" AND i.amount <> 'local'");
    let back = Mapping {
        table: "item".to_owned(),
        select: "SELECT t.id, t.code, t.amount FROM target.thing AS t WHERE {keys t.id}".to_owned(),
        root: "thing".to_owned(),
        ..item_to_thing()
    };
    let mut ends = Ends::of(ITEM, THING, vec![back]);
    (ends.driver, ends.stream.name, ends.stream.forward) =
        (ends.driver.reversed(), "items.back".to_owned(), vec![forward]);
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 'local')");
    thing(&ends, "(2, 'a', 2), (4, 'd', 4)");
    adopt(&ends).unwrap();
    let items = || -> String {
        let sql = "SELECT group_concat(id || code || amount, ' ') FROM (SELECT * FROM item ORDER BY id)";
        ends.source.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(items(), "2a2 3clocal 4d4");
    ends.target.execute_batch("UPDATE thing SET code = 'c' WHERE id = 4").unwrap();
    assert!(refusal(ends.follow()).contains("against (id, code, amount) = (3, \"c\", \"local\")"));
    assert_eq!(items(), "2a2 3clocal 4d4");
}

#[test]
fn a_follower_whose_stream_was_forgotten_says_so() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    let points = FailPoints::none();
    let mut follower = Follower::claim(&ends.driver, &ends.stream, 2, &points).unwrap();
    ends.driver.target().unwrap().forget_stream(&ends.stream, Kept::Nothing).unwrap();
    assert!(refusal(follower.batch()).contains("or begins it anew"));
}

#[test]
fn a_copy_that_begins_anew_while_keys_are_awaited_makes_no_differences() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)");
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    ends.write("UPDATE item SET amount = 7");
    let mut begin_anew = Some(|| {
        ends.driver.target().unwrap().forget_stream(&ends.stream, Kept::Rows).unwrap();
        ends.start(Phase::Following).unwrap();
    });
    let options = VerifyOptions { patience: std::time::Duration::from_secs(60), ..VerifyOptions::default() };
    let mut watch = |_: &Report| begin_anew.take().into_iter().for_each(|begin| begin());
    let said = refusal(verify(&ends.driver, &ends.stream, &options, &Stop::default(), &mut watch));
    assert!(said.contains("the backfill of items is not done"), "{said}");
}
