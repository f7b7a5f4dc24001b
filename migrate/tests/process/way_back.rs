//! The way back where inverses lose something: only what somebody touched is written.
//!
//! Invariant: rows are compared as the databases print them, every column, those outside of the mapping included.

use super::world::{End, Engine, World};

const MONOLITH: &str = "CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE, created TEXT, home TEXT, work TEXT,
        kind TEXT NOT NULL DEFAULT 'public', remark TEXT);
    INSERT INTO owner WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60)
        SELECT n, 'Name ' || n, 'E' || n || '@X', '2010-12-01 08:26:00.123456', CASE WHEN n % 2 = 0 THEN 'H' || n END, 'W' || n,
            CASE WHEN n % 10 = 0 THEN 'private' ELSE 'public' END, 'remark ' || n FROM n;";
const SERVICE: &str =
    "CREATE TABLE person (pid INTEGER PRIMARY KEY, given TEXT, email TEXT, created TEXT, note TEXT);
    CREATE TABLE phone (pid INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT, PRIMARY KEY (pid, kind));";
/// Letters' case and fractions of seconds are lost on the way there, and only public owners go.
const MANIFEST: &str = r#"
context = "items"
[[mapping]]
table = "person"
key = ["pid"]
columns = ["pid", "given", "email", "created"]
from = "owner"
from_key = ["id"]
select = "SELECT o.id, o.name, lower(o.email), substr(o.created, 1, 19) FROM source.owner AS o WHERE o.kind = 'public' AND {keys o.id}"
[[mapping]]
table = "phone"
key = ["pid", "kind"]
columns = ["pid", "kind", "value"]
from = "owner"
from_key = ["id"]
select = '''
SELECT o.id, 'home', lower(o.home) FROM source.owner AS o WHERE o.kind = 'public' AND o.home IS NOT NULL AND {keys o.id}
UNION ALL
SELECT o.id, 'work', lower(o.work) FROM source.owner AS o WHERE o.kind = 'public' AND o.work IS NOT NULL AND {keys o.id}'''
[[inverse]]
table = "owner"
key = ["id"]
columns = ["id", "name", "email", "created", "home", "work"]
from = "person"
from_key = ["pid"]
select = '''
SELECT p.pid, p.given, p.email, p.created, (SELECT f.value FROM phone AS f WHERE f.pid = p.pid AND f.kind = 'home'),
  (SELECT f.value FROM phone AS f WHERE f.pid = p.pid AND f.kind = 'work')
FROM person AS p WHERE {keys p.pid}'''
[[inverse.join]]
table = "phone"
columns = ["pid"]
keys = "SELECT pid FROM person WHERE {values pid}"
"#;
const OWNERS: &str = "SELECT * FROM owner ORDER BY id";
const BACK: [&str; 4] = ["run", "items", "--back", "--until-caught-up"];

/// Copied there, with capture of the way back.
/// Copied there, and caught up.
fn copied_there(engine: Engine, [source, target]: [&str; 2], manifest: &str) -> World {
    let world = World::bare(engine, source, target);
    world.write_manifest(manifest);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.catch_up();
    world
}

fn copied(engine: Engine, manifest: &str) -> World {
    let world = copied_there(engine, [MONOLITH, SERVICE], manifest);
    assert_eq!(world.query(End::Target, "SELECT count(*) FROM person"), ["54"]);
    world.migrate(&["capture", "install", "items", "--back"]).expect_code(0);
    world
}

fn owners(world: &World) -> Vec<String> {
    world.query(End::Source, OWNERS)
}

