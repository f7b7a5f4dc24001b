//! What the source's rows would meet at the target, found by query: missing values, lengths, ranges, labels, checks,
//! uniques; and how long reading them takes.
//!
//! Invariant: every finding names how many rows, and one of them; what could not be asked is said to be unasked.

use std::time::{Duration, Instant};

use super::super::{catalog, sql};
use super::columns::Filled;
use super::{Looked, SHORT, Silence, Surveyor, place, silence};
use crate::engine::Mapping;
use crate::engine::survey::{Level, SampleRead};
use crate::error::MigrateError;

/// Something that no row may be.
struct Check {
    condition: String,
    /// Behind "… rows ".
    what: String,
    remedy: String,
}

/// What became of a question about rows.
enum Asked {
    Answered,
    Late,
    /// It cannot be asked, in the server's words.
    Broken(String),
}

impl Looked {
    /// How many keys are read, and how to have more read.
    fn read_so_far(&self, limit: Option<u64>) -> (String, &'static str) {
        match limit {
            None => (format!("all of its about {} keys were read", self.keys), ""),
            Some(limit) => {
                let read = format!("the first {limit} of about {} keys were read", self.keys);
                (read, "`--deep` reads all of them")
            }
        }
    }
}

impl Surveyor {
    pub(super) fn rows(
        &mut self,
        looked: &Looked,
        columns: &[Filled],
        whole: Duration,
    ) -> Result<(), MigrateError> {
        let limit = self.depth.limit(looked.keys);
        let place = place(&looked.mapping);
        let patience = if limit.is_none() { whole } else { SHORT };
        self.source.run(&format!("SET statement_timeout = {}", patience.as_millis()))?;
        let rows = Mapped::new(looked, limit)?;
        self.null_keys(looked, limit)?;
        let mut checks: Vec<Check> = columns.iter().flat_map(column_checks).collect();
        checks.extend(self.declared_checks(looked, columns)?);
        if columns.len() == looked.mapping.columns.len() {
            self.ask_all(&place, &rows, &checks, looked.read_so_far(limit))?;
            self.unasked(&place, columns)?;
            self.uniques(looked, &rows)?;
        }
        self.sample(looked)?;
        self.source.run(&format!("SET statement_timeout = {}", SHORT.as_millis()))?;
        Ok(())
    }

    /// All checks in one pass; one by one if one of them cannot be asked.
    fn ask_all(
        &mut self,
        place: &str,
        rows: &Mapped,
        checks: &[Check],
        (read, remedy): (String, &str),
    ) -> Result<(), MigrateError> {
        match self.ask(place, rows, checks)? {
            Asked::Late => return Ok(()),
            Asked::Answered => {
                self.survey.add(Level::Ok, place, read, remedy);
                return Ok(());
            }
            Asked::Broken(_) => {}
        }
        if let Asked::Broken(words) = self.ask(place, rows, &[])? {
            let (what, remedy) = match words.ends_with("(42501)") {
                true => (
                    "may not be run",
                    "see the privileges that the source lacks, or grant what it reads beside them",
                ),
                false => ("fails on the data", "correct the select, or the rows"),
            };
            self.survey.add(Level::Problem, place, format!("its select {what}: {words}"), remedy);
            return Ok(());
        }
        self.survey.add(Level::Ok, place, read, remedy);
        for check in checks {
            if let Asked::Broken(words) = self.ask(place, rows, std::slice::from_ref(check))? {
                let what =
                    format!("it could not be asked whether there are rows that {}: {words}", check.what);
                self.survey.add(Level::Warning, place, what, &*check.remedy);
            }
        }
        Ok(())
    }

