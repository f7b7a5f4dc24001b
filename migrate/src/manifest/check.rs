//! The file as it is written, and the checks that make a [`Manifest`] of it.
//!
//! Invariant: every fault names its place in the file; defaults are filled in here and nowhere else.

use std::collections::BTreeSet;
use std::ops::Range;

use control::check_context_name;
use serde::Deserialize;
use toml::Spanned;

use super::{KEYS_OPEN, Manifest, TableMap, Tables};
use crate::engine::Join;
use crate::engine::select_text::loosened;

/// Where a join's select is restricted to values that were logged.
const VALUES_OPEN: &str = "{values ";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    context: Spanned<String>,
    source: Option<Spanned<Tables>>,
    target: Option<Spanned<Tables>>,
    #[serde(default)]
    mapping: Vec<Spanned<FileMap>>,
    #[serde(default)]
    inverse: Vec<Spanned<FileMap>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMap {
    table: Spanned<String>,
    key: Vec<Spanned<String>>,
    columns: Vec<Spanned<String>>,
    #[serde(default)]
    json: Vec<Spanned<String>>,
    select: Spanned<String>,
    from: Option<Spanned<String>>,
    from_key: Option<Spanned<Vec<String>>>,
    carries: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    join: Vec<Spanned<FileJoin>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileJoin {
    table: String,
    columns: Spanned<Vec<String>>,
    keys: Option<Spanned<String>>,
}

/// What is wrong, with its place in the text.
pub(super) struct Fault(pub(super) Option<Range<usize>>, pub(super) String);

fn fault<T>(at: &Spanned<T>, message: impl Into<String>) -> Fault {
    Fault(Some(at.span()), message.into())
}

/// One kind of mapping: the end that it fills, the end that it reads, and whether dual-write will use it.
struct Kind<'a> {
    name: &'a str,
    fills: &'a End,
    reads: &'a End,
    versions: bool,
}

/// One end's part of the file, with the name of its table there.
struct End {
    name: &'static str,
    tables: Tables,
    span: Option<Range<usize>>,
}

impl End {
    fn new(name: &'static str, given: Option<Spanned<Tables>>) -> Self {
        let span = given.as_ref().map(Spanned::span);
        Self { name, tables: given.map(Spanned::into_inner).unwrap_or_default(), span }
    }

    fn fault(&self, message: String) -> Fault {
        Fault(self.span.clone(), message)
    }
}

pub(super) fn check(file: File) -> Result<Manifest, Fault> {
    check_context_name(file.context.get_ref()).map_err(|message| fault(&file.context, message))?;
    if file.mapping.is_empty() {
        return Err(fault(&file.context, "there is no [[mapping]]: nothing would be copied"));
    }
    let (source, target) = (End::new("source", file.source), End::new("target", file.target));
    let versions = [&source, &target].iter().any(|end| !end.tables.version.is_empty());
    check_end(&source, versions)?;
    check_end(&target, versions)?;
    let forward = Kind { name: "mapping", fills: &target, reads: &source, versions };
    let back = Kind { name: "inverse", fills: &source, reads: &target, versions };
    Ok(Manifest {
        mapping: check_maps(file.mapping, &forward)?,
        inverse: check_maps(file.inverse, &back)?,
        context: file.context.into_inner(),
        source: source.tables,
        target: target.tables,
    })
}

fn check_end(end: &End, versions: bool) -> Result<(), Fault> {
    let (name, Tables { root, key, version, tables }) = (end.name, &end.tables);
    if versions {
        let missing = [("root", root.is_empty()), ("key", key.is_empty()), ("version", version.is_empty())];
        if let Some((field, _)) = missing.into_iter().find(|(_, empty)| *empty) {
            let message = format!("[{name}] needs {field}: an extraction by dual-write says it of both ends");
            return Err(end.fault(message));
        }
    }
    if (versions || !tables.is_empty()) && !root.is_empty() && !tables.contains(root) {
        return Err(end.fault(format!("[{name}] tables must contain the root table {root}")));
    }
    let distinct: BTreeSet<_> = tables.iter().collect();
    if distinct.len() != tables.len() {
        return Err(end.fault(format!("[{name}] tables names a table twice")));
    }
    Ok(())
}

