//! What is seen of both ends before anything is copied: sizes, columns, the time that a copy takes, and findings.
//!
//! Invariant: a survey changes nothing at either end, and goes on behind what stands in the way, so that one survey tells
//! all of it.

use std::fmt;

use serde::Serialize;

use super::driver::Driver;
use super::mapping::{Join, Stream};
use crate::error::MigrateError;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It was looked at, and is as it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It may go wrong.
    Warning,
    /// The copy would be refused, would stop, or would not be equal.
    Problem,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// Where: an end, a table, a mapping.
    pub place: String,
    /// What.
    pub what: String,
    /// What to do about it; empty if nothing is to be done.
    pub remedy: String,
}

/// An end of a stream; on the way back the monolith's database is the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is read.
    Source,
    /// It is filled.
    Target,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// How many rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// All of small tables, the first few thousand keys of larger ones.
    Sample,
    /// All.
    Whole,
}

impl Depth {
    /// Keys of a larger table that a sample looks at.
    pub const SAMPLE: u64 = 5_000;
    /// Rows up to which a table is small enough to be read as a whole.
    pub const SMALL: u64 = 100_000;

    /// How many keys of a table are looked at; nothing: all.
    pub fn limit(self, rows: u64) -> Option<u64> {
        (self == Self::Sample && rows > Self::SMALL).then_some(Self::SAMPLE)
    }
}

/// A table's size, roughly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableSize {
    /// Its end.
    pub end: Role,
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// What becomes of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// A column passes as it is.
    Carried,
    /// The select makes it of something, or makes something of it.
    Computed,
    /// The mapping does not fill it; or no mapping reads it.
    LeftOut,
}

/// A column of a filled table; or one of a source table that is not carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnFate {
    /// Its end.
    pub end: Role,
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Its type as declared.
    pub declared: String,
    /// What becomes of it.
    pub fate: Fate,
    /// What it is filled from: the source's column and type; empty if there is none.
    pub from: String,
}

/// A sample read of what a mapping makes, and what follows from its pace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleRead {
    /// The table filled.
    pub table: String,
    /// Rows read.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took.
    pub micros: u64,
    /// Source keys expected.
    pub keys: u64,
    /// Seconds that reading all of them takes one worker at this pace; writing is not measured.
    pub seconds: u64,
    /// Bytes that one write of the application adds to the log.
    pub log_bytes: u64,
}

impl SampleRead {
    /// Computes the seconds from a sample of `sampled` keys.
    pub fn of(table: &str, keys: u64, sampled: u64, (rows, bytes, micros): (u64, u64, u64)) -> Self {
        let seconds = u128::from(micros) * u128::from(keys) / u128::from(sampled.max(1)) / 1_000_000;
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).saturating_add(1);
        Self { table: table.to_owned(), rows, bytes, micros, keys, seconds, log_bytes: 0 }
    }
}

/// Everything seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Survey {
    /// Sizes.
    pub tables: Vec<TableSize>,
    /// Columns.
    pub columns: Vec<ColumnFate>,
    /// Sample reads.
    pub reads: Vec<SampleRead>,
    /// Findings, in the order of looking.
    pub findings: Vec<Finding>,
}