    /// Asks, and tells what the answer says.
    fn ask(&mut self, place: &str, rows: &Mapped, checks: &[Check]) -> Result<Asked, MigrateError> {
        let each = checks.iter().map(|check| {
            let condition = &check.condition;
            format!(", count(*) FILTER (WHERE {condition}), min({}) FILTER (WHERE {condition})", rows.shown)
        });
        // The whole row is counted, so that every column is computed, also one that no check looks at.
        let query = format!("SELECT count(r){} FROM {}", each.collect::<String>(), rows.from);
        let answer = match self.source.try_rows(&query) {
            Ok(answer) => answer,
            Err(error) => match silence(&self.source, error)? {
                Silence::Broken(words) => return Ok(Asked::Broken(words)),
                Silence::Late => {
                    let what = "its rows took too long to read, so they were not all looked at";
                    self.survey.add(Level::Warning, place, what, "plan again when the source is less busy");
                    return Ok(Asked::Late);
                }
            },
        };
        let Some(row) = answer.first() else { return Ok(Asked::Answered) };
        for (at, check) in checks.iter().enumerate() {
            let (count, example) = (row.get(1 + 2 * at), row.get(2 + 2 * at));
            let Some(count) = count.filter(|count| *count != "0") else { continue };
            let example = example.unwrap_or("NULL");
            let what = format!("{count} rows {}, for example that of key {example}", check.what);
            self.survey.add(Level::Problem, place, what, &*check.remedy);
        }
        Ok(Asked::Answered)
    }

    /// Keys that are NULL, or there more than once; of a large table those of its first rows.
    fn null_keys(&mut self, looked: &Looked, limit: Option<u64>) -> Result<(), MigrateError> {
        let (mapping, root) = (&looked.mapping, &looked.root);
        let place = place(mapping);
        let key = sql::names("", &mapping.root_key);
        let rows = match limit {
            None => root.clone(),
            Some(limit) => format!("(SELECT ctid AS banyan_place, {key} FROM {root} LIMIT {limit}) s"),
        };
        let names: Vec<String> = mapping.root_key.iter().map(|column| sql::value(column)).collect();
        let unique = format!(
            "EXISTS (SELECT FROM pg_index i WHERE i.indrelid = {}::regclass AND i.indisunique AND i.indisvalid \
               AND i.indpred IS NULL AND i.indexprs IS NULL AND (SELECT array_agg(a.attname ORDER BY a.attname) \
                 FROM pg_attribute a WHERE a.attrelid = i.indrelid \
                 AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) = (SELECT array_agg(u.name ORDER BY u.name) \
                 FROM unnest(ARRAY[{}]::name[]) u(name)))",
            sql::value(root),
            names.join(", ")
        );
        if !self.source.holds(&unique)? {
            let what =
                format!("the source key ({}) of {root} has no unique index", mapping.root_key.join(", "));
            let remedy =
                format!("CREATE UNIQUE INDEX CONCURRENTLY ON {root} ({key}), or name another from_key");
            self.survey.add(Level::Warning, &*place, what, remedy);
            let twice = format!(
                "SELECT count(*), min(k) FROM (SELECT concat_ws(', ', {key}) AS k FROM {rows} GROUP BY {key} \
                 HAVING count(*) > 1) d"
            );
            self.count(
                &place,
                &twice,
                "source keys are there more than once",
                "name a from_key that is unique",
            )?;
        }
        let nullable = format!(
            "EXISTS (SELECT FROM pg_attribute WHERE attrelid = {}::regclass AND NOT attnotnull AND attname IN ({}))",
            sql::value(root),
            names.join(", ")
        );
        if !self.source.holds(&nullable)? {
            return Ok(());
        }
        let found = if limit.is_none() { "ctid" } else { "banyan_place" };
        let null = format!("SELECT count(*), min({found}::text) FROM {rows} WHERE num_nulls({key}) > 0");
        let remedy =
            format!("DELETE them or give them a key: SELECT * FROM {root} WHERE num_nulls({key}) > 0");
        self.count(&place, &null, "rows have NULL in the source key", &remedy)
    }

