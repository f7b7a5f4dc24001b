//! Facts about manifests and plans.
//!
//! Invariant: every problem is one line that names the thing.

use std::path::Path;

use rusqlite::params;

use crate::error::MigrateError;
use crate::manifest::Manifest;
use crate::plan;
use crate::tests::world::{MANIFEST, MONOLITH, SERVICE, World};

fn problems(world: &World) -> Vec<String> {
    plan::run(&world.extraction).unwrap().problems
}

fn refused(text: &str) -> String {
    Manifest::parse(Path::new("extraction.toml"), text).unwrap_err().to_string()
}

#[test]
fn the_manifest_of_users_fits_its_schemas() {
    let world = World::new();
    world.seed(10);
    let plan = plan::run(&world.extraction).unwrap();
    assert_eq!(plan.problems, Vec::<String>::new());
    assert_eq!(plan.keys, 10);
    let contacts = plan.tables.iter().find(|table| table.table == "contact").unwrap();
    assert_eq!((contacts.rows, contacts.mapped), (0, Some(15)));
    assert!(plan.columns.iter().any(|column| column.column == "family_name" && !column.not_null));
}

#[test]
fn faults_of_a_manifest_are_told_with_their_line() {
    let line = |text: &str, part: &str| {
        let offset = text.find(part).unwrap();
        format!(
            "extraction.toml:{}:",
            text[..offset].lines().count() + usize::from(text[..offset].ends_with('\n'))
        )
    };
    let cases = [
        (MANIFEST.replace("key = \"id\"", "kye = \"id\""), "kye", "unknown field `kye`"),
        (
            MANIFEST.replace("table = \"contact\"", "table = \"contacts\""),
            "\"contacts\"",
            "not among the tables",
        ),
        (
            MANIFEST.replace("key = [\"person_id\", \"kind\"]", "key = [\"person_id\", \"kinds\"]"),
            "\"kinds\"",
            "kinds is not among its columns",
        ),
    ];
    for (text, part, message) in cases {
        let error = refused(&text);
        assert!(error.starts_with(&line(&text, part)) && error.contains(message), "{error}");
    }
    let unrestricted = MANIFEST.replace("WHERE {keys p.person_id}", "");
    assert!(refused(&unrestricted).contains("must be restricted with {keys COLUMN}"));
    let loosened = MANIFEST.replace("WHERE {keys p.person_id}", "WHERE NOT {keys p.person_id}");
    let error = refused(&loosened);
    assert!(error.contains("NOT lets the select take rows that do not meet {keys …}: join it"), "{error}");
    assert!(refused("context = \"users\"").contains("there is no [[mapping]]"));
    assert!(refused("context = ").starts_with("extraction.toml:1:"));
}

#[test]
fn the_hash_counts_the_mapping_and_not_the_comments() {
    let hash = |text: &str| Manifest::parse(Path::new("x"), text).unwrap().hash();
    assert_eq!(hash(MANIFEST), hash(&format!("# another comment\n{MANIFEST}")));
    assert_ne!(hash(MANIFEST), hash(&MANIFEST.replace("'email', u.email", "'email', lower(u.email)")));
}

#[test]
fn a_column_that_a_mapping_names_and_the_table_lacks_is_told_in_one_line() {
    let world = World::with(MANIFEST, MONOLITH, &SERVICE.replace("family_name   TEXT", "last_name TEXT"));
    let found = problems(&world);
    let expected = "[[mapping]] person names column family_name, which the target table person does not have";
    assert!(found.iter().any(|problem| problem == expected), "{found:#?}");
    let error = world.try_backfill(crate::backfill::BackfillOptions::default()).unwrap_err();
    assert!(matches!(error, MigrateError::Refused { .. }), "{error}");

    let world =
        World::with(&MANIFEST.replace("u.name, ' ') > 0 THEN", "u.nmae, ' ') > 0 THEN"), MONOLITH, SERVICE);
    let found = problems(&world);
    let expected =
        "[[mapping]] person: its select names column u.nmae, which none of the tables users_users has";
    assert!(found.iter().any(|problem| problem == expected), "{found:#?}");
}

#[test]
fn values_of_a_wrong_storage_type_are_found() {
    let loose = MONOLITH.replace("STRICT", "").replace("email      TEXT NOT NULL", "email BLOB NOT NULL");
    let world = World::with(MANIFEST, &loose, SERVICE);
    world.seed(3);
    world.source.execute("UPDATE users_users SET phone = ?1 WHERE id = 1", params![vec![1_u8, 2]]).unwrap();
    world.source.execute("UPDATE users_users SET version = 'soon' WHERE id = 2", []).unwrap();
    let found = problems(&world).join("\n");
    assert!(
        found.contains(
            "1 rows of the source table users_users hold something other than text in column phone"
        ),
        "{found}"
    );
    assert!(
        found.contains(
            "1 rows of the source table users_users hold something other than integer in column version"
        ),
        "{found}"
    );
    assert!(found.contains("[[mapping]] person makes 1 rows whose row_version is no INTEGER"), "{found}");
    assert!(found.contains("[[mapping]] contact makes 1 rows whose value is no TEXT"), "{found}");
}

#[test]
fn duplicates_and_missing_values_are_found_before_the_copy() {
    let loose = MONOLITH.replace("email      TEXT NOT NULL UNIQUE", "email TEXT");
    let world = World::with(MANIFEST, &loose, SERVICE);
    world.seed(4);
    world.source.execute_batch("UPDATE users_users SET email = 'ann1@example.com' WHERE id = 3").unwrap();
    world.source.execute_batch("UPDATE users_users SET email = NULL WHERE id = 4").unwrap();
    let found = problems(&world).join("\n");
    assert!(found.contains("[[mapping]] contact makes 1 rows without a value for value"), "{found}");
    assert!(
        found.contains("the unique index contact_email allows once, for example \"ann1@example.com\""),
        "{found}"
    );
}

#[test]
fn a_missing_contract_an_open_fence_and_triggers_are_found() {
    let world = World::new();
    world
        .target
        .execute_batch(
            "DROP TABLE banyan_tombstones; CREATE TRIGGER spy AFTER DELETE ON person BEGIN SELECT 1; END",
        )
        .unwrap();
    let found = problems(&world).join("\n");
    assert!(found.contains("the target database has no table banyan_tombstones"), "{found}");
    assert!(found.contains("the trigger spy on the target table person"), "{found}");
    let world = World::new();
    world.target.execute_batch("UPDATE banyan_contexts SET fence = 'open'").unwrap();
    assert!(problems(&world).join("\n").contains("the service accepts writes of users"));
}

#[test]
fn a_database_that_is_not_in_wal_mode_is_refused() {
    let world = World::new();
    world.source.execute_batch("PRAGMA journal_mode = delete").unwrap();
    let error = plan::run(&world.extraction).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("would lock its application out"), "{error}");
}

#[test]
fn a_missing_database_is_unreachable() {
    let mut world = World::new();
    world.extraction.files.target = world.folder.path().join("nowhere.db");
    let error = plan::run(&world.extraction).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("nowhere.db"), "{error}");
    assert!(!world.extraction.files.target.exists());
}
