//! The way back leaves alone what nobody touched: a row of which the way there still makes what the service holds.
//!
//! An inverse may lose something that the monolith keeps: letters' case, microseconds. It would put that over every row, also where
//! nothing changed. So before a batch is written, the forward mappings say what they make of the rows as they are.
//!
//! Invariant: a key is left out of a batch only if, read behind the batch's snapshot, every forward mapping that fills a table
//! which the inverse reads makes of it exactly what that table holds. Whoever changes the key later leaves a log row, so catch-up
//! comes to it; nobody else writes the monolith's tables meanwhile.
//!
//! Where the service holds nothing of a key, a forward mapping may make nothing of a row only because what it joins was removed
//! first. So what it joins is removed last ([`Stream::mappings`]), and where it went in an earlier batch, the log decides: a row
//! that the service's application deleted was there. One that never went there has no log row of its own.

mod rehearsal;

use std::collections::{BTreeMap, HashSet};

use super::compare::{Cells, CompareSource, CompareTarget as _, ShownRow, TableRead};
use super::driver::{Batch, Bound, Driver, Position, Rows as _, Source as _};
use super::mapping::{Join, Mapping, Stream};
use super::select_text::takes_every_row;
use crate::error::MigrateError;

pub(crate) use rehearsal::rehearse;

/// Keys per question.
const AT_ONCE: usize = 500;

/// Both databases as the way there sees them.
pub struct WayBack<D: Driver> {
    /// Says what the forward mappings make.
    monolith: D::Source,
    /// Says what their tables hold.
    service: D::Target,
    /// Per inverse mapping that is judged: the table it fills, and the forward mappings that judge it.
    judged: Vec<(String, Vec<Mapping>)>,
}

impl<D: Driver> WayBack<D> {
    /// Nothing where the stream is no way back, or none of its mappings can be judged.
    pub fn open(driver: &D, stream: &Stream) -> Result<Option<Self>, MigrateError> {
        let mut judged = Vec::new();
        for (mapping, judges) in verdicts(driver, stream)? {
            if let Ok(judges) = judges {
                judged.push((mapping.table.clone(), judges));
            }
        }
        if judged.is_empty() {
            return Ok(None);
        }
        let there = driver.reversed();
        Ok(Some(Self { monolith: there.source()?, service: there.target()?, judged }))
    }

    /// The batch without keys whose rows are to be left alone, read anew in the same snapshot. `logged`: its keys have log rows
    /// behind that position, none for a whole table.
    pub fn sift(
        &mut self,
        source: &mut D::Source,
        mapping: &Mapping,
        batch: Batch<D::Rows>,
        logged: Option<&Position>,
    ) -> Result<Batch<D::Rows>, MigrateError> {
        if batch.keys.is_empty() || !self.judges(mapping) {
            return Ok(batch);
        }
        let keys = source.bounds(mapping, &batch.keys)?;
        let Verdict { mut outdated, absent } = self.judge(mapping, &keys)?;
        if let Some(since) = logged {
            outdated.extend(logged_itself(source, mapping, since, absent)?);
        }
        if outdated.len() == keys.len() {
            return Ok(batch);
        }
        let keys = source.keys(mapping, &outdated)?;
        source.rows_of(mapping, &keys)
    }