    /// A problem if a query counts anything.
    pub(super) fn count(
        &mut self,
        place: &str,
        query: &str,
        what: &str,
        remedy: &str,
    ) -> Result<(), MigrateError> {
        self.count_as(Level::Problem, place, query, what, remedy)
    }

    fn count_as(
        &mut self,
        level: Level,
        place: &str,
        query: &str,
        what: &str,
        remedy: &str,
    ) -> Result<(), MigrateError> {
        let found = match self.source.try_rows(query) {
            Ok(found) => found,
            Err(error) => {
                let why = match silence(&self.source, error)? {
                    Silence::Late => "it took too long".to_owned(),
                    Silence::Broken(words) => words,
                };
                let what = format!("it could not be asked whether {what}: {why}");
                self.survey.add(Level::Warning, place, what, remedy);
                return Ok(());
            }
        };
        let Some(row) = found.first().filter(|row| row.get(0) != Some("0")) else { return Ok(()) };
        let (count, example) = (row.get(0).unwrap_or_default(), row.get(1).unwrap_or("NULL"));
        self.survey.add(level, place, format!("{count} {what}, for example ({example})"), remedy);
        Ok(())
    }

    /// CHECK constraints of the table and of its columns' domains.
    fn declared_checks(&mut self, looked: &Looked, columns: &[Filled]) -> Result<Vec<Check>, MigrateError> {
        let found = self.target.rows(&format!(
            "SELECT conname, pg_get_expr(conbin, conrelid), NULL, \
               (SELECT json_agg(a.attname) FROM pg_attribute a WHERE a.attrelid = conrelid AND a.attnum = ANY (conkey)) \
             FROM pg_constraint WHERE contype = 'c' AND conrelid = {table}::regclass UNION ALL \
             SELECT k.conname, pg_get_expr(k.conbin, 0), a.attname, json_build_array(a.attname) FROM pg_attribute a \
             JOIN pg_constraint k ON k.contypid = a.atttypid AND k.contype = 'c' \
             WHERE a.attrelid = {table}::regclass AND a.attnum > 0 AND NOT a.attisdropped",
            table = sql::value(&looked.table)
        ))?;
        let mut checks = Vec::new();
        for row in &found {
            let text = |at| row.get(at).unwrap_or_default();
            let (name, expression) = (text(0), text(1));
            let of: Vec<String> = serde_json::from_str(text(3)).unwrap_or_default();
            if let Some(own) = of.iter().find(|name| !columns.iter().any(|column| column.name == **name)) {
                if row.get(2).is_none() {
                    let what = format!(
                        "the check {name} of {} concerns {own}, which the mapping does not fill",
                        looked.table
                    );
                    self.survey.add(Level::Note, place(&looked.mapping), what, "see that its default passes");
                }
                continue;
            }
            let expression = match row.get(2) {
                Some(column) => in_domain(expression, &sql::name(column)),
                None => expression.to_owned(),
            };
            checks.push(Check {
                condition: format!("NOT ({expression})"),
                what: format!("violate the check {name} of {}: {expression}", looked.table),
                remedy: "correct these rows, map them otherwise, or loosen the constraint".to_owned(),
            });
        }
        Ok(checks)
    }

    /// Texts that become something else can be judged by query only where the server can tell without an error.
    fn unasked(&mut self, place: &str, columns: &[Filled]) -> Result<(), MigrateError> {
        let tells = self.source.number::<u32>("SHOW server_version_num")? >= 160_000;
        for column in columns.iter().filter(|column| !tells && reads_text(column)) {
            let Filled { name, from, to, .. } = column;
            let what = format!(
                "{name}: {} is read as {}; whether each value is one was not looked at",
                from.name, to.name
            );
            let remedy =
                "PostgreSQL 16 could tell; write a cast into the select, and --deep runs it on every row";
            self.survey.add(Level::Warning, place, what, remedy);
        }
        Ok(())
    }

