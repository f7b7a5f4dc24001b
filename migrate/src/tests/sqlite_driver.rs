//! What the SQLite driver promises beside the invariant: refusals with their reasons, types, silence, loading, sums.
//!
//! Invariant: every test has files of its own, and an application that knows nothing of capture.

mod adopting;
mod bounding;
mod displacing;
mod moving;
mod schema;
mod unusual;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::drivers::sqlite::{Durability, SqliteDriver, SqliteOptions};
use crate::engine::backfill::{Copier, CopierOptions, Step};
use crate::engine::catch_up::Follower;
use crate::engine::compare::{CompareSource, CompareTarget, Part};
use crate::engine::prune::prune;
use crate::engine::{
    Bound, Driver as _, Guard, Kept, KeyRange, Mapping, Outcome, Phase, Source as _, Stream, StreamRow,
    Target as _, Touched,
};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::manifest::Manifest;
use crate::tests::world::{MANIFEST, MONOLITH, SERVICE};

/// Two files and a stream between them.
struct Ends {
    folder: TempDir,
    source: Connection,
    target: Connection,
    driver: SqliteDriver,
    stream: Stream,
}

const ITEM: &str = "CREATE TABLE item (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount)";
const THING: &str =
    "CREATE TABLE thing (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount, remark TEXT DEFAULT 'own')";

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn item_to_thing() -> Mapping {
    Mapping {
        table: "thing".to_owned(),
        key: names(&["id"]),
        columns: names(&["id", "code", "amount"]),
        carries: names(&["id"]),
        select: "SELECT i.id, i.code, i.amount FROM source.item AS i WHERE {keys i.id}".to_owned(),
        root: "item".to_owned(),
        root_key: names(&["id"]),
        joins: Vec::new(),
    }
}

impl Ends {
    fn of(source_sql: &str, target_sql: &str, mappings: Vec<Mapping>) -> Self {
        let folder = TempDir::new().unwrap();
        let create = |name: &str, sql: &str| {
            let path = folder.path().join(name);
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch("PRAGMA journal_mode = wal").unwrap();
            conn.execute_batch(sql).unwrap();
            (path, conn)
        };
        let ((from, source), (to, target)) =
            (create("source.db", source_sql), create("target.db", target_sql));
        let options = SqliteOptions { durability: Durability::Forgotten, ..SqliteOptions::default() };
        let driver = SqliteDriver::new(&from, &to, options);
        let stream = Stream { name: "items".to_owned(), mappings, forward: Vec::new() };
        Self { folder, source, target, driver, stream }
    }

    fn items() -> Self {
        Self::of(ITEM, THING, vec![item_to_thing()])
    }

    fn write(&self, sql: &str) {
        self.source.execute_batch(sql).unwrap();
    }

    fn start(&self, phase: Phase) -> Result<(), MigrateError> {
        let (mut source, mut target) = (self.driver.source()?, self.driver.target()?);
        source.install_capture(&self.stream)?;
        target.prepare(&self.stream)?;
        let pos = source.begin(&self.stream, None)?;
        let (fingerprint, mapping_hash) = (source.fingerprint(&self.stream)?, self.stream.hash());
        let row = StreamRow { next: pos.clone(), pos, token: 0, phase, mapping_hash, fingerprint };
        target.create_stream(&self.stream.name, &row)
    }

    fn copy(&self) -> Result<(), MigrateError> {
        let points = FailPoints::none();
        let options = CopierOptions { chunk: 2, lease_seconds: 60 };
        let mut copier = Copier::open(&self.driver, &self.stream, options, &points)?;
        while copier.step()? != Step::Done {}
        Ok(())
    }

    fn follow(&self) -> Result<u64, MigrateError> {
        let points = FailPoints::none();
        Ok(Follower::claim(&self.driver, &self.stream, 2, &points)?.batch()?.rows)
    }