    /// Of some keys, those of which the forward mappings do not make what the service holds. Where a mapping cannot be judged: all.
    pub fn outdated(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Vec<Bound>, MigrateError> {
        self.judge(mapping, keys).map(|verdict| verdict.outdated)
    }

    fn judge(&mut self, mapping: &Mapping, keys: &[Bound]) -> Result<Verdict, MigrateError> {
        let Some((_, judges)) = self.judged.iter().find(|(table, _)| *table == mapping.table) else {
            return Ok(Verdict { outdated: keys.to_vec(), absent: Vec::new() });
        };
        let tells_absence = judges.iter().any(|forward| forward.table == mapping.root);
        let mut verdict = Verdict::default();
        for keys in keys.chunks(AT_ONCE) {
            let (mut differ, mut present) = (HashSet::new(), HashSet::new());
            for forward in judges {
                let (made, held) =
                    (self.monolith.show(forward, keys)?, self.service.show(forward, keys, Cells::Cut)?);
                if forward.table == mapping.root {
                    present.extend(held.iter().map(|row| row.key.clone()));
                }
                differ.extend(differing(keys, made, held));
            }
            let (outdated, equal): (Vec<_>, Vec<_>) =
                keys.iter().cloned().partition(|key| differ.contains(key));
            verdict.outdated.extend(outdated);
            verdict.absent.extend(equal.into_iter().filter(|key| tells_absence && !present.contains(key)));
        }
        Ok(verdict)
    }

    fn judges(&self, mapping: &Mapping) -> bool {
        self.judged.iter().any(|(table, _)| *table == mapping.table)
    }
}

/// What the forward mappings say of some keys.
#[derive(Default)]
struct Verdict {
    /// They do not make of them what the service holds.
    outdated: Vec<Bound>,
    /// They make nothing of them, and the inverse's root does not hold them.
    absent: Vec<Bound>,
}

/// Those of a batch's keys that its mapping's root logged itself, not a table that it is joined with.
fn logged_itself<S: CompareSource>(
    source: &mut S,
    mapping: &Mapping,
    since: &Position,
    keys: Vec<Bound>,
) -> Result<Vec<Bound>, MigrateError> {
    if mapping.joins.is_empty() || keys.is_empty() {
        return Ok(keys);
    }
    let alone = Mapping { joins: Vec::new(), ..mapping.clone() };
    source.dirty_among(&alone, since, &keys)
}

/// Says in the log which tables are written row by row whether they changed or not.
pub(super) fn warn<D: Driver>(driver: &D, stream: &Stream) -> Result<(), MigrateError> {
    for (mapping, judges) in verdicts(driver, stream)? {
        if let Err(why) = judges {
            tracing::warn!("{}", unjudged(mapping, &why));
        }
    }
    Ok(())
}

fn unjudged(mapping: &Mapping, why: &str) -> String {
    format!("every row of {} is written as the inverse makes it, changed or not: {why}", mapping.table)
}

/// Per inverse mapping: the forward mappings that judge it, or why none can.
type Judges<'a> = (&'a Mapping, Result<Vec<Mapping>, String>);

fn verdicts<'a, D: Driver>(driver: &D, stream: &'a Stream) -> Result<Vec<Judges<'a>>, MigrateError> {
    if stream.forward.is_empty() {
        return Ok(Vec::new());
    }
    let mut source = driver.source()?;
    let verdict = |mapping: &'a Mapping| {
        let reads = source.reads(mapping)?;
        Ok((mapping, judges(mapping, &stream.forward, &reads)))
    };
    stream.mappings.iter().map(verdict).collect()
}

/// The forward mappings that say whether a row of the inverse's is up to date: those of every table that it reads. They can only
/// say so if they fill all that it reads there, and find the rows that it fills by the key that both sides hold.
fn judges(inverse: &Mapping, forward: &[Mapping], reads: &[TableRead]) -> Result<Vec<Mapping>, String> {
    if inverse.needs_key_map() {
        return Err(
            "it keeps a key map, so nothing tells which rows of the two sides belong together".to_owned()
        );
    }
    if reads.is_empty() {
        return Err("its select reads no table".to_owned());
    }
    reads.iter().map(|read| judge(inverse, forward, read).cloned()).collect()
}