    fn uniques(&mut self, looked: &Looked, rows: &Mapped) -> Result<(), MigrateError> {
        let place = place(&looked.mapping);
        for unique in catalog::uniques(&mut self.target, &looked.table)? {
            if !unique.is_filled_by(&looked.mapping) {
                let what = format!(
                    "the unique index {} is over columns that the mapping does not fill",
                    unique.name
                );
                self.survey.add(Level::Note, &*place, what, "see that their defaults do not collide");
                continue;
            }
            if unique.excludes {
                // To compare every row with every other would take too long.
                continue;
            }
            let (parts, counts) = catalog::grouping(&unique.parts);
            let (condition, beyond) = unique.covers_elsewhere();
            let query = format!(
                "SELECT count(*), min(d.example) FROM (SELECT concat_ws(', ', {parts}) AS example FROM {} \
                 WHERE ({condition}) AND {counts} GROUP BY {parts} HAVING count(*) > 1) d",
                rows.from
            );
            let name = &unique.name;
            let remedy = "correct the rows at the source, or the mapping, or make the index less strict";
            if beyond {
                let what = format!(
                    "values are made more than once that the unique index {name} allows once in {}, a hash partition, of \
                     whose rows the source does not know which they are",
                    unique.relation
                );
                self.count_as(Level::Warning, &place, &query, &what, remedy)?;
            } else {
                let what = format!("values are made more than once that the unique index {name} allows once");
                self.count(&place, &query, &what, remedy)?;
            }
        }
        Ok(())
    }

    fn sample(&mut self, looked: &Looked) -> Result<(), MigrateError> {
        let mapping = &looked.mapping;
        let rows = Mapped::new(looked, Some(crate::engine::survey::Depth::SAMPLE))?;
        let begun = Instant::now();
        // What a value cannot be sent as in binary form is none of a plan's concerns.
        let read = self.source.copy_out(&format!("SELECT r::text FROM {}", rows.from));
        let Ok(read) = read else { return Ok(()) };
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let sampled = looked.keys.min(crate::engine::survey::Depth::SAMPLE);
        let (count, bytes) = read.size();
        let mut sample = SampleRead::of(&looked.table, looked.keys, sampled, (count, bytes, micros));
        // Behind the key a log row holds a transaction number and a mark; its index entry takes 20 bytes.
        let key = sql::names("", &mapping.root_key);
        let logged = self.source.text(&format!(
            "SELECT (avg(pg_column_size(ROW({key}))) + 33)::bigint FROM (SELECT {key} FROM {} LIMIT 1000) s",
            looked.root
        ));
        sample.log_bytes = logged.ok().flatten().and_then(|bytes| bytes.parse().ok()).unwrap_or(61);
        self.survey.reads.push(sample);
        Ok(())
    }
}

/// The rows that a mapping makes, under its columns' names.
pub(super) struct Mapped {
    /// What stands behind FROM.
    pub(super) from: String,
    /// A row's key as a text.
    pub(super) shown: String,
}

impl Mapped {
    pub(super) fn new(looked: &Looked, limit: Option<u64>) -> Result<Self, MigrateError> {
        let Mapping { root_key, columns, select, key, .. } = &looked.mapping;
        let names = sql::names("", root_key);
        let restricted = |columns: &str| match limit {
            None => "TRUE".to_owned(),
            Some(limit) => {
                format!("({columns}) IN (SELECT {names} FROM {} ORDER BY {names} LIMIT {limit})", looked.root)
            }
        };
        let select = sql::fill(select, "keys", restricted)?;
        let mapped = looked.mapping.needs_key_map().then_some(root_key.len());
        let sources = (0..mapped.unwrap_or(0)).map(|at| format!("banyan_s{at}"));
        let named: Vec<String> = sources.chain(columns.iter().map(|column| sql::name(column))).collect();
        let key: Vec<String> = key.iter().map(|column| sql::name(column)).collect();
        Ok(Self {
            from: format!("(\n{select}\n) AS r({})", named.join(", ")),
            shown: format!("concat_ws(', ', {})", key.join(", ")),
        })
    }
}