/// Checks the maps of one kind and brings them into the filled end's order of dependency.
fn check_maps(maps: Vec<Spanned<FileMap>>, kind: &Kind<'_>) -> Result<Vec<TableMap>, Fault> {
    let (name, tables) = (kind.name, &kind.fills.tables.tables);
    let mut checked: Vec<TableMap> = Vec::new();
    for map in maps {
        let table = map.get_ref().table.clone();
        if !tables.is_empty() && !tables.contains(table.get_ref()) {
            return Err(fault(&table, format!("[[{name}]] {} is not among the tables", table.get_ref())));
        }
        if checked.iter().any(|known| &known.table == table.get_ref()) {
            return Err(fault(&table, format!("[[{name}]] {} appears twice", table.get_ref())));
        }
        checked.push(check_map(map, kind)?);
    }
    if tables.is_empty() || (checked.is_empty() && !kind.versions) {
        return Ok(checked);
    }
    let mut ordered = Vec::new();
    for table in tables {
        let Some(position) = checked.iter().position(|map| &map.table == table) else {
            return Err(kind.fills.fault(format!("table {table} has no [[{name}]]")));
        };
        ordered.push(checked.swap_remove(position));
    }
    Ok(ordered)
}

fn check_map(map: Spanned<FileMap>, kind: &Kind<'_>) -> Result<TableMap, Fault> {
    let span = map.span();
    let map = map.into_inner();
    let place = format!("[[{}]] {}", kind.name, map.table.get_ref());
    check_columns(&map, &place)?;
    if map.key.is_empty() {
        return Err(Fault(Some(span), format!("{place} needs a key")));
    }
    let whole = Fault(Some(span.clone()), String::new());
    let (from, from_key) = origin(&map, kind, &place, whole)?;
    check_select(&map.select, &place, from_key.len())?;
    let plain = |names: Vec<Spanned<String>>| names.into_iter().map(Spanned::into_inner).collect::<Vec<_>>();
    let (key, columns, json) = (plain(map.key), plain(map.columns), plain(map.json));
    let root = &kind.fills.tables;
    let is_root = kind.versions && *map.table.get_ref() == root.root;
    if is_root && (key != [root.key.clone()] || !columns.contains(&root.version)) {
        let Tables { key, version, .. } = root;
        let message = format!("{place} is the root: its key must be [\"{key}\"], its columns have {version}");
        return Err(Fault(Some(span), message));
    }
    let carries = carried(map.carries, &key, &columns, from_key.len(), &place, span)?;
    let joins = map
        .join
        .into_iter()
        .map(|join| check_join(join, &place, from_key.len()))
        .collect::<Result<Vec<_>, _>>()?;
    let (table, select) = (map.table.into_inner(), tidy(map.select.get_ref()));
    Ok(TableMap { table, key, columns, json, select, from, from_key, carries, joins })
}

fn check_columns(map: &FileMap, place: &str) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for column in &map.columns {
        if !seen.insert(column.get_ref()) {
            return Err(fault(column, format!("{place} names column {} twice", column.get_ref())));
        }
    }
    match map.key.iter().chain(&map.json).find(|column| !seen.contains(column.get_ref())) {
        Some(column) => Err(fault(column, format!("{place}: {} is not among its columns", column.get_ref()))),
        None => Ok(()),
    }
}

/// The table that the map reads and its key, said in the map or by the end that is read.
fn origin(map: &FileMap, kind: &Kind<'_>, place: &str, whole: Fault) -> Result<(String, Vec<String>), Fault> {
    let (end, given) = (&kind.reads.name, &kind.reads.tables);
    let from = map.from.as_ref().map_or(&given.root, |from| from.get_ref());
    if from.is_empty() {
        return Err(Fault(whole.0, format!("{place} needs from = \"TABLE\", or [{end}] root = \"TABLE\"")));
    }
    if let Some(key) = &map.from_key {
        if key.get_ref().is_empty() {
            return Err(fault(key, format!("{place}: from_key must name the key of {from}")));
        }
        return Ok((from.clone(), key.get_ref().clone()));
    }
    if given.key.is_empty() || (map.from.is_some() && *from != given.root) {
        return Err(Fault(whole.0, format!("{place} needs from_key, the key columns of {from}")));
    }
    Ok((from.clone(), vec![given.key.clone()]))
}