    fn target_text(&self, sql: &str) -> String {
        self.target.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn things(&self) -> String {
        self.target_text("SELECT coalesce(group_concat(id || code || amount || remark, ' '), '') FROM (SELECT * FROM thing ORDER BY id)")
    }
}

fn refusal<T>(outcome: Result<T, MigrateError>) -> String {
    let error = outcome.err().expect("it was not refused");
    assert_eq!(error.exit_code(), 3, "{error}");
    error.to_string()
}

#[test]
fn a_position_whose_row_is_gone_is_refused() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    ends.write("DELETE FROM banyan_log; INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)");
    let said = refusal(ends.follow());
    assert!(said.contains("log"), "{said}");
}

#[test]
fn pruning_keeps_the_row_of_the_position() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    for id in 0..5 {
        ends.write(&format!("INSERT INTO item VALUES ({id}, 'c{id}', 0)"));
        ends.follow().unwrap();
        let (mut source, mut target) = (ends.driver.source().unwrap(), ends.driver.target().unwrap());
        prune::<SqliteDriver>(&mut source, &mut target, &ends.stream).unwrap();
    }
    assert_eq!(ends.target_text("SELECT count(*) || '' FROM thing"), "5");
}

#[test]
fn an_idle_source_is_not_written_to() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    ends.write("INSERT INTO item VALUES (1, 'a', 1)");
    let rows = || ends.driver.source().unwrap().log_size(&ends.stream).unwrap().0;
    ends.follow().unwrap();
    let before = rows();
    ends.follow().unwrap();
    ends.follow().unwrap();
    assert_eq!(rows(), before);
}

#[test]
fn null_in_a_key_is_refused() {
    let item = "CREATE TABLE item (id TEXT PRIMARY KEY, code TEXT UNIQUE, amount)";
    let ends = Ends::of(item, THING, vec![item_to_thing()]);
    ends.write("INSERT INTO item VALUES (NULL, 'a', 1)");
    ends.start(Phase::Following).unwrap();
    assert!(refusal(ends.copy()).contains("NULL"));
    ends.write("UPDATE item SET amount = 2");
    assert!(refusal(ends.follow()).contains("NULL"));
    ends.write("INSERT INTO item (code) VALUES ('b'), ('c'), ('d'); DELETE FROM item; INSERT INTO item VALUES (7, 'e', 5)");
    assert_eq!(ends.follow().unwrap(), 1);
    assert_eq!(ends.things(), "7e5own");
}

#[test]
fn a_text_in_an_integer_column_is_reported_with_key_and_column() {
    let strict = "CREATE TABLE thing (id INTEGER PRIMARY KEY, code TEXT UNIQUE, amount INTEGER) STRICT";
    let ends = Ends::of(ITEM, strict, vec![item_to_thing()]);
    ends.start(Phase::Following).unwrap();
    ends.write("INSERT INTO item VALUES (7, 'a', 'many'), (8, 'b', 8)");
    let said = refusal(ends.follow());
    assert!(said.contains("thing.amount") && said.contains("(7, \"a\", \"many\")"), "{said}");
    ends.write("UPDATE item SET amount = 9 WHERE id = 7");
    assert_eq!(ends.follow().unwrap(), 2);
}

#[test]
fn unique_values_swap_and_what_is_not_mapped_stays() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)");
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    ends.target.execute_batch("UPDATE thing SET remark = 'R' || id").unwrap();
    ends.write("UPDATE item SET code = NULL; UPDATE item SET code = substr('bca', id, 1)");
    ends.follow().unwrap();
    assert_eq!(ends.things(), "1b1R1 2c2R2 3a3R3");
}

#[test]
fn equal_rows_are_not_rewritten_and_almost_equal_ones_are() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)");
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    ends.write("UPDATE item SET amount = amount");
    assert_eq!(ends.follow().unwrap(), 0);
    ends.write("UPDATE item SET amount = 1.0 WHERE id = 1");
    assert_eq!(ends.follow().unwrap(), 1);
    assert_eq!(ends.target_text("SELECT typeof(amount) FROM thing WHERE id = 1"), "real");
}