fn judge<'a>(
    inverse: &Mapping,
    forward: &'a [Mapping],
    TableRead { table, columns }: &TableRead,
) -> Result<&'a Mapping, String> {
    let Some(fills) = forward.iter().find(|mapping| mapping.table == *table) else {
        return Err(format!("it reads {table}, which no [[mapping]] fills"));
    };
    let filled = |column: &&String| fills.columns.iter().any(|name| name.eq_ignore_ascii_case(column));
    if let Some(column) = columns.iter().find(|column| !filled(column)) {
        return Err(format!("it reads {table}.{column}, which no [[mapping]] fills"));
    }
    if fills.needs_key_map() {
        return Err(format!(
            "the [[mapping]] of {table} keeps a key map, so its rows are not found by their source key"
        ));
    }
    if !finds_by(fills, &inverse.table, &inverse.carries) {
        return Err(format!(
            "the [[mapping]] of {table} does not read {} by ({})",
            inverse.table,
            inverse.carries.join(", ")
        ));
    }
    let by_key = |join: &&Join| join.columns == fills.carries && keeps_key(inverse, join);
    if inverse.joins.iter().filter(|join| join.table == *table).any(|join| !by_key(&join)) {
        return Err(format!("what it makes of one key depends on rows of {table} with others"));
    }
    Ok(fills)
}

/// Whether rows of the table that an inverse fills may be known to no forward mapping: then the way back never touches them.
pub fn leaves_rows(inverse: &Mapping, forward: &[Mapping]) -> bool {
    let takes_all = |mapping: &Mapping| {
        let reads = mapping.root == inverse.table || finds_by(mapping, &inverse.table, &inverse.carries);
        reads && takes_every_row(&mapping.select, &mapping.root)
    };
    !forward.is_empty() && !forward.iter().any(takes_all)
}

/// Whether these columns of a table that a mapping reads are its source key.
fn finds_by(mapping: &Mapping, table: &str, columns: &[String]) -> bool {
    let is_root = mapping.root == table && mapping.root_key == columns;
    let joined = |join: &Join| join.table == table && join.columns == columns && keeps_key(mapping, join);
    !columns.is_empty() && (is_root || mapping.joins.iter().any(joined))
}

/// Whether a join's columns hold the source key itself: it has no select of keys, or one that only looks the key up in the root.
fn keeps_key(mapping: &Mapping, join: &Join) -> bool {
    let Some(keys) = &join.keys else { return true };
    let (key, root) = (mapping.root_key.join(","), &mapping.root);
    let plain = |text: &str| {
        let plain = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '"');
        plain.collect::<String>().replace("source.", "").replace("target.", "")
    };
    plain(keys).eq_ignore_ascii_case(&plain(&format!("SELECT {key} FROM {root} WHERE {{values {key}}}")))
}

