//! `extraction.toml`: which tables of a context move, and the SQL that maps them there and back.
//!
//! Invariant: a [`Manifest`] that parsed is consistent in itself (every table has its mapping, every select can be
//! restricted to a set of keys); whether the databases agree with it is for `plan` to find out.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use twox_hash::XxHash3_64;

use crate::flow::{End, Flow};

/// Where a select is restricted to the keys wanted: `{keys u.id}` becomes a condition on `u.id`.
pub const KEYS_OPEN: &str = "{keys ";

/// One extraction: both ends and the mapping in both directions.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    /// The context that moves.
    pub context: String,
    /// The monolith's tables.
    pub source: Tables,
    /// The service's tables.
    pub target: Tables,
    /// How each target table is made from source tables.
    pub mapping: Vec<TableMap>,
    /// How each source table is made from target tables.
    pub inverse: Vec<TableMap>,
}

/// The tables of one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    /// The table with one row per key.
    pub root: String,
    /// Its key column.
    pub key: String,
    /// Its version column: the context's counter at the row's last change.
    pub version: String,
    /// All tables of the context, those that others refer to first.
    pub tables: Vec<String>,
}

/// How one table is made from the tables of the other end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableMap {
    /// The table made.
    pub table: String,
    /// The columns that identify its row; the first holds the root's key.
    pub key: Vec<String>,
    /// All columns made, in the order of the select's.
    pub columns: Vec<String>,
    /// Columns that hold JSON and are compared as such, whatever their blanks.
    pub json: Vec<String>,
    /// The select, with `{keys …}` where it is restricted.
    pub select: String,
}

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The file.
    pub file: PathBuf,
    /// The line, if it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.message),
            None => write!(f, "{}: {}", self.file.display(), self.message),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    context: Spanned<String>,
    source: Spanned<Tables>,
    target: Spanned<Tables>,
    mapping: Vec<Spanned<FileMap>>,
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
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(file).map_err(|error| ManifestError {
            file: file.to_owned(),
            line: None,
            message: format!("cannot read the manifest: {error}; set extractions.CONTEXT.manifest"),
        })?;
        Self::parse(file, &text)
    }

    /// Checks a manifest's text; `file` is only for messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ManifestError> {
        let at = |fault: Fault| ManifestError {
            file: file.to_owned(),
            line: fault.0.map(|span| line_of(text, span.start)),
            message: fault.1,
        };
        let parsed: File =
            toml::from_str(text).map_err(|error| at(Fault(error.span(), error.message().to_owned())))?;
        check(parsed).map_err(at)
    }

    /// The tables of one end.
    pub fn tables(&self, end: End) -> &Tables {
        match end {
            End::Source => &self.source,
            End::Target => &self.target,
        }
    }

    /// The maps that make the tables of `flow.to`, in that end's order of dependency.
    pub fn maps(&self, flow: Flow) -> &[TableMap] {
        self.maps_into(flow.to)
    }

    /// The maps that make the tables of one end out of the other's.
    pub fn maps_into(&self, end: End) -> &[TableMap] {
        match end {
            End::Source => &self.inverse,
            End::Target => &self.mapping,
        }
    }

    /// A hash over everything that decides what the copy looks like; comments and layout of the file do not count.
    pub fn hash(&self) -> String {
        let normal = serde_json::to_vec(self).unwrap_or_default();
        format!("{:016x}", XxHash3_64::oneshot(&normal))
    }
}

impl TableMap {
    /// The column that holds the root's key.
    pub fn root_key(&self) -> &str {
        self.key.first().map_or("", String::as_str)
    }
}

/// What is wrong, with its place in the text.
struct Fault(Option<Range<usize>>, String);

