//! The application: two sessions that do everything an application may do to its tables, and leave transactions open while
//! others commit.
//!
//! Invariant: it knows nothing of capture. A statement that would wait for the other session fails instead, and is taken back.

use std::io::Write as _;

use postgres::{Client, NoTls};

use crate::tests::invariant::random::Random;

const CODES: [&str; 5] = ["'a'", "'b'", "'c'", "'d'", "NULL"];
const SLOTS: [&str; 6] = ["'x'", "'X'", "'y'", "'Y'", "'none'", "NULL"];
const TAGS: [&str; 6] = ["'red'", "'Red'", "'RED'", "'blue'", "'Blue'", "'green'"];
const NOTES: [&str; 4] = ["'p'", "'q'", "'r'", "NULL"];
const TRUTHS: [&str; 3] = ["false", "false", "true"];
const LEVELS: [&str; 4] = ["BEGIN", "BEGIN", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"];

/// Transactions that are prepared and not committed yet.
const PREPARED: usize = 2;

/// What a statement is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    Item,
    Unique,
    Owner,
    Tag,
    Line,
}

struct Session {
    client: Client,
    open: bool,
}

pub(super) struct Writers {
    sessions: [Session; 2],
    /// Names of prepared transactions.
    prepared: Vec<String>,
    /// What these names begin with, as they are known in the whole cluster.
    name: String,
    given: u64,
}

impl Session {
    fn open(url: &str) -> Self {
        let mut client = Client::connect(url, NoTls).unwrap();
        client.batch_execute("SET lock_timeout = '1ms'; SET synchronous_commit = off").unwrap();
        Self { client, open: false }
    }

    /// Runs statements, and rows of a COPY behind them.
    fn run(&mut self, statements: &str, rows: Option<&Copied>) -> Result<(), postgres::Error> {
        self.client.batch_execute(statements)?;
        let Some(Copied { into, rows }) = rows else { return Ok(()) };
        let mut writer = self.client.copy_in(&format!("COPY {into} FROM STDIN"))?;
        writer.write_all(rows.as_bytes()).unwrap();
        writer.finish().map(drop)
    }
}

/// Rows for a COPY.
struct Copied {
    into: &'static str,
    rows: String,
}

impl Writers {
    pub(super) fn open(url: &str, name: &str) -> Self {
        let sessions = [Session::open(url), Session::open(url)];
        Self { sessions, prepared: Vec::new(), name: name.to_owned(), given: 0 }
    }

    /// One step of one session: some statements, and perhaps the end of its transaction.
    pub(super) fn step(&mut self, random: &mut Random, subjects: &[Subject]) -> String {
        if !self.prepared.is_empty() && random.once_in(3) {
            let at = usize::try_from(random.below(self.prepared.len() as u64)).unwrap();
            let name = self.prepared.swap_remove(at);
            let end = if random.once_in(4) { "ROLLBACK" } else { "COMMIT" };
            self.free().batch_execute(&format!("{end} PREPARED '{name}'")).unwrap();
            return format!("{end} PREPARED '{name}'");
        }
        let subject = subjects[usize::try_from(random.below(subjects.len() as u64)).unwrap()];
        let at = usize::try_from(random.below(2)).unwrap();
        let begin = random.pick(&LEVELS);
        if !self.sessions[at].open && random.once_in(60) {
            return self.clear(at, subject);
        }
        let copied = random.once_in(12).then(|| copied(random, subject)).flatten();
        let statements = if copied.is_some() { Vec::new() } else { statements(random, subject) }.join("; ");
        // A statement that a constraint or a lock refuses leaves the transaction as it was.
        let undo = random.once_in(8);
        let session = &mut self.sessions[at];
        let begin = if std::mem::replace(&mut session.open, true) { "" } else { begin };
        let failed = session.run(&format!("{begin}; SAVEPOINT one; {statements}"), copied.as_ref()).err();
        let taken_back = undo || failed.is_some();
        let end = self.end(random, at);
        self.sessions[at].open = end.is_empty();
        let before = if taken_back { "ROLLBACK TO one; RELEASE one" } else { "RELEASE one" };
        let ended = self.sessions[at].client.batch_execute(&format!("{before}; {end}"));
        if let Err(error) = ended {
            // Something deferred was refused at the end, which took all of it back.
            self.sessions[at].client.batch_execute("ROLLBACK").unwrap();
            self.sessions[at].open = false;
            self.prepared.retain(|name| !end.contains(name.as_str()));
            return format!("session {at}: {begin} {statements}: {end} failed: {error}");
        }
        let how = match (failed, undo) {
            (Some(error), _) => format!("({})", error.as_db_error().map_or("?", |told| told.message())),
            (None, true) => "(taken back)".to_owned(),
            (None, false) => String::new(),
        };
        let rows = copied.map_or_else(String::new, |copied| format!("COPY {}", copied.rows));
        format!("session {at}: {begin} {statements}{rows} {how} {end}")
    }