/// Keys whose rows differ. All, if an end answers in another spelling of keys than it was asked in.
fn differing(keys: &[Bound], made: Vec<ShownRow>, held: Vec<ShownRow>) -> Vec<Bound> {
    type Values = Vec<Vec<Option<String>>>;
    let mut rows: BTreeMap<Bound, (Values, Values)> = BTreeMap::new();
    let asked: HashSet<&Bound> = keys.iter().collect();
    if made.iter().chain(&held).any(|row| !asked.contains(&row.key)) {
        return keys.to_vec();
    }
    made.into_iter().for_each(|row| rows.entry(row.key).or_default().0.push(row.values));
    held.into_iter().for_each(|row| rows.entry(row.key).or_default().1.push(row.values));
    let differ = rows.into_iter().filter_map(|(key, (mut made, mut held))| {
        made.sort_unstable();
        held.sort_unstable();
        (made != held).then_some(key)
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn mapping(table: &str, columns: &[&str], root: &str, root_key: &str) -> Mapping {
        let key = names(&columns[..1]);
        Mapping {
            table: table.to_owned(),
            key: key.clone(),
            columns: names(columns),
            carries: key,
            select: String::new(),
            root: root.to_owned(),
            root_key: names(&[root_key]),
            joins: Vec::new(),
        }
    }

    fn read(table: &str, columns: &[&str]) -> TableRead {
        TableRead { table: table.to_owned(), columns: names(columns) }
    }

    /// Which forward mappings judge, or why none does.
    fn verdict(inverse: &Mapping, forward: &[Mapping], reads: &[TableRead]) -> String {
        match judges(inverse, forward, reads) {
            Ok(judges) => judges.into_iter().map(|judge| judge.table).collect::<Vec<_>>().join(" "),
            Err(why) => why,
        }
    }

    #[test]
    fn an_inverse_is_judged_by_the_mappings_of_all_that_it_reads() {
        let back = mapping("owner", &["id", "name"], "person", "pid");
        let (person, phone) = (
            mapping("person", &["pid", "name"], "owner", "id"),
            mapping("phone", &["pid", "value"], "owner", "id"),
        );
        let forward = [person, phone];
        let reads = [read("person", &["pid", "NAME"]), read("phone", &["value"])];
        assert_eq!(verdict(&back, &forward, &reads), "person phone");
        assert_eq!(verdict(&back, &forward[..1], &reads), "it reads phone, which no [[mapping]] fills");
        let unfilled = [read("person", &["pid", "note"])];
        assert_eq!(verdict(&back, &forward, &unfilled), "it reads person.note, which no [[mapping]] fills");
    }

    #[test]
    fn an_inverse_whose_rows_the_mapping_finds_by_another_key_is_not_judged() {
        let back = mapping("owner", &["id", "name"], "person", "pid");
        let reads = [read("person", &["pid"])];
        let said = |forward: Mapping| verdict(&back, &[forward], &reads);
        let other_key = mapping("person", &["pid"], "owner", "code");
        assert_eq!(said(other_key), "the [[mapping]] of person does not read owner by (id)");
        let mut joined = mapping("person", &["pid"], "keeper", "kid");
        assert_eq!(said(joined.clone()), "the [[mapping]] of person does not read owner by (id)");
        let join = |keys: Option<&str>| {
            vec![Join { table: "owner".to_owned(), columns: names(&["id"]), keys: keys.map(str::to_owned) }]
        };
        joined.joins = join(Some("SELECT kid FROM keeper WHERE {values owner_id}"));
        assert_eq!(said(joined.clone()), "the [[mapping]] of person does not read owner by (id)");
        for keys in [None, Some("SELECT kid\n FROM \"keeper\" WHERE {values kid}")] {
            joined.joins = join(keys);
            assert_eq!(said(joined.clone()), "person");
        }
        let mapped = Mapping { carries: Vec::new(), ..mapping("person", &["pid"], "owner", "id") };
        assert!(said(mapped).starts_with("the [[mapping]] of person keeps a key map"));
        let back = Mapping { carries: Vec::new(), ..back.clone() };
        let forward = mapping("person", &["pid"], "owner", "id");
        assert!(verdict(&back, &[forward], &reads).starts_with("it keeps a key map"));
    }

    #[test]
    fn an_inverse_that_reads_rows_of_other_keys_is_not_judged() {
        let forward = [mapping("person", &["pid", "boss"], "owner", "id")];
        let said = |columns: &[&str], keys: Option<&str>| {
            let (columns, keys) = (names(columns), keys.map(str::to_owned));
            let join = Join { table: "person".to_owned(), columns, keys };
            let back = Mapping { joins: vec![join], ..mapping("owner", &["id", "boss"], "person", "pid") };
            verdict(&back, &forward, &[read("person", &["pid", "boss"])])
        };
        let others = "what it makes of one key depends on rows of person with others";
        assert_eq!(said(&["pid"], Some("SELECT pid FROM person WHERE {values boss}")), others);
        assert_eq!(said(&["boss"], None), others);
        assert_eq!(said(&["pid"], None), "person");
        assert_eq!(said(&["pid"], Some("SELECT pid FROM target.person WHERE {values pid}")), "person");
    }

    #[test]
    fn keys_in_another_spelling_than_asked_count_as_outdated() {
        let keys = [Bound("1".to_owned()), Bound("2".to_owned())];
        let row = |key: &str, value: &str| ShownRow {
            key: Bound(key.to_owned()),
            values: vec![Some(value.to_owned())],
            bytes: 1,
        };
        let rows = || vec![row("1", "a"), row("1", "b")];
        assert_eq!(differing(&keys, rows(), vec![row("1", "b"), row("1", "a")]), []);
        assert_eq!(differing(&keys, rows(), vec![row("1", "b")]), keys[..1]);
        assert_eq!(differing(&keys, rows(), vec![row("1.0", "b"), row("1", "a")]), keys);
    }
}
