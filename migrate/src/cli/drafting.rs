//! `migrate init`: a first extraction.toml from what the source's catalogue says.
//!
//! Invariant: the draft is a valid manifest that copies every table as it is; what it cannot copy it says in a comment.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use control::check_context_name;
use platform::table::print_line;

use super::arguments::InitArgs;
use super::captured::describe;
use crate::engine::TableShape;
use crate::error::MigrateError;
use crate::manifest::Manifest;
use crate::settings::{Engine, Place};

/// Writes the draft.
pub(super) fn init(arguments: &InitArgs, json: bool) -> Result<u8, MigrateError> {
    check_context_name(&arguments.context).map_err(MigrateError::Usage)?;
    let place = Place::from(arguments.source.as_str());
    let mut shapes = describe(&place)?;
    if let Some(unknown) =
        arguments.tables.iter().find(|table| !shapes.iter().any(|shape| shape.name == **table))
    {
        let known: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        return Err(MigrateError::Usage(format!(
            "{place} has no table {unknown}; it has {}",
            known.join(", ")
        )));
    }
    shapes.retain(|shape| arguments.tables.is_empty() || arguments.tables.contains(&shape.name));
    let prefix = match place.engine()? {
        Engine::Sqlite(_) => "source.",
        Engine::Postgres(_) => "",
    };
    let text = draft(&arguments.context, &place, &shapes, prefix);
    Manifest::parse(&arguments.output, &text)?;
    if !arguments.dry_run {
        write(&arguments.output, &text)?;
    }
    if json {
        let (file, written) = (&arguments.output, !arguments.dry_run);
        let draft = serde_json::json!({ "file": file, "written": written, "text": text, "tables": shapes });
        return crate::output::json(&draft);
    }
    if arguments.dry_run {
        print_line(text.trim_end());
        return Ok(0);
    }
    let (file, context) = (arguments.output.display(), &arguments.context);
    let mapped = shapes.iter().filter(|shape| why_left_out(shape).is_none()).count();
    print_line(&format!(
        "wrote {file} with {}; edit it, name it in extractions.{context}.manifest, then `migrate plan {context}`",
        counted(mapped, shapes.len())
    ));
    Ok(0)
}

/// How many tables are mapped, in words.
fn counted(mapped: usize, all: usize) -> String {
    let tables = |number| if number == 1 { "1 table".to_owned() } else { format!("{number} tables") };
    match all - mapped {
        0 => tables(mapped),
        1 => format!("{} and leaves 1 table out (its comment says why)", tables(mapped)),
        left => format!("{} and leaves {left} tables out (their comments say why)", tables(mapped)),
    }
}

fn write(file: &Path, text: &str) -> Result<(), MigrateError> {
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    opened.and_then(|mut opened| opened.write_all(text.as_bytes())).map_err(|error| {
        let file = file.display();
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return MigrateError::refused(format!("{file} is there already"), "choose another --output");
        }
        MigrateError::failed(format!("cannot write {file}: {error}"))
    })
}

fn draft(context: &str, place: &Place, shapes: &[TableShape], prefix: &str) -> String {
    let mut text = format!(
        "# How {} is copied out of {}. A draft: every table is copied as it is, into a table of the same name.\n\
         #\n\
         # * table, key, columns: what is filled in the target; key must be unique there and never null.\n\
         # * from, from_key: the table with one row per source key, and that key.\n\
         # * select: one row per row to be made, its values in the order of columns. It must be restricted with {{keys …}}, and\n\
         #   read the same from the same rows: no clock, no random number, no sequence.\n\
         # * carries: the filled columns that hold the source key [default: the first of key]; [] if none do, then a key map is\n\
         #   kept and the select yields the source key first.\n\
         # * [[mapping.join]] table, columns, keys: every other table that the select reads, the columns it is joined by, and a\n\
         #   select of the source keys that changed values of them concern, restricted with {{values …}}.\n\
         # * [[inverse]]: the same for the way back.\n\n\
         context = {}\n",
        context,
        comment(&place.to_string()),
        quoted(context)
    );
    for shape in shapes {
        mapping(&mut text, shape, prefix);
    }
    text
}

fn mapping(text: &mut String, shape: &TableShape, prefix: &str) {
    let columns: Vec<&str> =
        shape.columns.iter().filter(|column| !column.generated).map(|column| column.name.as_str()).collect();
    // Writing to a String cannot fail, here and below.
    let _ = write!(text, "\n# {}\n", comment(&shape.name));
    for column in &shape.columns {
        let generated = if column.generated { ", computed by the database, so not copied" } else { "" };
        let _ = writeln!(text, "#   {} {}{generated}", comment(&column.name), comment(&column.declared));
    }
    if let Some(reason) = why_left_out(shape) {
        let _ = writeln!(text, "# {reason}: it is left out.");
        return;
    }
    let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let owned: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let keys: Vec<String> = shape.key.iter().map(|name| format!("t.{}", identifier(name))).collect();
    let selected: Vec<String> = columns.iter().map(|name| format!("t.{}", identifier(name))).collect();
    // PostgreSQL's names come as its SQL writes them, schema included; SQLite's as they are.
    let table = if prefix.is_empty() { shape.name.clone() } else { identifier(&shape.name) };
    let select = format!(
        "SELECT {}\nFROM {prefix}{table} AS t\nWHERE {{keys {}}}\n",
        selected.join(", "),
        keys.join(", ")
    );
    let _ = write!(
        text,
        "[[mapping]]\ntable = {name}\nkey = [{key}]\ncolumns = [{columns}]\nfrom = {name}\nfrom_key = [{key}]\n\
         select = {}\n",
        lines(&select),
        name = quoted(&shape.name),
        key = list(&shape.key),
        columns = list(&owned),
    );
}