#[test]
fn a_row_of_nobody_in_the_way_is_shown_with_ours() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    ends.target.execute_batch("INSERT INTO thing VALUES (9, 'a', 9, 'theirs')").unwrap();
    ends.write("INSERT INTO item VALUES (1, 'a', 1)");
    let said = refusal(ends.follow());
    assert!(said.contains("(1, \"a\", 1)") && said.contains("\"theirs\""), "{said}");
}

#[test]
fn a_chunk_that_a_row_of_nobody_blocks_says_so_once_catch_up_has_nothing_left() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 1)");
    ends.start(Phase::Following).unwrap();
    ends.target.execute_batch("INSERT INTO thing VALUES (9, 'a', 9, 'theirs')").unwrap();
    ends.follow().unwrap();
    let said = refusal(ends.copy());
    assert!(said.contains("(1, \"a\", 1)") && said.contains("\"theirs\""), "{said}");
}

#[test]
fn somebody_elses_trigger_on_the_target_is_refused() {
    let trigger = "CREATE TRIGGER mine AFTER INSERT ON thing BEGIN DELETE FROM thing; END";
    let ends = Ends::of(ITEM, &format!("{THING}; {trigger}"), vec![item_to_thing()]);
    assert!(refusal(ends.driver.target().unwrap().prepare(&ends.stream)).contains("mine"));
}

#[test]
fn somebody_elses_trigger_on_the_target_is_noticed_while_rows_are_written() {
    let trigger = "CREATE TRIGGER mine AFTER INSERT ON thing BEGIN DELETE FROM thing; END";
    let (ends, points) = (Ends::items(), FailPoints::none());
    ends.start(Phase::Loading).unwrap();
    ends.write("INSERT INTO item VALUES (1, 'a', 1)");
    ends.target.execute_batch(trigger).unwrap();
    assert!(refusal(ends.copy()).contains("mine"));
    let mut follower = Follower::claim(&ends.driver, &ends.stream, 2, &points).unwrap();
    assert!(refusal(follower.batch()).contains("mine"));
    ends.target.execute_batch("DROP TRIGGER mine").unwrap();
    assert_eq!(follower.batch().unwrap().rows, 1);
    ends.target.execute_batch(trigger).unwrap();
    ends.write("INSERT INTO item VALUES (2, 'b', 2)");
    assert!(refusal(follower.batch()).contains("mine"));
    assert_eq!(ends.things(), "1a1own");
}

#[test]
fn capture_on_the_target_hears_its_application_and_other_copies_and_not_the_way_there() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    let select = "SELECT t.id, t.code, t.amount FROM target.thing AS t WHERE {keys t.id}".to_owned();
    let mapping = Mapping { table: "item".to_owned(), root: "thing".to_owned(), select, ..item_to_thing() };
    let stream = |name: String| Stream { name, mappings: vec![mapping.clone()], forward: Vec::new() };
    let mut target = ends.driver.clone().back().source().unwrap();
    let back = Stream::opposite(&ends.stream.name);
    target.install_capture(&stream(back.clone())).unwrap();
    target.install_capture(&stream("onward".to_owned())).unwrap();
    let logged = |stream: &str| {
        ends.target_text(&format!(
            "SELECT count(*) || '' FROM banyan_log JOIN banyan_capture USING (tab) WHERE stream = '{stream}' AND source = 'thing'"
        ))
    };
    ends.write("INSERT INTO item VALUES (1, 'a', 1)");
    ends.follow().unwrap();
    assert_eq!((logged(&back), logged("onward")), ("0".to_owned(), "1".to_owned()));
    ends.target.execute_batch("UPDATE thing SET amount = 2").unwrap();
    assert_eq!((logged(&back), logged("onward")), ("1".to_owned(), "2".to_owned()));
}

