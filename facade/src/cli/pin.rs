//! `facade pin`: changes the pins in the settings file, which running facades then take over.
//!
//! Invariant: the file is replaced as a whole by one that passes `facade check`; its comments and order stay.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use facade::check::check;
use facade::settings::DEFAULT_FILE;
use platform::table;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

use crate::cli::PinCommand;

pub(crate) fn run(config: Option<&Path>, command: PinCommand) -> Result<()> {
    match command {
        PinCommand::List { json } => list(config, json),
        PinCommand::Add { context, key, side } => {
            change(config, &context, |pins| {
                remove(pins, &key);
                add(pins, &key, &side)
            })?;
            told(&format!("the key {key} of {context} stays at the {side}"));
            Ok(())
        }
        PinCommand::Remove { context, key } => {
            change(config, &context, |pins| match remove(pins, &key) {
                0 => bail!("the key {key} of {context} is not pinned"),
                _ => Ok(()),
            })?;
            told(&format!("the key {key} of {context} goes where the weight says"));
            Ok(())
        }
    }
}

fn told(what: &str) {
    table::print_line(&format!(
        "{what}; facades that watch this file follow within two seconds, others at SIGHUP"
    ));
}

fn list(config: Option<&Path>, json: bool) -> Result<()> {
    let settings = super::settings(config)?;
    let pins =
        settings.contexts.iter().flat_map(|(context, of)| of.pins.iter().map(move |pin| (context, pin)));
    if json {
        let items: Vec<_> = pins
            .map(|(context, pin)| serde_json::json!({ "context": context, "key": pin.key, "side": pin.side }))
            .collect();
        table::print_line(&serde_json::to_string_pretty(&items)?);
        return Ok(());
    }
    let cells = pins.map(|(context, pin)| [context.clone(), pin.key.clone(), pin.side.clone()]);
    table::print(["context", "key", "side"], cells);
    Ok(())
}

/// Changes the pins of one context in the file.
fn change(config: Option<&Path>, context: &str, how: impl FnOnce(&mut Item) -> Result<()>) -> Result<()> {
    let named = config.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    let name = named.display();
    // A link stays one: it is the file behind it that changes.
    let file = named.canonicalize().with_context(|| format!("there is no settings file {name}"))?;
    let mut document: DocumentMut = fs::read_to_string(&file)?
        .parse()
        .with_context(|| format!("{name} is no TOML; see `facade check`"))?;
    let contexts = document.get_mut("contexts").and_then(Item::as_table_like_mut);
    let Some(of) = contexts.and_then(|contexts| contexts.get_mut(context)?.as_table_like_mut()) else {
        bail!("{name} has no context `{context}`; add [contexts.{context}]")
    };
    let pins = of.entry("pins").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    how(pins)?;
    if pins.as_array_of_tables().is_some_and(ArrayOfTables::is_empty) {
        of.remove("pins");
    }
    replace(&file, &document.to_string())
}

fn add(pins: &mut Item, key: &str, side: &str) -> Result<()> {
    let fields = [("key", key), ("side", side)];
    match pins {
        Item::ArrayOfTables(tables) => tables
            .push(fields.map(|(name, text)| (name, toml_edit::value(text))).into_iter().collect::<Table>()),
        Item::Value(Value::Array(items)) => items.push(fields.into_iter().collect::<InlineTable>()),
        _ => bail!("`pins` is no list; see `facade check`"),
    }
    Ok(())
}

/// How many were there.
fn remove(pins: &mut Item, key: &str) -> usize {
    let is_it = |found: Option<&str>| found == Some(key);
    match pins {
        Item::ArrayOfTables(tables) => {
            let before = tables.len();
            tables.retain(|pin| !is_it(pin.get("key").and_then(Item::as_str)));
            before - tables.len()
        }
        Item::Value(Value::Array(items)) => {
            retain(items, |pin| !is_it(pin.as_inline_table().and_then(|pin| pin.get("key")?.as_str())))
        }
        _ => 0,
    }
}

fn retain(items: &mut Array, keep: impl FnMut(&Value) -> bool) -> usize {
    let before = items.len();
    items.retain(keep);
    before - items.len()
}

/// By a new file in its place, so that nobody reads one that is half written.
fn replace(file: &Path, text: &str) -> Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Readable by its owner alone until it has the permissions of the other: there may be secrets in it.
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let written = written.and_then(|mut beside| beside.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", beside.display()))?;
    let done = match check(Some(&beside)).first() {
        Some(finding) => Err(anyhow::anyhow!("the file would not be right: {}", finding.message)),
        None => fs::metadata(file)
            .and_then(|found| fs::set_permissions(&beside, found.permissions()))
            .and_then(|()| fs::rename(&beside, file))
            .context("cannot replace the settings file"),
    };
    if done.is_err() {
        // It is of no use to anybody; that it cannot be removed changes nothing about what is reported.
        let _ = fs::remove_file(&beside);
    }
    done
}
