//! The runner on small schemas.

use super::*;
use crate::testing::{Scratch, check_schema, scratch};
use crate::{Backend, DbError, on_both};

on_both!(fixture => [
    applying_twice_applies_each_step_once,
    status_of_an_empty_file_lists_every_step_as_not_applied_and_changes_nothing,
    reverting_goes_back_step_by_step_and_forth_again,
    a_revert_that_would_drop_rows_is_refused_unless_they_are_given_up,
    a_step_that_fails_leaves_nothing_of_itself,
    a_recorded_step_without_its_table_is_refused,
    a_recorded_step_without_its_index_is_refused,
    a_table_without_its_record_is_refused_and_left_alone,
    a_step_edited_after_it_was_applied_is_refused,
    a_step_of_a_newer_program_is_refused,
    a_missing_record_before_a_recorded_step_is_refused,
    processes_that_start_at_once_apply_each_step_once,
    objects_are_in_the_schema_of_their_context,
    the_schema_of_replication_is_whole,
]);

/// The same text for both.
const fn step(version: i32, name: &'static str, up: &'static str, down: &'static str) -> Migration {
    let script = Script { up, down };
    Migration { version, name, sqlite: script, postgres: script }
}

const FIRST: Migration =
    step(1, "birds", "CREATE TABLE birds (id BIGINT NOT NULL PRIMARY KEY, name TEXT)", "DROP TABLE birds");
const SECOND: Migration =
    step(2, "birds_by_name", "CREATE INDEX birds_name ON birds (name)", "DROP INDEX birds_name");
const BROKEN: Migration = step(
    2,
    "broken",
    "CREATE TABLE eggs (id BIGINT NOT NULL PRIMARY KEY); CREATE TABLE birds (id BIGINT)",
    "DROP TABLE eggs",
);
const BIRDS: SchemaSource =
    SchemaSource { context: "birds", migrations: &[FIRST, SECOND], tables: &["birds"] };

struct Fixture {
    db: Scratch,
}

fn fixture(backend: Backend) -> Fixture {
    Fixture { db: scratch(backend, &[]) }
}

impl Fixture {
    /// In PostgreSQL with the context's schema before all others, as the runner has it.
    fn run(&self, sql: &str) {
        let done = self.db.write_blocking(|conn| {
            objects::enter(conn, BIRDS.schema())?;
            Ok::<_, DbError>(conn.batch_execute(&sql.replace("banyan_schema", self.records()))?)
        });
        done.unwrap();
    }

    fn records(&self) -> &'static str {
        match self.db.backend() {
            Backend::Sqlite => "banyan_schema",
            Backend::Postgres => "banyan.banyan_schema",
        }
    }

    fn tables(&self) -> Vec<String> {
        facts(&self.db).unwrap().tables.into_iter().map(|table| table.name).collect()
    }
}

async fn applying_twice_applies_each_step_once(fixture: Fixture) {
    let applied = apply(&fixture.db, &[BIRDS]).unwrap();
    assert_eq!(applied.iter().map(|step| step.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(apply(&fixture.db, &[BIRDS]).unwrap(), []);
    assert!(status(&fixture.db, &[BIRDS]).unwrap().iter().all(|step| step.applied_at.is_some()));
}

async fn status_of_an_empty_file_lists_every_step_as_not_applied_and_changes_nothing(fixture: Fixture) {
    let steps = status(&fixture.db, &[BIRDS]).unwrap();
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|step| step.applied_at.is_none()));
    assert_eq!(fixture.tables(), Vec::<String>::new());
}

async fn reverting_goes_back_step_by_step_and_forth_again(fixture: Fixture) {
    apply(&fixture.db, &[BIRDS]).unwrap();
    assert_eq!(revert(&fixture.db, &[BIRDS], 1, Rows::Keep).unwrap().first().unwrap().version, 2);
    assert_eq!(fixture.tables(), ["banyan_schema", "birds"]);
    assert_eq!(revert(&fixture.db, &[BIRDS], 9, Rows::Keep).unwrap().len(), 1);
    assert_eq!(fixture.tables(), ["banyan_schema"]);
    assert_eq!(apply(&fixture.db, &[BIRDS]).unwrap().len(), 2);
}

async fn a_revert_that_would_drop_rows_is_refused_unless_they_are_given_up(fixture: Fixture) {
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("INSERT INTO birds VALUES (1, 'wren')");
    let refused = revert(&fixture.db, &[BIRDS], 2, Rows::Keep).unwrap_err().to_string();
    assert!(refused.contains("birds/0001_birds") && refused.contains("--discard-rows"), "{refused}");
    assert_eq!(fixture.tables(), ["banyan_schema", "birds"]);
    assert_eq!(revert(&fixture.db, &[BIRDS], 1, Rows::Discard).unwrap().len(), 1);
}