#[test]
fn a_way_back_that_loses_something_writes_only_what_was_touched() {
    for engine in Engine::BOTH {
        let world = copied(engine, MANIFEST);
        let before = owners(&world);
        world.migrate(&["plan", "items", "--back"]).expect_code(0).expect_words(&["are left alone"]);
        world.migrate(&[&BACK[..], &["--adopt"]].concat()).expect_code(0);
        assert_eq!(owners(&world), before, "{engine:?}: a backfill over rows that nobody touched");
        world.migrate(&["verify", "items", "--back"]).expect_code(0);

        world.run_sql(
            End::Target,
            "UPDATE person SET note = 'its own' WHERE pid = 3;
            UPDATE person SET email = 'new@x' WHERE pid = 5;
            DELETE FROM person WHERE pid = 7; DELETE FROM phone WHERE pid = 7;
            UPDATE phone SET value = 'w9 new' WHERE pid = 9 AND kind = 'work';
            UPDATE person SET given = given, email = email WHERE pid > 10;
            INSERT INTO person VALUES (100, 'New', 'hundred@x', '2020-01-01 00:00:00', NULL)",
        );
        world.migrate(&BACK).expect_code(0);
        let after = owners(&world);
        let only = |these: &[String], those: &[String]| {
            these.iter().filter(|row| !those.contains(row)).cloned().collect::<Vec<_>>()
        };
        let id = |row: &String| row.split('|').next().unwrap().to_owned();
        assert_eq!(only(&before, &after).iter().map(id).collect::<Vec<_>>(), ["5", "7", "9"], "{engine:?}");
        assert_eq!(
            only(&after, &before),
            [
                "5|Name 5|new@x|2010-12-01 08:26:00|NULL|w5|public|remark 5",
                "9|Name 9|e9@x|2010-12-01 08:26:00|NULL|w9 new|public|remark 9",
                "100|New|hundred@x|2020-01-01 00:00:00|NULL|NULL|public|NULL",
            ],
            "{engine:?}"
        );
        world.migrate(&["verify", "items", "--back"]).expect_code(0);
        world.migrate(&["verify", "items"]).expect_code(0);
        if engine == Engine::Postgres {
            world.run_sql(End::Target, "TRUNCATE person, phone");
            world.migrate(&BACK).expect_code(0);
            let kinds = world.query(End::Source, "SELECT kind, count(*) FROM owner GROUP BY kind");
            assert_eq!(kinds, ["private|6"], "owners that never went there are not the service's to remove");
        }
    }
}

#[test]
fn verification_of_a_way_back_that_loses_something_finds_what_is_wrong_and_repair_mends_only_that() {
    for engine in Engine::BOTH {
        let world = copied(engine, MANIFEST);
        world.migrate(&[&BACK[..], &["--adopt"]].concat()).expect_code(0);
        let mut expected = owners(&world);
        world.run_sql(
            End::Source,
            "UPDATE owner SET email = 'wrong' WHERE id = 11; DELETE FROM owner WHERE id = 12",
        );
        world.migrate(&["verify", "items", "--back"]).expect_code(1).expect_words(&["1 differ", "1 missing"]);
        world.migrate(&["repair", "items", "--back"]).expect_code(0);
        expected[10] = "11|Name 11|e11@x|2010-12-01 08:26:00|NULL|w11|public|remark 11".to_owned();
        expected[11] = "12|Name 12|e12@x|2010-12-01 08:26:00|h12|w12|public|NULL".to_owned();
        assert_eq!(owners(&world), expected, "{engine:?}");
        world.migrate(&["verify", "items", "--back"]).expect_code(0);
    }
}

