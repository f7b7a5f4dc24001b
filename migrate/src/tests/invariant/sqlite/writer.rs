//! The application: transactions that do everything an application may do to its tables.
//!
//! Invariant: it knows nothing of capture. `recursive_triggers` is off, as by default, so REPLACE removes in silence.

use rusqlite::Connection;

use crate::tests::invariant::random::Random;

const CODES: [&str; 5] = ["'a'", "'b'", "'c'", "'d'", "NULL"];
const SLOTS: [&str; 6] = ["'x'", "'X'", "'y'", "'Y'", "'none'", "NULL"];
const TAGS: [&str; 6] = ["'red'", "'Red'", "'RED'", "'blue'", "'Blue'", "'green'"];
const NOTES: [&str; 4] = ["'p'", "'q'", "'r'", "NULL"];
const OR: [&str; 4] = ["", "OR REPLACE ", "OR REPLACE ", "OR IGNORE "];

/// What a statement is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    Item,
    Unique,
    Owner,
    Tag,
    Line,
}

/// Runs one transaction; returns what it did.
pub(super) fn transact(conn: &Connection, random: &mut Random, subjects: &[Subject]) -> String {
    let mut said = Vec::new();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..=random.below(3) {
        let statements = statements(random, subjects);
        // A statement that a constraint refuses leaves the transaction as it was.
        let undo = random.once_in(8);
        conn.execute_batch("SAVEPOINT one").unwrap();
        let done = statements.iter().try_for_each(|sql| conn.prepare_cached(sql)?.execute([]).map(drop));
        if undo || done.is_err() {
            conn.execute_batch("ROLLBACK TO one").unwrap();
        } else {
            said.push(statements.join("; "));
        }
        conn.execute_batch("RELEASE one").unwrap();
    }
    if random.once_in(10) {
        conn.execute_batch("ROLLBACK").unwrap();
        return "rolled back".to_owned();
    }
    conn.execute_batch("COMMIT").unwrap();
    said.join("; ")
}

fn statements(random: &mut Random, subjects: &[Subject]) -> Vec<String> {
    let subject = subjects[usize::try_from(random.below(subjects.len() as u64)).unwrap()];
    if random.once_in(60) {
        let table = match subject {
            Subject::Item | Subject::Unique => "item",
            Subject::Owner => "owner",
            Subject::Tag => "tag",
            Subject::Line => "line",
        };
        return vec![format!("DELETE FROM {table}")];
    }
    match subject {
        Subject::Item => item(random),
        Subject::Unique => uniques(random),
        Subject::Owner => owner(random),
        Subject::Tag => tag(random),
        Subject::Line => line(random),
    }
}

fn item(random: &mut Random) -> Vec<String> {
    let (id, other, name) = (random.below(6), random.below(6), random.below(9));
    let (code, slot, or) = (random.pick(&CODES), random.pick(&SLOTS), random.pick(&OR));
    let (owner, hidden) = (random.below(3), random.below(2));
    let values = format!("VALUES ({id}, 'n{name}', {code}, {slot}, {owner}, {hidden})");
    vec![match random.below(8) {
        0 | 1 => format!("INSERT {or}INTO item {values}"),
        2 => format!(
            "INSERT INTO item {values} ON CONFLICT DO UPDATE SET name = excluded.name, slot = excluded.slot"
        ),
        3 => format!("UPDATE {or}item SET name = 'n{name}', hidden = {hidden} WHERE id = {id}"),
        4 => format!("UPDATE {or}item SET id = {other} WHERE id = {id}"),
        5 => format!("UPDATE {or}item SET owner = {owner} WHERE id IN ({id}, {other})"),
        6 => format!(
            "INSERT {or}INTO item (name, code, slot, owner) VALUES ('n{name}', {code}, {slot}, {owner})"
        ),
        _ => format!("DELETE FROM item WHERE id = {id}"),
    }]
}

/// Values that swap and move, and keys that do.
fn uniques(random: &mut Random) -> Vec<String> {
    let (one, two, or) = (random.below(6), random.below(6), random.pick(&OR));
    let (code, slot) = (random.pick(&CODES), random.pick(&SLOTS));
    match random.below(5) {
        0 => vec![
            format!(
                "UPDATE item SET code = code || '>' || (SELECT code FROM item WHERE id = {two}) WHERE id = {one}"
            ),
            format!(
                "UPDATE item SET code = (SELECT substr(code, 1, 1) FROM item WHERE id = {one}) WHERE id = {two}"
            ),
            format!("UPDATE item SET code = substr(code, 3) WHERE id = {one}"),
        ],
        1 => vec![
            format!("UPDATE item SET id = 99 WHERE id = {one}"),
            format!("UPDATE item SET id = {one} WHERE id = {two}"),
            format!("UPDATE item SET id = {two} WHERE id = 99"),
        ],
        2 => vec![
            format!("UPDATE item SET code = NULL WHERE code = {code}"),
            format!("UPDATE item SET code = {code} WHERE id = {one}"),
        ],
        3 => vec![format!("UPDATE {or}item SET slot = {slot} WHERE id = {one}")],
        _ => vec![format!("UPDATE {or}item SET code = {code} WHERE id = {one}")],
    }
}

fn owner(random: &mut Random) -> Vec<String> {
    let (id, other, label) = (random.below(3), random.below(3), random.below(9));
    vec![match random.below(4) {
        0 => format!("DELETE FROM owner WHERE id = {id}"),
        1 => format!("UPDATE OR REPLACE owner SET id = {other} WHERE id = {id}"),
        _ => format!("INSERT OR REPLACE INTO owner VALUES ({id}, 'l{label}')"),
    }]
}

fn tag(random: &mut Random) -> Vec<String> {
    let (name, other) = (random.pick(&TAGS), random.pick(&TAGS));
    let (note, or) = (random.pick(&NOTES), random.pick(&OR));
    vec![match random.below(4) {
        0 => format!("DELETE FROM tag WHERE name = {name}"),
        1 => format!("UPDATE {or}tag SET name = {other} WHERE name = {name}"),
        2 => format!("UPDATE {or}tag SET note = {note} WHERE name = {name}"),
        _ => format!("INSERT {or}INTO tag VALUES ({name}, {note})"),
    }]
}

fn line(random: &mut Random) -> Vec<String> {
    let (item, number, amount) = (random.below(6), random.below(2), random.below(9));
    let or = random.pick(&OR);
    vec![match random.below(4) {
        0 => format!("DELETE FROM line WHERE item = {item}"),
        1 => format!("UPDATE {or}line SET number = {number}, amount = {amount} WHERE item = {item}"),
        _ => format!("INSERT {or}INTO line VALUES ({item}, {number}, {amount})"),
    }]
}
