//! What `plan` finds in SQLite files, all in one survey, and that it changes nothing.
//!
//! Invariant: a finding is looked for by the words that name its place, its number and its example.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::drivers::sqlite::{SqliteDriver, SqliteOptions};
use crate::engine::survey::{Depth, Fate, Finding, Level, Role, Survey, SurveyDriver as _};
use crate::engine::{Driver as _, Mapping, Source as _, Stream};

const SOURCE: &str = "
    CREATE TABLE owner (id INTEGER PRIMARY KEY);
    CREATE TABLE item (id INTEGER PRIMARY KEY, owner_id INTEGER REFERENCES owner (id), name TEXT, code TEXT,
        amount INTEGER, price, secret TEXT);
    INSERT INTO item (id, name, code, amount, price) VALUES (1, 'fine', 'a', 5, 1.5), (2, NULL, 'A', 'many', 2),
        (3, 'odd', 'c', -1, '3');
    CREATE TABLE label (code TEXT PRIMARY KEY, text TEXT);
    INSERT INTO label VALUES (NULL, 'n'), ('x', 'y');
    CREATE TABLE loose (id INTEGER, name TEXT);
    INSERT INTO loose VALUES (4, 'twice'), (4, 'again');
    CREATE VIEW item_names AS SELECT name FROM item;
    CREATE TRIGGER stamp AFTER INSERT ON item BEGIN SELECT 1; END;";
const TARGET: &str = "
    CREATE TABLE keeper (id INTEGER PRIMARY KEY);
    CREATE TABLE item (id INTEGER PRIMARY KEY, owner_id INTEGER REFERENCES keeper (id), name TEXT NOT NULL, code TEXT,
        amount INTEGER CHECK (amount > 0), price REAL, extra TEXT NOT NULL, loud TEXT GENERATED ALWAYS AS (upper(name)));
    CREATE UNIQUE INDEX item_code ON item (code COLLATE NOCASE); CREATE UNIQUE INDEX item_loud ON item (loud);
    CREATE TABLE line (id INTEGER PRIMARY KEY, item_id INTEGER REFERENCES item (id) ON DELETE CASCADE);
    CREATE TRIGGER spy AFTER INSERT ON item BEGIN SELECT 1; END;
    CREATE TRIGGER other_spy AFTER DELETE ON item BEGIN SELECT 1; END;
    CREATE TABLE label (code TEXT COLLATE NOCASE PRIMARY KEY, text TEXT) STRICT, WITHOUT ROWID;
    CREATE TABLE loose (id INTEGER, name TEXT);";

struct Files {
    folder: TempDir,
    driver: SqliteDriver,
    stream: Stream,
}

