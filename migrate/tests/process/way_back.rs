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
fn copied(engine: Engine, manifest: &str) -> World {
    let world = World::bare(engine, MONOLITH, SERVICE);
    world.write_manifest(manifest);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.catch_up();
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