async fn a_step_that_fails_leaves_nothing_of_itself(fixture: Fixture) {
    let source = SchemaSource { migrations: &[FIRST], ..BIRDS };
    apply(&fixture.db, &[source]).unwrap();
    let broken = SchemaSource { migrations: &[FIRST, BROKEN], ..BIRDS };
    let error = apply(&fixture.db, &[broken]).unwrap_err();
    assert!(matches!(&error, SchemaError::Step { step, .. } if step == "birds/0002_broken"), "{error}");
    assert_eq!(fixture.tables(), ["banyan_schema", "birds"]);
}

async fn a_recorded_step_without_its_table_is_refused(fixture: Fixture) {
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("DROP TABLE birds");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(error.contains("birds is missing, though birds/0001_birds is recorded"), "{error}");
    assert!(error.contains("restore the database from a backup"), "{error}");
}

async fn a_recorded_step_without_its_index_is_refused(fixture: Fixture) {
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("DROP INDEX birds_name");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(error.contains("index birds_name is missing, though birds/0002_birds_by_name"), "{error}");
}

async fn a_table_without_its_record_is_refused_and_left_alone(fixture: Fixture) {
    fixture.run("CREATE TABLE birds (other INTEGER)");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(error.contains("table birds is there, though birds/0001_birds is not recorded"), "{error}");
    assert_eq!(fixture.tables(), ["birds"]);
}

async fn a_step_edited_after_it_was_applied_is_refused(fixture: Fixture) {
    apply(&fixture.db, &[BIRDS]).unwrap();
    let edited = step(1, "birds", "CREATE TABLE birds (id BIGINT NOT NULL PRIMARY KEY)", "");
    let source = SchemaSource { migrations: Box::leak(Box::new([edited, SECOND])), ..BIRDS };
    let error = apply(&fixture.db, &[source]).unwrap_err();
    assert!(matches!(&error, SchemaError::Changed { step, .. } if step == "birds/0001_birds"), "{error}");
}

async fn a_step_of_a_newer_program_is_refused(fixture: Fixture) {
    apply(&fixture.db, &[BIRDS]).unwrap();
    let older = SchemaSource { migrations: &[FIRST], ..BIRDS };
    let error = status(&fixture.db, &[older]).unwrap_err();
    assert!(
        matches!(&error, SchemaError::Unknown { step, .. } if step == "birds/0002_birds_by_name"),
        "{error}"
    );
}

async fn a_missing_record_before_a_recorded_step_is_refused(fixture: Fixture) {
    apply(&fixture.db, &[BIRDS]).unwrap();
    fixture.run("DELETE FROM banyan_schema WHERE version = 1");
    let error = apply(&fixture.db, &[BIRDS]).unwrap_err().to_string();
    assert!(
        error.contains("birds/0002_birds_by_name is recorded, birds/0001_birds before it is not"),
        "{error}"
    );
}

async fn the_schema_of_replication_is_whole(fixture: Fixture) {
    check_schema(fixture.db.backend(), crate::replication::SCHEMA);
}

async fn processes_that_start_at_once_apply_each_step_once(fixture: Fixture) {
    let settings = fixture.db.settings();
    let applied: Vec<usize> = std::thread::scope(|scope| {
        let processes: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| apply(&Db::open(settings).unwrap(), &[BIRDS]).unwrap().len()))
            .collect();
        processes.into_iter().map(|process| process.join().unwrap()).collect()
    });
    assert_eq!(applied.iter().sum::<usize>(), 2, "{applied:?}");
}

async fn objects_are_in_the_schema_of_their_context(fixture: Fixture) {
    const NESTS: SchemaSource = SchemaSource {
        context: "nests",
        migrations: &[step(
            1,
            "nests",
            "CREATE TABLE nests (id BIGINT PRIMARY KEY); CREATE TABLE nests_eggs (nest BIGINT REFERENCES nests (id))",
            "DROP TABLE nests_eggs; DROP TABLE nests",
        )],
        tables: &["nests", "nests_eggs"],
    };
    apply(&fixture.db, &[BIRDS, NESTS, crate::replication::SCHEMA]).unwrap();
    let found = facts(&fixture.db).unwrap();
    let schema = |name: &'static str| match fixture.db.backend() {
        Backend::Sqlite => "main",
        Backend::Postgres => name,
    };
    let table = |schema: &str, name: &str| Table { schema: schema.to_owned(), name: name.to_owned() };
    assert!(found.tables.contains(&table(schema("birds"), "birds")), "{found:?}");
    assert!(found.tables.contains(&table(schema("banyan"), "banyan_contexts")), "{found:?}");
    let key = ForeignKey { from: table(schema("nests"), "nests_eggs"), to: table(schema("nests"), "nests") };
    assert_eq!(found.foreign_keys, [key]);
    // Found without their schema by connections that were made before it.
    fixture
        .db
        .write(|conn| Ok::<_, DbError>(conn.batch_execute("INSERT INTO nests VALUES (1)")?))
        .await
        .unwrap();
}