    /// How a transaction ends; it stays open as often as not.
    fn end(&mut self, random: &mut Random, at: usize) -> String {
        match random.below(10) {
            0..5 => "COMMIT".to_owned(),
            5 => "ROLLBACK".to_owned(),
            6 if self.prepared.len() < PREPARED => {
                self.given += 1;
                let name = format!("{}_{at}_{}", self.name, self.given);
                self.prepared.push(name.clone());
                format!("PREPARE TRANSACTION '{name}'")
            }
            _ => String::new(),
        }
    }

    /// Empties a table and commits at once, since readers would have to wait for it.
    fn clear(&mut self, at: usize, subject: Subject) -> String {
        let (table, again) = match subject {
            Subject::Item | Subject::Unique => ("item", "INSERT INTO source.item VALUES (1, 'again')"),
            Subject::Owner => ("owner", "INSERT INTO source.owner VALUES (1, 'again')"),
            Subject::Tag => ("tag", "INSERT INTO source.tag VALUES ('red', 'again')"),
            Subject::Line => ("line", ""),
        };
        let session = &mut self.sessions[at];
        let done =
            session.client.batch_execute(&format!("BEGIN; TRUNCATE source.{table} CASCADE; {again}; COMMIT"));
        if done.is_err() {
            session.client.batch_execute("ROLLBACK").unwrap();
        }
        format!(
            "session {at}: TRUNCATE {table} CASCADE; {again}: {}",
            if done.is_ok() { "done" } else { "refused" }
        )
    }

    /// A session without a transaction.
    fn free(&mut self) -> &mut Client {
        let at = self.sessions.iter().position(|session| !session.open);
        let session = &mut self.sessions[at.unwrap_or(0)];
        if session.open {
            session.client.batch_execute("COMMIT").unwrap();
            session.open = false;
        }
        &mut session.client
    }

    /// Commits whatever is open.
    pub(super) fn settle(&mut self) {
        for session in &mut self.sessions {
            session.client.batch_execute("COMMIT").unwrap();
            session.open = false;
        }
        for name in std::mem::take(&mut self.prepared) {
            self.sessions[0].client.batch_execute(&format!("COMMIT PREPARED '{name}'")).unwrap();
        }
    }
}

fn copied(random: &mut Random, subject: Subject) -> Option<Copied> {
    let (one, two, text) = (random.below(6), random.below(6), random.below(9));
    match subject {
        Subject::Item | Subject::Unique => Some(Copied {
            into: "source.item (id, name, owner)",
            rows: format!("{one}\tc{text}\t{}\n{two}\tc{text}\t\\N\n", random.below(3)),
        }),
        Subject::Line => Some(Copied { into: "source.line", rows: format!("{one}\t{}\t{text}\n", two % 2) }),
        Subject::Owner | Subject::Tag => None,
    }
}