#[test]
fn loading_drops_indexes_and_builds_them_again_whatever_moved_in_between() {
    let thing = "CREATE TABLE thing (id INTEGER PRIMARY KEY, code TEXT, amount); CREATE UNIQUE INDEX thing_code ON thing (code)";
    let ends = Ends::of(ITEM, thing, vec![item_to_thing()]);
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)");
    ends.start(Phase::Loading).unwrap();
    let mut target = ends.driver.target().unwrap();
    target.begin_loading(&ends.stream).unwrap();
    let points = FailPoints::none();
    let options = CopierOptions { chunk: 1, lease_seconds: 60 };
    let mut copier = Copier::open(&ends.driver, &ends.stream, options, &points).unwrap();
    copier.step().unwrap();
    ends.write("DELETE FROM item WHERE id = 1; UPDATE item SET code = 'a' WHERE id = 3");
    while copier.step().unwrap() != Step::Done {}
    target.finish_loading(&ends.stream).unwrap();
    target.finish_loading(&ends.stream).unwrap();
    let index = "SELECT sql FROM sqlite_schema WHERE name = 'thing_code'";
    assert_eq!(ends.target_text(index), "CREATE UNIQUE INDEX thing_code ON thing (code)");
    ends.follow().unwrap();
    assert_eq!(
        ends.target_text("SELECT group_concat(id || code, ' ') FROM (SELECT * FROM thing ORDER BY id)"),
        "2b 3a"
    );
}

#[test]
fn sums_notice_values_exchanged_between_rows() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 5), (2, 'b', 6), (3, 'c', 7)");
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    let sums = || {
        let (mut source, mut target) = (ends.driver.source().unwrap(), ends.driver.target().unwrap());
        source.begin(&ends.stream, None).unwrap();
        let (mapping, part) = (&ends.stream.mappings[0], Part::Bucket { index: 0, of: 1 });
        (
            CompareSource::sum(&mut source, mapping, &part).unwrap(),
            CompareTarget::sum(&mut target, mapping, &part).unwrap(),
        )
    };
    let (source, target) = sums();
    assert_eq!((source.rows, &source), (3, &target));
    ends.target.execute_batch("UPDATE thing SET amount = 11 - amount WHERE id < 3").unwrap();
    let (source, target) = sums();
    assert_ne!(source, target);
}

#[test]
fn a_chunk_that_is_split_leaves_no_gap_whichever_it_is() {
    let ends = Ends::items();
    (1..=30).for_each(|id| ends.write(&format!("INSERT INTO item VALUES ({id}, 'c{id}', 0)")));
    ends.start(Phase::Following).unwrap();
    let (mut target, mut bound) = (ends.driver.target().unwrap(), 0);
    let mut end = |_: &Mapping, _: Option<&Bound>| {
        bound += 10;
        Ok((bound < 30).then(|| at(bound)))
    };
    let mut lease = || target.lease_chunk(&ends.stream, 60, &mut end).unwrap().unwrap();
    let (first, second) = (lease(), lease());
    let mut other = ends.driver.target().unwrap();
    assert!(other.split_chunk(&second, &at(15)).unwrap());
    assert!(other.split_chunk(&first, &at(5)).unwrap());
    let ranges = [lease(), lease(), lease()].map(|lease| lease.range);
    let range = |after, up_to: Option<i64>| KeyRange { after: Some(at(after)), up_to: up_to.map(at) };
    assert_eq!(ranges, [range(5, Some(10)), range(15, Some(20)), range(20, None)]);
    other.release_chunk(&first).unwrap();
    assert_eq!(lease().range, KeyRange { after: None, up_to: Some(at(5)) });
    assert!(!other.split_chunk(&first, &at(3)).unwrap(), "the lease is another's");
}

fn at(key: i64) -> Bound {
    Bound(format!("[{{\"integer\":{key}}}]"))
}