fn mapping(table: &str, columns: &[&str], select: &str) -> Mapping {
    let key = vec![columns[0].to_owned()];
    Mapping {
        table: table.to_owned(),
        key: key.clone(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        carries: key.clone(),
        select: select.to_owned(),
        root: table.to_owned(),
        root_key: key,
        joins: Vec::new(),
    }
}

impl Files {
    fn new(source: &str, target: &str, mappings: Vec<Mapping>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str, sql: &str| {
            let conn = Connection::open(folder.path().join(name)).unwrap();
            conn.execute_batch("PRAGMA journal_mode = wal").unwrap();
            conn.execute_batch(sql).unwrap();
        };
        create("source.db", source);
        create("target.db", target);
        let at = |name: &str| folder.path().join(name);
        let driver = SqliteDriver::new(&at("source.db"), &at("target.db"), SqliteOptions::default());
        Self { driver, stream: Stream { name: "items".to_owned(), mappings, forward: Vec::new() }, folder }
    }

    fn troubled() -> Self {
        let columns = ["id", "owner_id", "name", "code", "amount", "price"];
        let item = "SELECT i.id, i.owner_id, i.name, i.code, i.amount, i.price FROM source.item AS i WHERE {keys i.id}";
        let label = "SELECT l.code, trim(l.text) FROM source.label AS l WHERE {keys l.code}";
        let loose = "SELECT l.id, l.name FROM source.loose AS l WHERE {keys l.id}";
        let ghost = "SELECT g.id FROM source.ghost AS g WHERE {keys g.id}";
        let mappings = vec![
            mapping("item", &columns, item),
            mapping("label", &["code", "text"], label),
            mapping("loose", &["id", "name"], loose),
            mapping("ghost", &["id"], ghost),
        ];
        Self::new(SOURCE, TARGET, mappings)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn survey(&self, depth: Depth) -> Survey {
        self.driver.survey(&self.stream, depth).unwrap()
    }
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

#[test]
fn one_survey_tells_every_problem() {
    let survey = Files::troubled().survey(Depth::Sample);
    let problem = |words: &[&str]| {
        found(&survey, Level::Problem, words);
    };
    problem(&["mapping item", "1 rows are refused", "NOT NULL constraint failed: item.name", "key 2"]);
    problem(&["target item", "extra must have a value"]);
    problem(&["mapping label", "1 rows have NULL in the source key", "rowid 1"]);
    problem(&["mapping label", "1 rows are refused"]);
    problem(&["mapping loose", "no unique index of loose covers exactly its key"]);
    problem(&["mapping loose", "source key (id) of loose is not unique", "CREATE UNIQUE INDEX"]);
    problem(&["mapping loose", "1 source keys are there more than once", "for example 4"]);
    problem(&["target item", "the trigger spy on item"]);
    problem(&["target item", "the trigger other_spy on item"]);
    problem(&["mapping ghost", "there is no table ghost"]);
    problem(&["mapping item", "the unique index over (\"code\") allows once", "for example '"]);
}

#[test]
fn one_survey_tells_what_may_go_wrong_and_what_is_worth_knowing() {
    let survey = Files::troubled().survey(Depth::Sample);
    let warning = |words: &[&str]| {
        found(&survey, Level::Warning, words);
    };
    let note = |words: &[&str]| {
        found(&survey, Level::Note, words);
    };
    warning(&["target item", "refers to keeper"]);
    warning(&["target line", "no mapping fills line", "ON DELETE CASCADE"]);
    warning(&["source item", "1 rows hold text in amount INTEGER", "key 2"]);
    found(
        &survey,
        Level::Problem,
        &["mapping label", "compared by BINARY at the source, code by NOCASE", "carries = []"],
    );
    note(&["mapping item", "unique by (\"loud\") was not looked at: the mapping does not fill loud"]);
    note(&["source item", "no mapping reads secret"]);
    note(&["source item", "refers to owner"]);
    note(&["source item", "the view item_names names it"]);
    note(&["source item", "trigger stamp"]);
    note(&["source item", "recursive_triggers"]);
    note(&["target label", "WITHOUT ROWID"]);
    note(&["target label", "STRICT"]);
    let fate = |end, table: &str, name: &str| {
        let is_it = |column: &&crate::engine::survey::ColumnFate| {
            column.end == end && column.table == table && column.column == name
        };
        let column = survey.columns.iter().find(is_it);
        column.map(|column| (column.fate, column.from.as_str()))
    };
    assert_eq!(fate(Role::Target, "item", "code"), Some((Fate::Carried, "item.code TEXT")));
    assert_eq!(fate(Role::Target, "label", "text"), Some((Fate::Computed, "an expression")));
    assert_eq!(fate(Role::Target, "item", "extra"), Some((Fate::LeftOut, "")));
    assert_eq!(fate(Role::Source, "item", "secret"), Some((Fate::LeftOut, "")));
    assert_eq!(fate(Role::Source, "label", "text"), Some((Fate::Computed, "")));
    let read = survey.reads.iter().find(|read| read.table == "item").unwrap();
    assert!(read.rows == 3 && read.bytes > 0 && read.log_bytes > 0, "{read:?}");
}

#[test]
fn values_that_checks_refuse_and_types_change_are_counted_by_what_happens_to_them() {
    let source = "CREATE TABLE item (id INTEGER PRIMARY KEY, amount, price);
        INSERT INTO item VALUES (1, 5, 1.5), (2, -1, 2), (3, '7', 3.5), (4, 'many', 4.5), (5, 6, '5')";
    let target = "CREATE TABLE item (id INTEGER PRIMARY KEY, amount INTEGER CONSTRAINT above CHECK (amount > 0), price REAL)";
    let select = "SELECT i.id, i.amount, i.price FROM source.item AS i WHERE {keys i.id}";
    let files = Files::new(source, target, vec![mapping("item", &["id", "amount", "price"], select)]);
    let seen = files.survey(Depth::Sample);
    found(&seen, Level::Problem, &["1 rows are refused by item", "above", "key 2"]);
    found(
        &seen,
        Level::Problem,
        &["1 rows would be stored as another value (amount: text becomes integer)", "key 3"],
    );
    found(&seen, Level::Problem, &["(price: text becomes real)", "key 5"]);
    assert_eq!(seen.count(Level::Problem), 3, "{:#?}", seen.findings);
}

#[test]
fn a_survey_leaves_both_files_as_they_are() {
    let files = Files::troubled();
    let bytes = || ["source.db", "target.db"].map(|name| std::fs::read(files.path(name)).unwrap());
    let before = bytes();
    files.survey(Depth::Sample);
    files.survey(Depth::Whole);
    assert_eq!(bytes(), before);
    let wal = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    assert_eq!((wal(&files.path("source.db-wal")), wal(&files.path("target.db-wal"))), (0, 0));
}

#[test]
fn what_fits_has_no_problems_and_no_warnings() {
    let table = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, amount INTEGER CHECK (amount > 0));";
    let rows = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
        INSERT INTO item SELECT n, 'item ' || n, n FROM n";
    let select = "SELECT i.id, i.name, i.amount FROM source.item AS i WHERE {keys i.id}";
    let files = Files::new(
        &format!("{table}{rows}"),
        table,
        vec![mapping("item", &["id", "name", "amount"], select)],
    );
    let clean = files.survey(Depth::Sample);
    assert_eq!((clean.count(Level::Problem), clean.count(Level::Warning)), (0, 0), "{:#?}", clean.findings);
    found(&clean, Level::Ok, &["all of its 500 keys were read"]);
    found(&clean, Level::Ok, &["capture is not installed"]);
    files.driver.source().unwrap().install_capture(&files.stream).unwrap();
    let after = files.survey(Depth::Sample);
    assert_eq!((after.count(Level::Problem), after.count(Level::Warning)), (0, 0), "{:#?}", after.findings);
    found(&after, Level::Ok, &["capture is installed, its log holds"]);
    let conn = Connection::open(files.path("source.db")).unwrap();
    conn.execute_batch("DROP TRIGGER \"banyan:items:item:delete\"").unwrap();
    found(&files.survey(Depth::Sample), Level::Problem, &["capture is not whole", "item"]);
}

#[test]
fn a_file_that_is_not_in_wal_mode_is_told_with_everything_else_and_its_rows_are_left_alone() {
    let files = Files::troubled();
    let conn = Connection::open(files.path("source.db")).unwrap();
    conn.execute_batch("PRAGMA journal_mode = delete").unwrap();
    let seen = files.survey(Depth::Sample);
    found(&seen, Level::Problem, &["journal mode delete", "journal_mode = wal"]);
    found(&seen, Level::Warning, &["its rows were not looked at"]);
    found(&seen, Level::Problem, &["extra must have a value"]);
    assert!(seen.reads.is_empty());
}

#[test]
fn a_large_file_is_sampled_and_says_so() {
    let rows = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT);
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 120000)
        INSERT INTO item SELECT n, CASE WHEN n = 120000 THEN 'too long' ELSE 'n' END FROM n";
    let narrow = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT CHECK (length(name) < 4))";
    let select = "SELECT i.id, i.name FROM source.item AS i WHERE {keys i.id}";
    let files = Files::new(rows, narrow, vec![mapping("item", &["id", "name"], select)]);
    let sampled = files.survey(Depth::Sample);
    assert_eq!(sampled.count(Level::Problem), 0, "{:#?}", sampled.findings);
    found(&sampled, Level::Ok, &["the first 5000 of 120000 keys were read", "--deep"]);
    found(&files.survey(Depth::Whole), Level::Problem, &["1 rows are refused", "key 120000"]);
}