#[test]
fn an_inverse_that_the_mapping_does_not_undo_is_a_problem_with_an_example() {
    for engine in Engine::BOTH {
        let world = copied(
            engine,
            &MANIFEST.replace("p.given, p.email", "coalesce(nullif(p.given, 'Name 8'), 'x'), p.email"),
        );
        let before = (owners(&world), world.query(End::Target, "SELECT * FROM person ORDER BY pid"));
        world.migrate(&["plan", "items", "--back"]).expect_code(1).expect_words(&[
            "mapping person",
            "of 1 keys it would make other rows than person holds",
            if engine == Engine::Sqlite { r#"key [{"integer":8}]"# } else { r#"key ["8"]"# },
            "1 problems",
        ]);
        let now = (owners(&world), world.query(End::Target, "SELECT * FROM person ORDER BY pid"));
        assert_eq!(now, before, "a plan has written");
    }
}

#[test]
fn an_inverse_that_reads_what_no_mapping_fills_is_told_and_loses_no_change() {
    for engine in Engine::BOTH {
        let manifest = MANIFEST.replace("\"home\", \"work\"]", "\"home\", \"work\", \"remark\"]");
        let manifest = manifest.replace("f.kind = 'work')", "f.kind = 'work'), p.note");
        let world = copied(engine, &manifest);
        let words = ["every row of owner is written as the inverse makes it", "it reads person.note"];
        world.migrate(&["plan", "items", "--back"]).expect_code(0).expect_words(&words);
        world.migrate(&[&BACK[..], &["--adopt"]].concat()).expect_code(0).expect_words(&words);
        world.run_sql(End::Target, "UPDATE person SET note = 'from there' WHERE pid = 3");
        world.migrate(&BACK).expect_code(0);
        assert_eq!(
            world.query(End::Source, "SELECT remark FROM owner WHERE id = 3"),
            ["from there"],
            "{engine:?}"
        );
    }
}

/// Two tables of which the way there joins one with the other.
const JOINED: [&str; 2] = [
    "CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT, kind TEXT NOT NULL DEFAULT 'public');
    CREATE TABLE call (owner_id INTEGER PRIMARY KEY REFERENCES owner (id) ON DELETE CASCADE, num TEXT);
    INSERT INTO owner WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 30)
        SELECT n, 'Name ' || n, CASE WHEN n % 10 = 0 THEN 'private' ELSE 'public' END FROM n;
    INSERT INTO call SELECT id, 'n' || id FROM owner;",
    "CREATE TABLE person (pid INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE contact (pid INTEGER PRIMARY KEY, num TEXT);",
];
const JOINED_MANIFEST: &str = r#"
context = "items"
[[mapping]]
table = "person"
key = ["pid"]
columns = ["pid", "name"]
from = "owner"
from_key = ["id"]
select = "SELECT o.id, o.name FROM source.owner AS o WHERE o.kind = 'public' AND {keys o.id}"
[[mapping]]
table = "contact"
key = ["pid"]
columns = ["pid", "num"]
from = "owner"
from_key = ["id"]
select = '''
SELECT c.owner_id, c.num FROM source.owner AS o JOIN source.call AS c ON c.owner_id = o.id
WHERE o.kind = 'public' AND {keys o.id}'''
[[mapping.join]]
table = "call"
columns = ["owner_id"]
[[inverse]]
table = "owner"
key = ["id"]
columns = ["id", "name"]
from = "person"
from_key = ["pid"]
select = "SELECT p.pid, p.name FROM person AS p WHERE {keys p.pid}"
[[inverse]]
table = "call"
key = ["owner_id"]
columns = ["owner_id", "num"]
from = "contact"
from_key = ["pid"]
select = "SELECT c.pid, c.num FROM contact AS c WHERE {keys c.pid}"
"#;
const EVERYBODY: &str = "DELETE FROM contact; DELETE FROM person";

fn joined(engine: Engine) -> World {
    let world = copied_there(engine, JOINED, JOINED_MANIFEST);
    assert_eq!(world.query(End::Target, "SELECT count(*) FROM contact"), ["27"]);
    world
}

fn expect_private_rows_alone(world: &World, case: &str) {
    let left = ["SELECT id FROM owner ORDER BY id", "SELECT owner_id FROM call ORDER BY owner_id"]
        .map(|sql| world.query(End::Source, sql).join(" "));
    assert_eq!(left, ["10 20 30", "10 20 30"], "{:?}: {case}", world.engine);
    world.migrate(&["verify", "items", "--back"]).expect_code(0);
}

#[test]
fn rows_that_the_service_deleted_go_whatever_went_before_them() {
    for engine in Engine::BOTH {
        let followed = || {
            let world = joined(engine);
            world.migrate(&["capture", "install", "items", "--back"]).expect_code(0);
            world.migrate(&[&BACK[..], &["--adopt"]].concat()).expect_code(0);
            world
        };
        let world = followed();
        world.run_sql(End::Target, EVERYBODY);
        for point in ["catch_up_piece:2", "catch_up_piece:9"] {
            world.start_with(&BACK, point).finish().expect_abort(point);
        }
        world.migrate(&BACK).expect_code(0);
        expect_private_rows_alone(&world, "deleted at once, with deaths between the pieces");

        let world = followed();
        world.run_sql(End::Target, "DELETE FROM person");
        world.migrate(&BACK).expect_code(0);
        world.run_sql(End::Target, "DELETE FROM contact");
        world.migrate(&BACK).expect_code(0);
        expect_private_rows_alone(&world, "deleted one after the other");

        if engine == Engine::Postgres {
            let world = followed();
            world.run_sql(End::Target, "TRUNCATE person, contact");
            world.migrate(&BACK).expect_code(0);
            expect_private_rows_alone(&world, "both emptied");
        }
    }
}

