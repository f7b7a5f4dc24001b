//! The runner on small schemas.

use super::*;
use crate::DatabaseSettings;

const FIRST: Migration = Migration {
    version: 1,
    name: "birds",
    up: "CREATE TABLE birds (id INTEGER PRIMARY KEY, name TEXT) STRICT",
    down: "DROP TABLE birds",
};
const SECOND: Migration = Migration {
    version: 2,
    name: "birds_by_name",
    up: "CREATE INDEX birds_name ON birds (name)",
    down: "DROP INDEX birds_name",
};
const BROKEN: Migration = Migration {
    version: 2,
    name: "broken",
    up: "CREATE TABLE eggs (id INTEGER PRIMARY KEY); CREATE TABLE birds (id INTEGER)",
    down: "DROP TABLE eggs",
};
const BIRDS: SchemaSource =
    SchemaSource { context: "birds", migrations: &[FIRST, SECOND], tables: &["birds"] };

struct Fixture {
    _folder: tempfile::TempDir,
    db: Db,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        DatabaseSettings { path: folder.path().join("birds.db"), readers: 1, ..DatabaseSettings::default() };
    Fixture { db: Db::open(&settings).unwrap(), _folder: folder }
}

impl Fixture {
    fn run(&self, sql: &str) {
        self.db.write_blocking(|conn| Ok::<_, DbError>(conn.batch_execute(sql)?)).unwrap();
    }

    fn tables(&self) -> Vec<String> {
        let names = self.db.read_blocking(|conn| Ok::<_, DbError>(inspect::table_names(conn)?));
        names.unwrap().into_iter().collect()
    }
}

#[test]
fn applying_twice_applies_each_step_once() {
    let fixture = fixture();
    let applied = apply(&fixture.db, &[BIRDS]).unwrap();
    assert_eq!(applied.iter().map(|step| step.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(apply(&fixture.db, &[BIRDS]).unwrap(), []);
    assert!(status(&fixture.db, &[BIRDS]).unwrap().iter().all(|step| step.applied_at.is_some()));
}

#[test]
fn status_of_an_empty_file_lists_every_step_as_not_applied_and_changes_nothing() {
    let fixture = fixture();
    let steps = status(&fixture.db, &[BIRDS]).unwrap();
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|step| step.applied_at.is_none()));
    assert_eq!(fixture.tables(), Vec::<String>::new());
}

#[test]
fn reverting_goes_back_step_by_step_and_forth_again() {
    let fixture = fixture();
    apply(&fixture.db, &[BIRDS]).unwrap();
    assert_eq!(revert(&fixture.db, &[BIRDS], 1, Rows::Keep).unwrap().first().unwrap().version, 2);
    assert_eq!(fixture.tables(), ["banyan_schema", "birds"]);
    assert_eq!(revert(&fixture.db, &[BIRDS], 9, Rows::Keep).unwrap().len(), 1);
    assert_eq!(fixture.tables(), ["banyan_schema"]);
    assert_eq!(apply(&fixture.db, &[BIRDS]).unwrap().len(), 2);
}

#[test]
fn a_revert_that_would_drop_rows_is_refused_unless_they_are_given_up() {
    let fixture = fixture();
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("INSERT INTO birds VALUES (1, 'wren')");
    let refused = revert(&fixture.db, &[BIRDS], 2, Rows::Keep).unwrap_err().to_string();
    assert!(refused.contains("birds/0001_birds") && refused.contains("--discard-rows"), "{refused}");
    assert_eq!(fixture.tables(), ["banyan_schema", "birds"]);
    assert_eq!(revert(&fixture.db, &[BIRDS], 1, Rows::Discard).unwrap().len(), 1);
}

#[test]
fn a_step_that_fails_leaves_nothing_of_itself() {
    let fixture = fixture();
    let source = SchemaSource { migrations: &[FIRST], ..BIRDS };
    apply(&fixture.db, &[source]).unwrap();
    let broken = SchemaSource { migrations: &[FIRST, BROKEN], ..BIRDS };
    let error = apply(&fixture.db, &[broken]).unwrap_err();
    assert!(matches!(&error, SchemaError::Step { step, .. } if step == "birds/0002_broken"), "{error}");
    assert_eq!(fixture.tables(), ["banyan_schema", "birds"]);
}

#[test]
fn a_recorded_step_without_its_table_is_refused() {
    let fixture = fixture();
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("DROP TABLE birds");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(error.contains("birds is missing, though birds/0001_birds is recorded"), "{error}");
    assert!(error.contains("restore the file from a backup"), "{error}");
}

#[test]
fn a_recorded_step_without_its_index_is_refused() {
    let fixture = fixture();
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("DROP INDEX birds_name");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(error.contains("index birds_name is missing, though birds/0002_birds_by_name"), "{error}");
}

#[test]
fn a_table_without_its_record_is_refused_and_left_alone() {
    let fixture = fixture();
    fixture.run("CREATE TABLE birds (other INTEGER)");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(error.contains("table birds is there, though birds/0001_birds is not recorded"), "{error}");
    assert_eq!(fixture.tables(), ["birds"]);
}

#[test]
fn a_step_edited_after_it_was_applied_is_refused() {
    let fixture = fixture();
    apply(&fixture.db, &[BIRDS]).unwrap();
    let edited = Migration { up: "CREATE TABLE birds (id INTEGER PRIMARY KEY) STRICT", ..FIRST };
    let source = SchemaSource { migrations: Box::leak(Box::new([edited, SECOND])), ..BIRDS };
    let error = apply(&fixture.db, &[source]).unwrap_err();
    assert!(matches!(&error, SchemaError::Changed { step, .. } if step == "birds/0001_birds"), "{error}");
}

#[test]
fn a_step_of_a_newer_program_is_refused() {
    let fixture = fixture();
    apply(&fixture.db, &[BIRDS]).unwrap();
    let older = SchemaSource { migrations: &[FIRST], ..BIRDS };
    let error = status(&fixture.db, &[older]).unwrap_err();
    assert!(
        matches!(&error, SchemaError::Unknown { step, .. } if step == "birds/0002_birds_by_name"),
        "{error}"
    );
}

#[test]
fn a_missing_record_before_a_recorded_step_is_refused() {
    let fixture = fixture();
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("DELETE FROM banyan_schema WHERE version = 1");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(
        error.contains("birds/0002_birds_by_name is recorded, birds/0001_birds before it is not"),
        "{error}"
    );
}

#[test]
fn the_tables_of_the_replication_schema_are_listed() {
    let source = crate::replication::SCHEMA;
    assert_eq!(tables_of(&source).unwrap(), source.tables);
}