impl Survey {
    /// Adds a finding.
    pub fn add(
        &mut self,
        level: Level,
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (place, what, remedy) = (place.into(), what.into(), remedy.into());
        let finding = Finding { level, place, what, remedy };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Turns a refusal into a problem and goes on; whatever else failed ends the survey.
    pub fn take<T>(
        &mut self,
        place: &str,
        looked: Result<T, MigrateError>,
    ) -> Result<Option<T>, MigrateError> {
        match looked {
            Ok(found) => Ok(Some(found)),
            Err(MigrateError::Refused { reason, remedy }) => {
                self.add(Level::Problem, place, reason, remedy);
                Ok(None)
            }
            Err(MigrateError::Usage(reason)) => {
                self.add(Level::Problem, place, reason, "correct the mapping");
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// How many findings are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// A driver that can look at both ends without changing either.
pub trait SurveyDriver: Driver {
    /// Looks at everything that the stream touches.
    fn survey(&self, stream: &Stream, depth: Depth) -> Result<Survey, MigrateError>;
}

/// A foreign key, its tables named as `ours` names them.
#[derive(Debug, Clone)]
pub struct ForeignKey {
    /// Its name, or its columns.
    pub name: String,
    /// The table that refers.
    pub child: String,
    /// The table referred to.
    pub parent: String,
    /// What else is to be said of it: deferrable or not, actions.
    pub nature: String,
}

/// Judges an end's foreign keys. `ours` are the end's tables that the stream touches, in its order.
pub fn judge_foreign_keys(survey: &mut Survey, end: Role, keys: &[ForeignKey], ours: &[String]) {
    let place_of = |table: &String| ours.iter().position(|our| our == table);
    for key in keys {
        let ForeignKey { name, child, parent, nature } = key;
        let place = format!("{end} {child}");
        let said = format!("the foreign key {name} refers to {parent} ({nature})");
        match (end, place_of(child), place_of(parent)) {
            (Role::Target, Some(at), Some(parent_at)) if parent_at > at => survey.add(
                Level::Note,
                place,
                format!("{said}, which is filled later: until then readers see rows without it"),
                format!("put the mapping of {parent} in front of that of {child}"),
            ),
            (Role::Target, Some(_), None) => survey.add(
                Level::Warning,
                place,
                format!("{said}, which no mapping fills, and the applier does not check it"),
                format!("fill {parent} as well, or see that it holds every row that is referred to"),
            ),
            (Role::Target, None, Some(_)) => survey.add(
                Level::Warning,
                place,
                format!(
                    "{said}: no mapping fills {child}, and the key's actions do not fire for copied rows"
                ),
                format!("fill {child} as well, or drop the key while copying"),
            ),
            (Role::Source, Some(_), None) => survey.add(
                Level::Note,
                place,
                format!("{said}, which is not copied"),
                "the key cannot be kept between two databases: see what relies on it before the cut-over",
            ),
            (Role::Source, None, Some(_)) => survey.add(
                Level::Note,
                place,
                format!("{said}, and {child} is not copied"),
                "the key cannot be kept between two databases: see what relies on it before the cut-over",
            ),
            _ => survey.add(Level::Ok, place, said, ""),
        }
    }
}

/// Whether a text names a column; a word of that spelling is taken for it.
pub fn mentions(text: &str, column: &str) -> bool {
    let (text, column) = (text.to_lowercase(), column.to_lowercase());
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(&column).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let behind = text.get(at + column.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !behind.is_some_and(is_part)
    })
}

/// The texts of a stream's mappings that read a source table.
pub fn readers<'a>(stream: &'a Stream, table: &str) -> Vec<&'a str> {
    let reads = |join: &&Join| join.table == table;
    let of = |mapping: &'a super::mapping::Mapping| {
        let joined = mapping.joins.iter().find(reads);
        let read = mapping.root == table || joined.is_some();
        let keys = joined.and_then(|join| join.keys.as_deref());
        read.then_some(mapping.select.as_str()).into_iter().chain(keys)
    };
    stream.mappings.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_mentioned_by_its_whole_name_only() {
        assert!(mentions("SELECT i.Name, 1", "name"));
        assert!(mentions("\"name\"", "name"));
        assert!(!mentions("SELECT surname, name_2", "name"));
    }

    #[test]
    fn foreign_keys_are_judged_by_where_they_lead() {
        let key = |child: &str, parent: &str| ForeignKey {
            name: "f".to_owned(),
            child: child.to_owned(),
            parent: parent.to_owned(),
            nature: "NOT DEFERRABLE".to_owned(),
        };
        let keys = [key("line", "item"), key("item", "line"), key("item", "owner"), key("other", "item")];
        let ours = ["item".to_owned(), "line".to_owned()];
        let levels = |end| {
            let mut survey = Survey::default();
            judge_foreign_keys(&mut survey, end, &keys, &ours);
            survey.findings.iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(Role::Target), [Level::Ok, Level::Note, Level::Warning, Level::Warning]);
        assert_eq!(levels(Role::Source), [Level::Ok, Level::Ok, Level::Note, Level::Note]);
    }

    #[test]
    fn seconds_follow_from_the_sample() {
        let read = SampleRead::of("item", 1_000_000, 1_000, (1_000, 90_000, 10_000));
        assert_eq!(read.seconds, 11);
    }
}