fn check_select(select: &Spanned<String>, place: &str, columns: usize) -> Result<(), Fault> {
    let text = select.get_ref();
    if !text.contains(KEYS_OPEN) {
        let message = format!(
            "{place}: the select must be restricted with {{keys COLUMN}}, COLUMN being the root's key"
        );
        return Err(fault(select, message));
    }
    if has_semicolon(text) {
        return Err(fault(select, format!("{place}: the select must be one statement, without ;")));
    }
    if let Some(word) = loosened(text, "keys") {
        let message = format!(
            "{place}: {word} lets the select take rows that do not meet {{keys …}}: join it to the other conditions with AND, \
             and put those that have {word} into parentheses"
        );
        return Err(fault(select, message));
    }
    match places(text, KEYS_OPEN).find(|found| *found != columns) {
        Some(found) => Err(fault(
            select,
            format!(
                "{place}: {{keys …}} names {found} expressions, but the key of its root has {columns} columns"
            ),
        )),
        None => Ok(()),
    }
}

/// Outside names and texts in quotes.
fn has_semicolon(text: &str) -> bool {
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(begun), letter) if begun == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, ';') => return true,
            _ => {}
        }
    }
    false
}

/// How many expressions stand in each of the places that `open` begins.
fn places(text: &str, open: &str) -> impl Iterator<Item = usize> {
    text.split(open).skip(1).map(|rest| {
        let (mut depth, mut count) = (0_i32, 1);
        for letter in rest.chars() {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 => count += 1,
                '}' => break,
                _ => {}
            }
        }
        count
    })
}

fn carried(
    given: Option<Spanned<Vec<String>>>,
    key: &[String],
    columns: &[String],
    wanted: usize,
    place: &str,
    span: Range<usize>,
) -> Result<Vec<String>, Fault> {
    let Some(given) = given else {
        return key.get(..wanted).map(<[String]>::to_vec).ok_or_else(|| {
            let message = format!(
                "{place}: the source key has {wanted} columns, its own key fewer: say with carries which columns hold the \
                 source key, or carries = [] if none do"
            );
            Fault(Some(span), message)
        });
    };
    if let Some(column) = given.get_ref().iter().find(|column| !columns.contains(column)) {
        return Err(fault(&given, format!("{place}: {column} is not among its columns")));
    }
    if !given.get_ref().is_empty() && given.get_ref().len() != wanted {
        let message =
            format!("{place}: carries must name {wanted} columns, as many as the source key has, or none");
        return Err(fault(&given, message));
    }
    Ok(given.into_inner())
}

fn check_join(join: Spanned<FileJoin>, place: &str, wanted: usize) -> Result<Join, Fault> {
    let FileJoin { table, columns, keys } = join.into_inner();
    let count = columns.get_ref().len();
    let restricted = keys.as_ref().map(|keys| places(keys.get_ref(), VALUES_OPEN).collect::<Vec<_>>());
    let message = match &restricted {
        _ if count == 0 => "columns must name the columns that the select joins by".to_owned(),
        None if count != wanted => format!(
            "its {count} columns cannot be the source key, which has {wanted}: add keys, a select of the source keys with {{values …}}"
        ),
        Some(found) if found.is_empty() => "keys must be restricted with {values COLUMN, …}".to_owned(),
        Some(found) if found.iter().any(|found| *found != count) => {
            format!("{{values …}} must name {count} expressions, one for each of its columns")
        }
        // With OR the keys are more than need be, which does no harm, or those of several columns.
        Some(_) if keys.as_ref().is_some_and(|keys| loosened(keys.get_ref(), "values") == Some("NOT")) => {
            "NOT lets its keys be those of all values but {values …}".to_owned()
        }
        _ => {
            return Ok(Join {
                table,
                columns: columns.into_inner(),
                keys: keys.map(|keys| tidy(keys.get_ref())),
            });
        }
    };
    Err(fault(&columns, format!("{place}: join {table}: {message}")))
}

fn tidy(select: &str) -> String {
    select.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
}