#[test]
fn a_batch_leaves_out_what_catch_up_has_touched() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2)");
    ends.start(Phase::Following).unwrap();
    let (mut source, mut target) = (ends.driver.source().unwrap(), ends.driver.target().unwrap());
    source.begin(&ends.stream, None).unwrap();
    let mapping = &ends.stream.mappings[0];
    let batch = source.range(mapping, &KeyRange::default(), u64::MAX).unwrap().unwrap();
    let up_to = source.range_end(mapping, &KeyRange::default(), 1).unwrap();
    let first = source.range(mapping, &KeyRange { after: None, up_to }, u64::MAX).unwrap().unwrap();
    let mut touched = |_: &crate::engine::Position| Ok(Touched::Keys(first.keys.clone()));
    let guard = Guard::GivingWay { stream: "items", chunk: None, touched: &mut touched };
    assert!(matches!(target.apply(guard, mapping, &batch).unwrap(), Outcome::Written(1)));
    assert_eq!(ends.things(), "2b2own");
}

#[test]
fn a_chunk_takes_rows_in_its_way_along_if_they_are_of_the_source() {
    let ends = Ends::items();
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4), (9, 'y', 9)");
    ends.start(Phase::Following).unwrap();
    ends.target.execute_batch("INSERT INTO thing VALUES (9, 'x', 9, 'older')").unwrap();
    let (points, options) = (FailPoints::none(), CopierOptions { chunk: 2, lease_seconds: 60 });
    let mut copier = Copier::open(&ends.driver, &ends.stream, options, &points).unwrap();
    assert_eq!(copier.step().unwrap(), Step::Copied(2));
    ends.write("UPDATE item SET code = 'x' WHERE id = 1; UPDATE item SET code = 'a' WHERE id = 3");
    ends.write("DELETE FROM item WHERE id = 2; UPDATE item SET code = 'b' WHERE id = 4");
    assert!(matches!(copier.step().unwrap(), Step::Copied(_)));
    assert_eq!(ends.things(), "1x1own 3a3own 4b4own 9y9older");
    let rows = "SELECT group_concat(rows) FROM banyan_chunks WHERE done";
    assert_eq!(ends.target_text(rows), "2,2", "others' rows are not counted");
}

#[test]
fn pos_moves_only_from_where_it_was_read() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    let (mut source, mut target) = (ends.driver.source().unwrap(), ends.driver.target().unwrap());
    let first = target.stream("items").unwrap().unwrap().pos;
    ends.write("INSERT INTO item VALUES (1, 'a', 1)");
    let second = source.begin(&ends.stream, None).unwrap();
    let claim = target.claim("items").unwrap();
    assert_ne!(first, second);
    assert!(!target.set_pos(&claim, &second, &second).unwrap());
    assert_eq!(target.stream("items").unwrap().unwrap().pos, first);
    assert!(target.set_pos(&claim, &first, &second).unwrap());
}

#[test]
fn no_token_of_a_forgotten_stream_is_one_of_the_stream_made_anew() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    let (mut source, mut target) = (ends.driver.source().unwrap(), ends.driver.target().unwrap());
    let row = target.stream("items").unwrap().unwrap();
    let fresh = StreamRow { token: 0, ..row.clone() };
    let mut claims = Vec::new();
    for round in 0..3 {
        claims.extend([target.claim("items").unwrap(), target.rest("items").unwrap()]);
        target.forget_stream(&ends.stream, Kept::Nothing).unwrap();
        target.forget_stream(&ends.stream, Kept::Nothing).unwrap();
        match round {
            0 => target.start_at(&ends.stream, &fresh).unwrap(),
            _ => target.create_stream("items", &fresh).unwrap(),
        }
        let now = target.stream("items").unwrap().unwrap().token;
        assert!(claims.iter().all(|old| old.token < now), "{claims:?} {now}");
        assert_eq!(target.wake("items", now).unwrap(), round == 0);
    }
    let position = source.begin(&ends.stream, None).unwrap();
    let mapping = &ends.stream.mappings[0];
    let batch = source.range(mapping, &KeyRange::default(), u64::MAX).unwrap().unwrap();
    for old in &claims {
        assert!(!target.set_next(old, &position).unwrap(), "{old:?}");
        assert!(!target.set_pos(old, &row.pos, &position).unwrap(), "{old:?}");
        let applied = target.apply(Guard::Claim(old), mapping, &batch).unwrap();
        assert!(matches!(applied, Outcome::Superseded), "{old:?}");
    }
    let new = target.claim("items").unwrap();
    assert!(target.set_next(&new, &position).unwrap());
}