fn fault<T>(at: &Spanned<T>, message: impl Into<String>) -> Fault {
    Fault(Some(at.span()), message.into())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn check(file: File) -> Result<Manifest, Fault> {
    if file.context.get_ref().is_empty() {
        return Err(fault(&file.context, "context must name the context, as flags and routes know it"));
    }
    check_tables(&file.source, "source")?;
    check_tables(&file.target, "target")?;
    Ok(Manifest {
        mapping: check_maps(file.mapping, &file.target, "mapping")?,
        inverse: check_maps(file.inverse, &file.source, "inverse")?,
        context: file.context.into_inner(),
        source: file.source.into_inner(),
        target: file.target.into_inner(),
    })
}

fn check_tables(tables: &Spanned<Tables>, end: &str) -> Result<(), Fault> {
    let Tables { root, tables: all, .. } = tables.get_ref();
    if !all.contains(root) {
        return Err(fault(tables, format!("[{end}] tables must contain the root table {root}")));
    }
    let distinct: BTreeSet<_> = all.iter().collect();
    if distinct.len() != all.len() {
        return Err(fault(tables, format!("[{end}] tables names a table twice")));
    }
    Ok(())
}

/// Checks the maps of one end and brings them into its order of dependency.
fn check_maps(
    maps: Vec<Spanned<FileMap>>,
    tables: &Spanned<Tables>,
    kind: &str,
) -> Result<Vec<TableMap>, Fault> {
    let mut checked: Vec<TableMap> = Vec::new();
    for map in maps {
        let name = map.get_ref().table.get_ref().clone();
        if !tables.get_ref().tables.contains(&name) {
            return Err(fault(&map.get_ref().table, format!("[[{kind}]] {name} is not among the tables")));
        }
        if checked.iter().any(|known| known.table == name) {
            return Err(fault(&map.get_ref().table, format!("[[{kind}]] {name} appears twice")));
        }
        checked.push(check_map(map, tables.get_ref(), kind)?);
    }
    let mut ordered = Vec::new();
    for table in &tables.get_ref().tables {
        let Some(position) = checked.iter().position(|map| &map.table == table) else {
            return Err(fault(tables, format!("table {table} has no [[{kind}]]")));
        };
        ordered.push(checked.swap_remove(position));
    }
    Ok(ordered)
}

fn check_map(map: Spanned<FileMap>, tables: &Tables, kind: &str) -> Result<TableMap, Fault> {
    let span = map.span();
    let map = map.into_inner();
    let table = map.table.into_inner();
    let mut seen = BTreeSet::new();
    for column in &map.columns {
        if !seen.insert(column.get_ref().clone()) {
            return Err(fault(column, format!("[[{kind}]] {table} names column {} twice", column.get_ref())));
        }
    }
    for column in map.key.iter().chain(&map.json) {
        if !seen.contains(column.get_ref()) {
            let name = column.get_ref();
            return Err(fault(column, format!("[[{kind}]] {table}: {name} is not among its columns")));
        }
    }
    if map.key.is_empty() {
        return Err(Fault(Some(span), format!("[[{kind}]] {table} needs a key")));
    }
    if !map.select.get_ref().contains(KEYS_OPEN) {
        let message = format!(
            "[[{kind}]] {table}: the select must be restricted with {{keys COLUMN}}, COLUMN being the root's key"
        );
        return Err(fault(&map.select, message));
    }
    if map.select.get_ref().contains(';') {
        return Err(fault(
            &map.select,
            format!("[[{kind}]] {table}: the select must be one statement, without ;"),
        ));
    }
    let plain = |names: Vec<Spanned<String>>| names.into_iter().map(Spanned::into_inner).collect::<Vec<_>>();
    let key = plain(map.key);
    if table == tables.root && (key != [tables.key.clone()] || !seen.contains(&tables.version)) {
        let Tables { key, version, .. } = tables;
        let message = format!(
            "[[{kind}]] {table} is the root: its key must be [\"{key}\"], its columns have {version}"
        );
        return Err(Fault(Some(span), message));
    }
    let select = map.select.get_ref().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    let (columns, json) = (plain(map.columns), plain(map.json));
    Ok(TableMap { table, key, columns, json, select: select.trim().to_owned() })
}