fn reads_text(column: &Filled) -> bool {
    column.from.is_text() && !column.to.is_text() && column.to.labels.is_empty() && column.to.base != "bpchar"
}

/// What the target's type would refuse, or would change without a word.
fn column_checks(column: &Filled) -> Vec<Check> {
    let (name, declared, modifier) = (sql::name(&column.name), &column.declared, column.modifier);
    let mut checks = Vec::new();
    let mut add = |condition: String, what: String, remedy: &str| {
        checks.push(Check { condition, what, remedy: remedy.to_owned() });
    };
    if column.not_null {
        let remedy = "map a value for them, or drop the target's NOT NULL";
        add(format!("{name} IS NULL"), format!("have no {}, which must have a value", column.name), remedy);
    }
    let wider = "make the target's column wider, or shorten the values in the select";
    let longer = format!("have a {} too long for {declared}", column.name);
    let beyond = format!("have a {} that {declared} does not hold", column.name);
    let narrower = column.from.base != column.to.base;
    match column.to.base.as_str() {
        "character varying" if modifier > 4 => {
            add(format!("length({name}::text) > {}", modifier - 4), longer, wider)
        }
        "bpchar" if modifier > 4 => {
            add(format!("length(rtrim({name}::text)) > {}", modifier - 4), longer, wider);
            // What is stored is compared to the last blank.
            let padded = format!("octet_length({name}::bpchar) < octet_length({name}::{declared})");
            let what = format!("have a {} that {declared} fills up with blanks", column.name);
            add(padded, what, "cast it to the target's type in the select, or make the target's column text");
        }
        "bit" | "bit varying" if modifier > 0 => {
            let compare = if column.to.base == "bit" { "<>" } else { ">" };
            add(format!("length({name}::varbit) {compare} {modifier}"), longer, wider);
        }
        "smallint" if narrower => add(format!("{name}::numeric NOT BETWEEN -32768 AND 32767"), beyond, wider),
        "integer" if narrower => {
            add(format!("{name}::numeric NOT BETWEEN -2147483648 AND 2147483647"), beyond, wider)
        }
        "numeric" if modifier >= 4 => {
            let (precision, scale) =
                (((modifier - 4) >> 16) & 0xffff, (((modifier - 4) & 0x7ff) ^ 1024) - 1024);
            let value = format!("{name}::numeric");
            let condition = format!(
                "{value} <> 'NaN' AND (abs({value}) >= ('1e{}')::numeric OR {value} <> round({value}, {scale}))",
                precision - scale
            );
            add(condition, beyond, wider);
        }
        "timestamp without time zone"
        | "timestamp with time zone"
        | "time without time zone"
        | "time with time zone"
        | "interval"
            if modifier >= 0 =>
        {
            add(format!("{name} IS DISTINCT FROM {name}::{declared}"), beyond, wider);
        }
        _ => {}
    }
    if !column.to.labels.is_empty() {
        let labels: Vec<String> = column.to.labels.iter().map(|label| sql::value(label)).collect();
        let condition = format!("{name}::text <> ALL (ARRAY[{}])", labels.join(", "));
        let remedy = "ALTER TYPE … ADD VALUE at the target, or map these labels in the select";
        add(condition, format!("have a {} that is no label of {}", column.name, column.to.name), remedy);
    }
    checks
}

/// A domain's condition about a column.
fn in_domain(expression: &str, column: &str) -> String {
    let (mut text, mut rest) = (String::new(), expression);
    while let Some((before, behind)) = rest.split_once("VALUE") {
        text.push_str(before);
        text.push_str(column);
        rest = behind;
    }
    text.push_str(rest);
    text
}