#[test]
fn a_foreign_key_of_rows_that_the_way_there_leaves_out_is_told_for_the_way_back() {
    let there = "CREATE TABLE person (id INTEGER PRIMARY KEY);
        CREATE TABLE Blog (id INTEGER PRIMARY KEY, author INTEGER REFERENCES person (id) ON DELETE SET NULL)";
    let here = "CREATE TABLE cust (id INTEGER PRIMARY KEY); CREATE TABLE post (id INTEGER PRIMARY KEY, author INTEGER)";
    let from = |mut mapping: Mapping, root: &str| {
        mapping.root = root.to_owned();
        mapping
    };
    let back = vec![
        from(
            mapping(
                "Blog",
                &["id", "author"],
                "SELECT p.id, p.author FROM source.post AS p WHERE {keys p.id}",
            ),
            "post",
        ),
        from(mapping("person", &["id"], "SELECT c.id FROM source.cust AS c WHERE {keys c.id}"), "cust"),
    ];
    let mut files = Files::new(here, there, back);
    let mut told = |condition: &str| {
        let posts = format!("SELECT b.id, b.author FROM source.Blog AS b WHERE {{keys b.id}}{condition}");
        let persons = "SELECT p.id FROM source.person AS p WHERE {keys p.id}";
        files.stream.forward = vec![
            from(mapping("cust", &["id"], persons), "person"),
            from(mapping("post", &["id", "author"], &posts), "Blog"),
        ];
        let survey = files.survey(Depth::Sample);
        let warned = survey.findings.into_iter().filter(|found| found.level == Level::Warning);
        warned.map(|found| format!("{}: {}", found.place, found.what)).collect::<Vec<_>>()
    };
    assert_eq!(told(""), [""; 0]);
    let warned = told(" AND b.id > 3");
    assert_eq!(warned.len(), 1, "{warned:#?}");
    assert!(
        warned[0].starts_with("target Blog: the foreign key (author) refers to person (ON DELETE SET NULL")
    );
    assert!(warned[0].contains("no [[mapping]] takes every row of Blog"), "{warned:#?}");
}