fn statements(random: &mut Random, subject: Subject) -> Vec<String> {
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
    let (code, slot, hidden) = (random.pick(&CODES), random.pick(&SLOTS), random.pick(&TRUTHS));
    let owner = random.below(3);
    let values = format!("({id}, 'n{name}', {code}, {slot}, {owner}, {hidden})");
    vec![match random.below(10) {
        0 | 1 => format!("INSERT INTO source.item VALUES {values}"),
        2 => format!("INSERT INTO source.item VALUES {values} ON CONFLICT (id) DO NOTHING"),
        3 | 4 => format!(
            "INSERT INTO source.item VALUES {values}, ({other} + 6, 'm{name}', NULL, NULL, {owner}, {hidden}) \
             ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, slot = EXCLUDED.slot"
        ),
        5 => format!("UPDATE source.item SET name = 'n{name}', hidden = {hidden} WHERE id = {id}"),
        6 => format!("UPDATE source.item SET id = {other} WHERE id = {id}"),
        7 => format!("UPDATE source.item SET owner = {owner} WHERE id IN ({id}, {other})"),
        8 if random.once_in(6) => "DELETE FROM source.item".to_owned(),
        _ => format!("DELETE FROM source.item WHERE id = {id}"),
    }]
}

/// Values that swap and move, and keys that do.
fn uniques(random: &mut Random) -> Vec<String> {
    let (one, two) = (random.below(6), random.below(6));
    let (code, slot) = (random.pick(&CODES), random.pick(&SLOTS));
    match random.below(5) {
        // The constraint is deferrable, so that one statement may swap two values.
        0 => vec![format!(
            "UPDATE source.item SET code = CASE id WHEN {one} THEN (SELECT code FROM source.item WHERE id = {two}) \
             ELSE (SELECT code FROM source.item WHERE id = {one}) END WHERE id IN ({one}, {two})"
        )],
        1 => vec![
            format!("UPDATE source.item SET id = 99 WHERE id = {one}"),
            format!("UPDATE source.item SET id = {one} WHERE id = {two}"),
            format!("UPDATE source.item SET id = {two} WHERE id = 99"),
        ],
        2 => vec![
            format!("UPDATE source.item SET code = NULL WHERE code = {code}"),
            format!("UPDATE source.item SET code = {code} WHERE id = {one}"),
        ],
        3 => vec![
            format!("UPDATE source.item SET slot = NULL WHERE lower(slot) = lower({slot})"),
            format!("UPDATE source.item SET slot = {slot} WHERE id = {one}"),
        ],
        _ => vec![
            format!("DELETE FROM source.item WHERE code = {code}"),
            format!("UPDATE source.item SET code = {code} WHERE id = {one}"),
        ],
    }
}

fn owner(random: &mut Random) -> Vec<String> {
    let (id, other, label) = (random.below(3), random.below(3), random.below(9));
    vec![match random.below(5) {
        0 => format!("DELETE FROM source.owner WHERE id = {id}"),
        1 => format!("UPDATE source.owner SET id = {other} WHERE id = {id}"),
        2 => format!("UPDATE source.owner SET label = 'u{label}' WHERE id = {id}"),
        _ => format!(
            "INSERT INTO source.owner VALUES ({id}, 'l{label}') ON CONFLICT (id) DO UPDATE SET label = EXCLUDED.label"
        ),
    }]
}

fn tag(random: &mut Random) -> Vec<String> {
    let (name, other, note) = (random.pick(&TAGS), random.pick(&TAGS), random.pick(&NOTES));
    match random.below(5) {
        0 => vec![format!("DELETE FROM source.tag WHERE name = {name}")],
        1 => vec![format!("UPDATE source.tag SET name = {other} WHERE name = {name}")],
        2 => vec![
            format!("UPDATE source.tag SET note = NULL WHERE note = {note}"),
            format!("UPDATE source.tag SET note = {note} WHERE name = {name}"),
        ],
        3 => vec![format!("INSERT INTO source.tag VALUES ({name}, {note}) ON CONFLICT DO NOTHING")],
        _ => vec![format!("INSERT INTO source.tag VALUES ({name}, {note})")],
    }
}

fn line(random: &mut Random) -> Vec<String> {
    let (item, number, amount) = (random.below(6), random.below(2), random.below(9));
    vec![match random.below(4) {
        0 => format!("DELETE FROM source.line WHERE item = {item}"),
        1 => format!("UPDATE source.line SET number = {number}, amount = {amount} WHERE item = {item}"),
        _ => format!("INSERT INTO source.line VALUES ({item}, {number}, {amount})"),
    }]
}
