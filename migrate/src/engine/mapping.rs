//! What is copied: one stream per context and direction, one mapping per table that is filled.
//!
//! Invariant: a mapping says everything that backfill, catch-up, verify and the way back need; none of them has SQL of
//! its own about somebody's tables.

use serde::Serialize;
use twox_hash::XxHash3_64;

/// All mappings of a context in one direction, with one position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Its name: the context's, with `.back` behind it for the way back.
    pub name: String,
    /// Tables that others refer to come first; on the way back last, unless an inverse joins what another one begins with: of what
    /// is written first is judged by what the others have not written yet.
    pub mappings: Vec<Mapping>,
    /// On the way back: the mappings of the way there, by which is told what nobody touched. Else empty.
    pub forward: Vec<Mapping>,
}

/// How one table is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// The table filled, as the target's SQL names it (`person`, `public.person`).
    pub table: String,
    /// The columns that identify its row there: unique and never null.
    pub key: Vec<String>,
    /// All columns filled, in the order of the select's. Others are the target's own and are never touched.
    pub columns: Vec<String>,
    /// The filled columns that hold the source key, in its order; rows of one source key are found by them. Empty: the
    /// table does not hold it, so a key map is kept at the target, and the select yields the source key's columns
    /// first, in front of [`Mapping::columns`].
    pub carries: Vec<String>,
    /// The select in the source's dialect, with `{keys A, B}` wherever it is restricted; A, B are expressions for the
    /// source key's columns. It must read the same from the same rows: no clock, no random number, no sequence.
    pub select: String,
    /// The table with one row per source key.
    pub root: String,
    /// The source key: columns of [`Mapping::root`], unique and never null.
    pub root_key: Vec<String>,
    /// Other tables that the select reads.
    pub joins: Vec<Join>,
}

/// A table that a mapping's select reads beside its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Join {
    /// The table.
    pub table: String,
    /// Columns whose old and new values are logged when one of its rows changes.
    pub columns: Vec<String>,
    /// Finds the source keys that logged values concern: a select in the source's dialect with `{values A, B}` where
    /// it is restricted to them. Nothing: the columns hold the source key itself. It runs when the log is read, not
    /// when it is written: only a later snapshot sees a row that was inserted by a transaction still open then.
    pub keys: Option<String>,
}

impl Stream {
    /// The stream of the same context in the other direction. Its capture must not log what this one writes, else each would
    /// bring back to the other what came from there; every other stream's must, as to those it is a change like any.
    pub fn opposite(name: &str) -> String {
        name.strip_suffix(".back").map_or_else(|| format!("{name}.back"), str::to_owned)
    }

    /// A hash over everything that decides what the copy looks like.
    pub fn hash(&self) -> String {
        let normal = match self.forward.as_slice() {
            [] => serde_json::to_vec(&self.mappings),
            forward => serde_json::to_vec(&(&self.mappings, forward)),
        };
        let normal = normal.unwrap_or_default();
        format!("{:016x}", XxHash3_64::oneshot(&normal))
    }

    /// The command line of a command about this stream, for messages.
    pub fn command(&self, words: &str) -> String {
        match self.name.strip_suffix(".back") {
            Some(context) => format!("migrate {words} {context} --back"),
            None => format!("migrate {words} {}", self.name),
        }
    }

    /// The commands that begin anew where changes may have gone unlogged.
    pub fn anew(&self) -> String {
        let (install, again) = (self.command("capture install"), self.command("backfill"));
        format!("run `{install}`, then `{again} --again`, then `{}`", self.command("run"))
    }

    /// Tables that capture must watch, each with the columns to log, once per table: the union of what its mappings need.
    pub fn captured(&self) -> Vec<(String, Vec<String>)> {
        let mut tables: Vec<(String, Vec<String>)> = Vec::new();
        for (table, columns) in self.mappings.iter().flat_map(Mapping::watched) {
            let entry = match tables.iter_mut().find(|(known, _)| known == table) {
                Some(entry) => entry,
                None => {
                    tables.push((table.to_owned(), Vec::new()));
                    let Some(entry) = tables.last_mut() else { continue };
                    entry
                }
            };
            for column in columns {
                if !entry.1.contains(column) {
                    entry.1.push(column.clone());
                }
            }
        }
        tables
    }
}

impl Mapping {
    fn watched(&self) -> impl Iterator<Item = (&str, &[String])> {
        let root = std::iter::once((self.root.as_str(), self.root_key.as_slice()));
        root.chain(self.joins.iter().map(|join| (join.table.as_str(), join.columns.as_slice())))
    }

    /// Whether a key map is kept for it at the target.
    pub fn needs_key_map(&self) -> bool {
        self.carries.is_empty()
    }
}