#[test]
fn ids_go_on_behind_those_the_source_gave_out() {
    let item = ITEM.replace("PRIMARY KEY", "PRIMARY KEY AUTOINCREMENT");
    let thing = THING.replace("PRIMARY KEY", "PRIMARY KEY AUTOINCREMENT");
    let ends = Ends::of(&item, &thing, vec![Mapping { table: "THING".to_owned(), ..item_to_thing() }]);
    ends.write("INSERT INTO item VALUES (1, 'a', 1), (40, 'b', 2); DELETE FROM item WHERE id = 40");
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    ends.driver.target().unwrap().move_sequences(&ends.stream).unwrap();
    ends.target.execute_batch("INSERT INTO thing (code) VALUES ('z')").unwrap();
    assert_eq!(ends.target.last_insert_rowid(), 41);
}

#[test]
fn one_row_becomes_many_through_a_union_and_a_json_array() {
    let manifest = Manifest::parse(std::path::Path::new("extraction.toml"), MANIFEST).unwrap();
    let mappings = manifest.mapping.iter().map(|map| Mapping {
        table: map.table.clone(),
        key: map.key.clone(),
        columns: map.columns.clone(),
        carries: map.key[..1].to_vec(),
        select: map.select.clone(),
        root: "users_users".to_owned(),
        root_key: names(&["id"]),
        joins: Vec::new(),
    });
    let ends = Ends::of(MONOLITH, SERVICE, mappings.collect());
    ends.write(
        "INSERT INTO users_users (id, name, email, phone, addresses, created_at, updated_at, version) VALUES
         (1, 'Ada Byron', 'a@example.com', '1', '[{\"label\":\"home\",\"street\":\"s\",\"city\":\"c\",\"postcode\":\"p\",\"country\":\"GB\"}]',
          '2010-12-01T08:26:00.123Z', '2010-12-01T08:26:00.123Z', 1),
         (2, 'Bob', 'b@example.com', NULL, '[]', '2010-12-01T08:26:00.123Z', '2010-12-01T08:26:00.123Z', 2)",
    );
    ends.start(Phase::Following).unwrap();
    ends.copy().unwrap();
    let counts = "SELECT (SELECT count(*) FROM person) || (SELECT count(*) FROM contact) || (SELECT count(*) FROM address)";
    assert_eq!(ends.target_text(counts), "231");
    ends.write("UPDATE users_users SET phone = NULL, addresses = '[]' WHERE id = 1");
    ends.follow().unwrap();
    assert_eq!(ends.target_text(counts), "220");
}

#[test]
fn a_file_that_another_one_replaces_is_not_followed_on() {
    let ends = Ends::items();
    ends.start(Phase::Following).unwrap();
    let points = FailPoints::none();
    for (name, conn) in [("source.db", &ends.source), ("target.db", &ends.target)] {
        let mut follower = Follower::claim(&ends.driver, &ends.stream, 2, &points).unwrap();
        follower.batch().unwrap();
        let file = ends.folder.path().join(name);
        let copy = file.with_extension("copy");
        conn.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
        std::fs::copy(&file, &copy).unwrap();
        std::fs::rename(&copy, &file).unwrap();
        for end in ["db-wal", "db-shm"] {
            std::fs::remove_file(file.with_extension(end)).unwrap();
        }
        let error = follower.batch().unwrap_err();
        assert!(error.exit_code() == 4 && error.to_string().contains("replaced by another file"), "{error}");
    }
}