#[test]
fn rows_deleted_before_capture_of_the_way_back_are_found_and_repaired() {
    for engine in Engine::BOTH {
        let world = joined(engine);
        world.run_sql(End::Target, EVERYBODY);
        world.migrate(&["capture", "install", "items", "--back"]).expect_code(0);
        world.migrate(&[&BACK[..], &["--adopt"]].concat()).expect_code(0);
        world.migrate(&["verify", "items", "--back"]).expect_code(1).expect_words(&["54 extra"]);
        world.migrate(&["repair", "items", "--back"]).expect_code(0);
        expect_private_rows_alone(&world, "deleted before capture, and repaired");
    }
}

#[test]
fn a_row_that_never_went_there_stays_though_a_joined_table_named_its_key() {
    for engine in Engine::BOTH {
        let looked_up = "keys = \"SELECT pid FROM person WHERE {values pid}\"\n";
        assert!(MANIFEST.contains(looked_up));
        let world = copied(engine, &MANIFEST.replace(looked_up, ""));
        world.migrate(&[&BACK[..], &["--adopt"]].concat()).expect_code(0);
        let before = owners(&world);
        let unowned = "INSERT INTO phone VALUES (10, 'home', 'x'); DELETE FROM phone WHERE pid = 10";
        world.run_sql(End::Target, unowned);
        world.migrate(&BACK).expect_code(0);
        assert_eq!(owners(&world), before, "{engine:?}");
    }
}

const STAFF: [&str; 2] = [
    "CREATE TABLE employee (id INTEGER PRIMARY KEY, name TEXT, boss INTEGER, boss_name TEXT);
    INSERT INTO employee VALUES (1, 'Ann', NULL, NULL), (2, 'Bob', 1, 'Ann'), (3, 'Cid', 2, 'Bob');",
    "CREATE TABLE worker (id INTEGER PRIMARY KEY, name TEXT, boss INTEGER);",
];
const STAFF_MANIFEST: &str = r#"
context = "items"
[[mapping]]
table = "worker"
key = ["id"]
columns = ["id", "name", "boss"]
from = "employee"
from_key = ["id"]
select = "SELECT e.id, e.name, e.boss FROM source.employee AS e WHERE {keys e.id}"
[[inverse]]
table = "employee"
key = ["id"]
columns = ["id", "name", "boss", "boss_name"]
from = "worker"
from_key = ["id"]
select = "SELECT w.id, w.name, w.boss, b.name FROM worker AS w LEFT JOIN worker AS b ON b.id = w.boss WHERE {keys w.id}"
[[inverse.join]]
table = "worker"
columns = ["id"]
keys = "SELECT id FROM worker WHERE {values boss}"
"#;

#[test]
fn an_inverse_that_reads_rows_of_other_keys_loses_no_change_of_theirs() {
    for engine in Engine::BOTH {
        let world = copied_there(engine, STAFF, STAFF_MANIFEST);
        world.migrate(&["capture", "install", "items", "--back"]).expect_code(0);
        let words =
            ["every row of employee is written as the inverse makes it", "rows of worker with others"];
        world.migrate(&["plan", "items", "--back"]).expect_code(0).expect_words(&words);
        world.migrate(&[&BACK[..], &["--adopt"]].concat()).expect_code(0);
        world.run_sql(End::Target, "UPDATE worker SET name = 'Eve' WHERE id = 1");
        world.migrate(&BACK).expect_code(0);
        let employees = world.query(End::Source, "SELECT name, boss_name FROM employee ORDER BY id");
        assert_eq!(employees, ["Eve|NULL", "Bob|Eve", "Cid|Bob"], "{engine:?}");
        world.migrate(&["verify", "items", "--back"]).expect_code(0);
    }
}
