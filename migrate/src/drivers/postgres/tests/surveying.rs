//! What `plan` finds, all in one survey, and that it changes nothing.
//!
//! Invariant: a finding is looked for by the words that name its place, its number and its example.

use postgres::{Client, NoTls};

use super::world::{World, plain};
use crate::drivers::postgres::PostgresDriver;
use crate::engine::Source as _;
use crate::engine::survey::{Depth, Fate, Finding, Level, Role, Survey, SurveyDriver as _};

const SOURCE: &str = "
    CREATE TYPE mood AS ENUM ('calm', 'loud', 'odd');
    CREATE TABLE owner (id int PRIMARY KEY);
    CREATE TABLE item (id bigint PRIMARY KEY, owner_id int REFERENCES owner, name text, code text, amount numeric,
        mood mood, at timestamptz, checked int, size int, flags varbit, token text, secret text);
    INSERT INTO item (id, name, code, amount, mood, at, checked, size, flags, token) VALUES
        (1, 'fine', 'a', 1.25, 'calm', '2020-01-01', 5, 5, '101', 'x'),
        (2, NULL, 'A', 1.234, 'odd', '2020-01-01 00:00:00.5', -1, 500, '10101', 'y'),
        (3000000000, 'much too long', 'c', 99999, 'loud', '2020-01-01', 7, 7, '1', 'z');
    CREATE TABLE label (code text COLLATE \"C\" PRIMARY KEY, text text, more text);
    CREATE VIEW item_names AS SELECT name FROM item;
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER stamp BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION nothing();
    CREATE TABLE loose (id int, name text);
    INSERT INTO loose VALUES (NULL, 'n'), (4, 'twice'), (4, 'again');
    CREATE TABLE piece (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
    CREATE TABLE piece_low PARTITION OF piece FOR VALUES FROM (0) TO (100);
    CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, name text);
    CREATE PUBLICATION everything FOR ALL TABLES;";
const TARGET: &str = "
    CREATE TYPE mood AS ENUM ('calm', 'loud');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TABLE keeper (id int PRIMARY KEY);
    CREATE TABLE item (id int PRIMARY KEY, owner_id int REFERENCES keeper DEFERRABLE INITIALLY DEFERRED,
        name varchar(5) NOT NULL, code text, amount numeric(6,2), mood mood, at timestamptz(0), checked positive,
        size int CONSTRAINT small CHECK (size < 100), flags varbit(3), token uuid, extra text NOT NULL,
        loud text GENERATED ALWAYS AS (upper(name)) STORED, own int CHECK (own > 0));
    CREATE UNIQUE INDEX item_code ON item (lower(code));
    CREATE TABLE line (id int PRIMARY KEY, item_id int REFERENCES item ON DELETE CASCADE);
    CREATE MATERIALIZED VIEW item_list AS SELECT id FROM item;
    CREATE RULE quiet AS ON DELETE TO item DO ALSO SELECT 1;
    ALTER TABLE item ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER silent BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION nothing();
    CREATE TRIGGER noisy BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION nothing();
    ALTER TABLE item ENABLE ALWAYS TRIGGER noisy;
    CREATE TABLE label (code text COLLATE \"POSIX\" PRIMARY KEY, text text);
    CREATE TABLE loose (id int PRIMARY KEY, name text);
    CREATE TABLE piece (id int, name text);
    CREATE TABLE fleeting (id int PRIMARY KEY, name text);
    ALTER TABLE fleeting REPLICA IDENTITY NOTHING;
    CREATE PUBLICATION few FOR TABLE fleeting;";
const ITEM: [&str; 12] =
    ["id", "owner_id", "name", "code", "amount", "mood", "at", "checked", "size", "flags", "token", "loud"];

fn troubled() -> World {
    let mut item = plain("item", &ITEM);
    item.select = "SELECT id, owner_id, name, code, amount, mood, at, checked, size, flags, token, upper(name) FROM item \
        WHERE {keys id}"
        .to_owned();
    let mut label = plain("label", &["code", "text"]);
    label.key = vec!["code".to_owned()];
    (label.root_key, label.carries) = (label.key.clone(), label.key.clone());
    label.select = "SELECT code, text || '' FROM label WHERE {keys code}".to_owned();
    let others = ["loose", "piece", "fleeting", "ghost"].map(|table| plain(table, &["id", "name"]));
    World::new(SOURCE, TARGET, [item, label].into_iter().chain(others).collect())
}

fn survey(world: &World) -> Survey {
    world.driver.survey(&world.stream, Depth::Sample).unwrap()
}

#[track_caller]
fn found(survey: &Survey, level: Level, words: &[&str]) {
    let is_it = |finding: &Finding| {
        let text = format!("{} {} {}", finding.place, finding.what, finding.remedy);
        finding.level == level && words.iter().all(|word| text.contains(word))
    };
    let found = survey.findings.iter().any(is_it);
    assert!(found, "{level:?} {words:?} is not among {:#?}", survey.findings);
}

/// Everything that stands in the catalogue, and the rows.
fn all(database: &pg_harness::Database) -> String {
    database
        .run(
            "SELECT string_agg(concat_ws(' ', relname, relkind, relfilenode, relhastriggers), ',' ORDER BY oid) FROM pg_class
               WHERE relnamespace = 'public'::regnamespace;
             SELECT string_agg(i::text, ',' ORDER BY id) FROM item i;
             SELECT (SELECT count(*) FROM pg_namespace), (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_trigger),
               (SELECT count(*) FROM pg_class)",
        )
        .unwrap()
}

#[test]
fn one_survey_tells_every_problem() {
    let world = troubled();
    let survey = survey(&world);
    let problem = |words: &[&str]| {
        found(&survey, Level::Problem, words);
    };
    problem(&["mapping item", "1 rows have no name", "key 2"]);
    problem(&["1 rows have a name too long for character varying(5)", "key 3000000000"]);
    problem(&["1 rows have a id that integer does not hold"]);
    problem(&["2 rows have a amount that numeric(6,2) does not hold"]);
    problem(&["1 rows have a at that timestamp(0) with time zone does not hold", "key 2"]);
    problem(&["1 rows have a flags too long for bit varying(3)"]);
    problem(&["item.mood", "lacks the labels odd"]);
    problem(&["1 rows have a mood that is no label", "key 2"]);
    problem(&["1 rows violate the check positive_check", "key 2"]);
    problem(&["1 rows violate the check small", "key 2"]);
    problem(&["the unique index item_code allows once", "for example (a)"]);
    problem(&["target public.item", "extra must have a value"]);
    problem(&["public.item.loud is generated"]);
    problem(&["noisy", "fire for replicated rows"]);
    problem(&["mapping loose", "loose.id is part of the source key and may be NULL"]);
    problem(&["1 rows have NULL in the source key"]);
    problem(&["1 source keys are there more than once", "for example (4)"]);
    problem(&["mapping piece", "public.piece.id is part of the key and may be NULL"]);
    problem(&["public.piece has no unique index over exactly its key"]);
    problem(&["mapping ghost", "has no table ghost"]);
    problem(&["target public.fleeting", "no replica identity"]);
    problem(&["publication everything is FOR ALL TABLES"]);
}

#[test]
fn one_survey_tells_what_may_go_wrong_and_what_is_worth_knowing() {
    let world = troubled();
    let survey = survey(&world);
    let warning = |words: &[&str]| {
        found(&survey, Level::Warning, words);
    };
    let note = |words: &[&str]| {
        found(&survey, Level::Note, words);
    };
    warning(&["target public.item", "refers to public.keeper", "DEFERRABLE INITIALLY DEFERRED"]);
    warning(&["target public.line", "no mapping fills public.line", "ON DELETE CASCADE"]);
    warning(&["token: text is read as uuid"]);
    warning(&["target public.item", "trigger silent"]);
    warning(&["target public.item", "rule quiet"]);
    warning(&["source public.fleeting", "unlogged"]);
    warning(&["mapping loose", "has no unique index", "CREATE UNIQUE INDEX CONCURRENTLY"]);
    note(&["source public.item", "no mapping reads secret"]);
    note(&["source public.label", "no mapping reads more"]);
    note(&["source public.item", "refers to public.owner"]);
    note(&["source public.item", "the view public.item_names reads it"]);
    note(&["source public.item", "trigger stamp"]);
    note(&["target public.item", "materialized view public.item_list", "REFRESH"]);
    note(&["target public.item", "row security"]);
    note(&["source public.piece", "1 partitions"]);
    note(&["the check item_own_check", "concerns own"]);
    note(&["mapping label", "key code is ordered by C at the source", "POSIX at the target"]);
    let fate = |end, table: &str, name: &str| {
        let column = survey
            .columns
            .iter()
            .find(|column| column.end == end && column.table == table && column.column == name);
        let column = column.unwrap_or_else(|| panic!("{name} is not among {:#?}", survey.columns));
        (column.fate, column.from.as_str())
    };
    assert_eq!(fate(Role::Target, "public.item", "code"), (Fate::Carried, "item.code text"));
    assert_eq!(fate(Role::Target, "public.label", "text"), (Fate::Computed, "text"));
    assert_eq!(fate(Role::Target, "public.item", "extra"), (Fate::LeftOut, ""));
    assert_eq!(fate(Role::Source, "public.item", "secret"), (Fate::LeftOut, ""));
    assert_eq!(fate(Role::Source, "public.label", "text"), (Fate::Computed, ""));
    let size =
        survey.tables.iter().find(|size| size.end == Role::Source && size.table == "public.item").unwrap();
    assert!(size.bytes >= 8192, "{size:?}");
    let read = survey.reads.iter().find(|read| read.table == "public.item").unwrap();
    assert!(read.rows == 3 && read.bytes > 0 && read.log_bytes > 30, "{read:?}");
}

#[test]
fn a_survey_changes_nothing() {
    let world = troubled();
    let before = (all(&world.source), all(&world.target));
    survey(&world);
    world.driver.survey(&world.stream, Depth::Whole).unwrap();
    assert_eq!((all(&world.source), all(&world.target)), before);
}

#[test]
fn what_fits_has_no_problems_and_no_warnings() {
    let table =
        "CREATE TABLE item (id int PRIMARY KEY, name varchar(9) NOT NULL, state text CHECK (state <> ''));";
    let rows = "INSERT INTO item SELECT n, 'item ' || n, 'new' FROM generate_series(1, 500) n; ANALYZE item";
    let columns = ["id", "name", "state"];
    let world = World::new(&format!("{table}{rows}"), table, vec![plain("item", &columns)]);
    let clean = survey(&world);
    assert_eq!((clean.count(Level::Problem), clean.count(Level::Warning)), (0, 0), "{:#?}", clean.findings);
    found(&clean, Level::Ok, &["all of its about 500 keys were read"]);
    found(&clean, Level::Ok, &["capture is not installed"]);
    world.source_end().install_capture(&world.stream).unwrap();
    let after = survey(&world);
    assert_eq!(after.count(Level::Problem), 0, "{:#?}", after.findings);
    found(&after, Level::Ok, &["capture is installed, its log holds"]);
    let trigger = world.source.run("SELECT tgname FROM pg_trigger WHERE tgname LIKE '%_old'").unwrap();
    world.source.run(&format!("DROP TRIGGER {trigger} ON item")).unwrap();
    found(&survey(&world), Level::Problem, &["capture is not whole", &trigger]);
}

#[test]
fn rows_without_the_row_that_a_foreign_key_wants_are_counted() {
    let source = "CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE line (id int PRIMARY KEY, item int);
        INSERT INTO item VALUES (1); INSERT INTO line VALUES (1, 1), (2, 7), (3, NULL)";
    let target = "CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE line (id int PRIMARY KEY, item int REFERENCES item)";
    let mappings = vec![plain("line", &["id", "item"]), plain("item", &["id"])];
    let seen = survey(&World::new(source, target, mappings));
    found(
        &seen,
        Level::Problem,
        &["mapping line", "1 rows of public.line have no row of public.item", "(2)"],
    );
    found(&seen, Level::Note, &["refers to public.item", "is filled later", "NOT DEFERRABLE"]);
}

#[test]
fn a_foreign_key_of_rows_that_the_way_there_leaves_out_is_told_for_the_way_back() {
    let there = "CREATE TABLE person (id int PRIMARY KEY);
        CREATE TABLE blog (id int PRIMARY KEY, author int REFERENCES person ON DELETE SET NULL)";
    let mut world =
        World::new(there, there, vec![plain("blog", &["id", "author"]), plain("person", &["id"])]);
    let words =
        ["target public.blog", "blog_author_fkey refers to public.person", "takes every row of public.blog"];
    world.stream.forward = world.stream.mappings.clone();
    assert_eq!(survey(&world).count(Level::Warning), 0);
    world.stream.forward[0].select += " AND author > 3";
    found(&survey(&world), Level::Warning, &words);
}

#[test]
fn foreign_keys_of_partitions_are_those_of_the_table_that_is_filled() {
    let tables = "CREATE TABLE owner (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY);
        CREATE TABLE item (id int, owner int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (0) TO (9);
        ALTER TABLE item_1 ADD CONSTRAINT to_owner FOREIGN KEY (owner) REFERENCES owner,
          ADD CONSTRAINT to_other FOREIGN KEY (owner) REFERENCES other";
    let seen =
        survey(&World::new(tables, tables, vec![plain("owner", &["id"]), plain("item", &["id", "owner"])]));
    for end in ["source", "target"] {
        found(&seen, Level::Ok, &[end, "public.item ", "to_owner refers to public.owner"]);
    }
    found(
        &seen,
        Level::Warning,
        &["target public.item ", "to_other refers to public.other", "no mapping fills"],
    );
    assert!(!seen.findings.iter().any(|found| found.place.contains("item_1")), "{:#?}", seen.findings);
    assert!(!seen.findings.iter().any(|found| found.what.contains("item_1")), "{:#?}", seen.findings);
    // A draft is in that order.
    let later = "CREATE TABLE z (id int PRIMARY KEY); CREATE TABLE a (id int) PARTITION BY RANGE (id);
        CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (9); ALTER TABLE a_1 ADD FOREIGN KEY (id) REFERENCES z";
    let world = World::new(later, "", Vec::new());
    let names: Vec<_> = world.source_end().describe().unwrap().into_iter().map(|table| table.name).collect();
    assert_eq!(names, ["z", "a"]);
}

#[test]
fn a_unique_index_of_a_hash_partition_is_asked_for_without_the_targets_numbers() {
    let source = "CREATE TABLE item (id int PRIMARY KEY, n int)";
    let target = "CREATE TABLE item (id int PRIMARY KEY, n int) PARTITION BY HASH (id);
        CREATE TABLE item_0 PARTITION OF item FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE item_1 PARTITION OF item FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE UNIQUE INDEX item_0_n ON item_0 (n)";
    let world = World::new(source, target, vec![plain("item", &["id", "n"])]);
    world.source.run("INSERT INTO item SELECT i, i FROM generate_series(1, 9) i").unwrap();
    let seen = survey(&world);
    assert_eq!((seen.count(Level::Problem), seen.count(Level::Warning)), (0, 0), "{:#?}", seen.findings);
    world.source.run("UPDATE item SET n = 1").unwrap();
    let seen = survey(&world);
    found(
        &seen,
        Level::Warning,
        &["mapping item", "1 values are made", "item_0_n", "public.item_0, a hash partition"],
    );
    assert_eq!(seen.count(Level::Problem), 0, "{:#?}", seen.findings);
}

#[test]
fn keys_that_one_end_holds_equal_and_the_other_apart_are_told() {
    let collation =
        "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";
    let tables = |number: &str, text: &str| {
        format!(
            "{collation} CREATE TABLE item (id {number} PRIMARY KEY); CREATE TABLE name (id text {text} PRIMARY KEY)"
        )
    };
    let (mine, apart) = (tables("numeric", "COLLATE any_case"), tables("text", "COLLATE \"C\""));
    let joined = World::new(
        &tables("int", "COLLATE \"C\""),
        &tables("int", "COLLATE any_case"),
        vec![plain("name", &["id"])],
    );
    found(&survey(&joined), Level::Problem, &["mapping name", "ordered by C at the source", "carries = []"]);
    let said = joined.begin(crate::engine::Phase::Following).unwrap_err().to_string();
    assert!(said.contains("holds different texts equal") && said.contains("carries = []"), "{said}");
    let both = || vec![plain("item", &["id"]), plain("name", &["id"])];
    let seen = survey(&World::new(&mine, &apart, both()));
    found(&seen, Level::Warning, &["mapping item", "equal as numeric", "several as text"]);
    found(&seen, Level::Warning, &["mapping name", "holds different texts equal", "the same COLLATE"]);
    assert_eq!(survey(&World::new(&mine, &mine, both())).count(Level::Warning), 0);
}

#[test]
fn a_select_that_fails_on_a_row_is_told_in_the_servers_words() {
    let source = "CREATE TABLE item (id int PRIMARY KEY, amount int); INSERT INTO item VALUES (1, 5), (2, 0)";
    let target = "CREATE TABLE item (id int PRIMARY KEY, share int)";
    let mut mapping = plain("item", &["id", "share"]);
    mapping.select = "SELECT id, 100 / amount FROM item WHERE {keys id}".to_owned();
    let seen = survey(&World::new(source, target, vec![mapping]));
    found(&seen, Level::Problem, &["mapping item", "its select fails on the data", "division by zero"]);
    assert!(!seen.findings.iter().any(|finding| finding.what.contains("keys were read")));
}

#[test]
fn a_select_that_would_write_is_a_problem_and_the_rest_is_told_all_the_same() {
    let mut numbered = plain("item", &["id", "name"]);
    numbered.select = "SELECT id, nextval('numbers')::text FROM item WHERE {keys id}".to_owned();
    let mut locked = plain("other", &["id", "name"]);
    locked.select = "SELECT id, name FROM item WHERE {keys id} FOR UPDATE".to_owned();
    locked.root = "item".to_owned();
    let source = "CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'a'); CREATE SEQUENCE numbers";
    let there =
        "CREATE TABLE item (id int PRIMARY KEY, name text); CREATE TABLE other (LIKE item INCLUDING ALL)";
    let survey = survey(&World::new(source, there, vec![numbered, locked]));
    found(&survey, Level::Problem, &["mapping item", "calls nextval"]);
    found(&survey, Level::Problem, &["mapping other", "read-only transaction"]);
}

#[test]
fn transactions_that_install_would_wait_for_are_named() {
    let table = "CREATE TABLE item (id int PRIMARY KEY, name text);";
    let world = World::new(table, table, vec![plain("item", &["id", "name"])]);
    let mut writer = Client::connect(world.source.url(), NoTls).unwrap();
    writer.batch_execute("BEGIN; INSERT INTO item VALUES (1, 'open')").unwrap();
    let mut other = Client::connect(world.source.url(), NoTls).unwrap();
    other.batch_execute("BEGIN; INSERT INTO item VALUES (2, 'ready'); PREPARE TRANSACTION 'it''s'").unwrap();
    let seen = survey(&world);
    found(&seen, Level::Warning, &["source item", "capture install waits for it", "pg_terminate_backend"]);
    found(&seen, Level::Problem, &["source item", "prepared transaction", "ROLLBACK PREPARED 'it''s'"]);
    writer.batch_execute("COMMIT").unwrap();
    other.batch_execute("ROLLBACK PREPARED 'it''s'").unwrap();
    let seen = survey(&world);
    assert_eq!((seen.count(Level::Problem), seen.count(Level::Warning)), (0, 0), "{:#?}", seen.findings);
}

#[test]
fn every_missing_privilege_is_told_with_its_grant() {
    let table = "CREATE TABLE item (id int PRIMARY KEY, name text);";
    let world = World::new(table, table, vec![plain("item", &["id", "name"])]);
    let role = format!("planner_{}", world.source.name());
    world.source.run(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let url = |url: &str| url.replace("postgres@", &format!("{role}@"));
    let driver =
        PostgresDriver::new(&url(world.source.url()), &url(world.target.url()), Default::default()).unwrap();
    let seen = driver.survey(&world.stream, Depth::Sample).unwrap();
    for grant in
        ["GRANT SELECT ON public.item TO", "GRANT CREATE ON DATABASE", "ALTER TABLE public.item OWNER TO"]
    {
        found(&seen, Level::Problem, &["source", grant, &role]);
    }
    for grant in ["GRANT SELECT, INSERT, UPDATE, DELETE ON public.item TO", "session_replication_role"] {
        found(&seen, Level::Problem, &["target", grant, &role]);
    }
    world
        .source
        .run(&format!("GRANT SELECT ON item TO {role}; ALTER TABLE item ENABLE ROW LEVEL SECURITY"))
        .unwrap();
    let seen = driver.survey(&world.stream, Depth::Sample).unwrap();
    found(&seen, Level::Problem, &["source public.item", "row security hides rows", "BYPASSRLS"]);
    world.source.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn a_table_too_large_to_be_read_is_sampled_and_says_so() {
    let table = "CREATE TABLE item (id int PRIMARY KEY, name text);";
    let rows = "INSERT INTO item SELECT n, CASE WHEN n = 120000 THEN 'too long' ELSE 'n' END \
        FROM generate_series(1, 120000) n; ANALYZE item";
    let narrow = "CREATE TABLE item (id int PRIMARY KEY, name varchar(3))";
    let world = World::new(&format!("{table}{rows}"), narrow, vec![plain("item", &["id", "name"])]);
    let sampled = survey(&world);
    assert_eq!(sampled.count(Level::Problem), 0, "{:#?}", sampled.findings);
    found(&sampled, Level::Ok, &["the first 5000 of about 120000 keys were read", "--deep"]);
    let whole = world.driver.survey(&world.stream, Depth::Whole).unwrap();
    found(&whole, Level::Problem, &["1 rows have a name too long", "key 120000"]);
}