#[test]
fn what_only_the_application_knows_is_told_table_by_table_and_the_rest_is_looked_at() {
    let tables = "CREATE TABLE word (name TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE); CREATE INDEX item_name ON item (name);
        CREATE TABLE \"check\" (id INTEGER PRIMARY KEY CHECK (upper(id) > ''));
        CREATE TABLE line (id INTEGER PRIMARY KEY, name TEXT NOT NULL);";
    let each = |name: &str, columns: &[&str]| {
        let select = format!(
            "SELECT {} FROM source.\"{name}\" AS t WHERE {{keys t.{}}}",
            columns.join(", "),
            columns[0]
        );
        mapping(name, columns, &select)
    };
    let mappings = vec![
        each("word", &["name"]),
        each("item", &["id", "name"]),
        each("check", &["id"]),
        each("line", &["id", "name"]),
    ];
    let source = tables.replace(" NOT NULL", "")
        + "INSERT INTO item VALUES (1, 'a'); INSERT INTO line VALUES (7, NULL)";
    let files = Files::new(&source, tables, mappings);
    for name in ["source.db", "target.db"] {
        let conn = Connection::open(files.path(name)).unwrap();
        let sql = "PRAGMA writable_schema = on; UPDATE sqlite_schema SET sql = replace(replace(sql, 'NOCASE', 'LOCALIZED'), 'upper', 'slug')";
        conn.execute_batch(sql).unwrap();
    }
    let seen = files.survey(Depth::Sample);
    let problem = |words: &[&str]| found(&seen, Level::Problem, words);
    problem(&["mapping word", "rows of word cannot be found", "LOCALIZED", "leave the mapping out"]);
    problem(&["mapping word", "sqlite_autoindex_word_1 of word", "LOCALIZED", "another COLLATE"]);
    problem(&["mapping item", "the index item_name of item", "LOCALIZED", "DROP INDEX"]);
    problem(&["mapping check", "takes its rows was not looked at: no such function: slug"]);
    problem(&["mapping line", "NOT NULL constraint failed: line.name", "key 7"]);
    found(&seen, Level::Ok, &["mapping item", "all of its 1 keys were read"]);
}