/// Why a table has no mapping in the draft.
fn why_left_out(shape: &TableShape) -> Option<&'static str> {
    if shape.key.is_empty() {
        return Some(
            "It has no primary key and no unique key without NULL, so its rows cannot be told apart",
        );
    }
    if shape.columns.iter().any(|column| column.generated && shape.key.contains(&column.name)) {
        return Some(
            "The database computes its key, which is therefore not copied, and rows are found by it",
        );
    }
    let mut names = shape.columns.iter().map(|column| &column.name).chain([&shape.name]);
    names
        .any(|name| name.contains("{keys ") || name.contains("{values "))
        .then_some("A name of it reads like a place in a select, {keys …} or {values …}")
}

/// A name in a comment, where a line must not end.
fn comment(name: &str) -> String {
    let shown = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    name.chars().map(shown).collect()
}

/// A TOML text of several lines, as it is where TOML has a way to write that.
fn lines(text: &str) -> String {
    let plain = |letter: char| letter == '\n' || !letter.is_control();
    if text.contains("'''") || !text.chars().all(plain) {
        return quoted(text);
    }
    format!("'''\n{text}'''")
}

/// A TOML text.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Words that SQLite takes for no name unless they are quoted.
const RESERVED: [&str; 66] = [
    "add",
    "all",
    "alter",
    "and",
    "as",
    "autoincrement",
    "between",
    "case",
    "check",
    "collate",
    "commit",
    "constraint",
    "create",
    "cross",
    "default",
    "deferrable",
    "delete",
    "distinct",
    "drop",
    "else",
    "escape",
    "except",
    "exists",
    "foreign",
    "from",
    "full",
    "group",
    "having",
    "in",
    "index",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "left",
    "limit",
    "natural",
    "not",
    "nothing",
    "notnull",
    "null",
    "on",
    "or",
    "order",
    "outer",
    "primary",
    "references",
    "returning",
    "right",
    "rollback",
    "select",
    "set",
    "table",
    "then",
    "to",
    "transaction",
    "union",
    "unique",
    "update",
    "using",
    "values",
    "when",
    "where",
];

/// A name in SQL; plain ones stay plain.
fn identifier(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_');
    if begins && name.chars().all(plain) && !RESERVED.contains(&name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ColumnShape;

    #[test]
    fn tables_are_counted_in_words() {
        assert_eq!(counted(1, 1), "1 table");
        assert_eq!(counted(0, 0), "0 tables");
        assert_eq!(counted(2, 3), "2 tables and leaves 1 table out (its comment says why)");
        assert_eq!(counted(2, 4), "2 tables and leaves 2 tables out (their comments say why)");
    }

    #[test]
    fn odd_names_make_a_manifest_too() {
        let odd = ["line\nbreak", "three'''quotes", "semi;colon", "\"quoted\"", "tab\tand\u{7}bell"];
        let shape = |name: &str| TableShape {
            name: name.to_owned(),
            columns: vec![ColumnShape {
                name: name.to_owned(),
                declared: "TEXT".to_owned(),
                generated: false,
            }],
            key: vec![name.to_owned()],
        };
        let mut shapes: Vec<_> = odd.iter().map(|name| shape(name)).collect();
        shapes.push(shape("{keys k}"));
        let text = draft("items", &Place::from("items.db"), &shapes, "source.");
        let manifest = Manifest::parse(Path::new("extraction.toml"), &text).unwrap();
        let tables: Vec<_> = manifest.mapping.iter().map(|map| map.table.as_str()).collect();
        assert_eq!(tables, odd);
        assert!(manifest.mapping.iter().zip(odd).all(|(map, name)| map.from_key == [name.to_owned()]));
        assert!(text.contains("reads like a place"), "{text}");
    }

    #[test]
    fn the_draft_is_a_manifest_with_a_mapping_for_every_table_that_has_a_key() {
        let column = |name: &str, generated| ColumnShape {
            name: name.to_owned(),
            declared: "TEXT".to_owned(),
            generated,
        };
        let shape = |name: &str, key: &[&str]| TableShape {
            name: name.to_owned(),
            columns: vec![column("a", false), column("Odd Name", false), column("computed", true)],
            key: key.iter().map(|key| (*key).to_owned()).collect(),
        };
        let shapes =
            [shape("item", &["a", "Odd Name"]), shape("keyless", &[]), shape("by_code", &["computed"])];
        let text = draft("items", &Place::from("items.db"), &shapes, "source.");
        let manifest = Manifest::parse(Path::new("extraction.toml"), &text).unwrap();
        let tables: Vec<_> = manifest.mapping.iter().map(|map| map.table.as_str()).collect();
        assert_eq!(tables, ["item"]);
        let map = &manifest.mapping[0];
        assert_eq!((map.from_key.len(), map.columns.len()), (2, 2));
        assert!(map.select.contains("WHERE {keys t.a, t.\"Odd Name\"}"), "{}", map.select);
        assert!(text.contains("# keyless") && text.contains("cannot be told apart"));
        assert!(text.contains("# by_code") && text.contains("computes its key"));
    }
}
