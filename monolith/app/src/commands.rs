//! The commands that do one thing and end.
//!
//! Invariant: input is opened and checked before a database is created.

pub(crate) mod events;
pub(crate) mod sagas;

use std::path::Path;

use anyhow::{Result, bail};
use contracts::users::CONTEXT;
use control::{ControlStore, Side};
use db::Db;
use db::schema::{Rows, StepStatus};
use platform::table;
use serde::Serialize;
use serde_json::json;

use crate::cli::{Import, Output, Schema, Seed};
use crate::import::{Input, Source, default_rejects};
use crate::progress::{Lines, Users};
use crate::settings::Settings;
use crate::wiring::{self, SCHEMAS};

/// Memory for pages while importing, in KiB.
const IMPORT_CACHE_KIB: u32 = 1_024;

pub(crate) fn schema(settings: &Settings, command: &Schema) -> Result<()> {
    let db = Db::open(&settings.database)?;
    let (done, output) = match command {
        Schema::Apply(output) => (db::schema::apply(&db, &SCHEMAS)?, output),
        Schema::Status(output) => (db::schema::status(&db, &SCHEMAS)?, output),
        Schema::Revert { steps, discard_rows, output } => {
            let rows = if *discard_rows { Rows::Discard } else { Rows::Keep };
            (db::schema::revert(&db, &SCHEMAS, *steps, rows)?, output)
        }
    };
    if output.json {
        table::print_line(&serde_json::to_string_pretty(&done)?);
    } else if done.is_empty() {
        table::print_line("nothing to do");
    } else {
        table::print(["context", "step", "name", "applied"], done.iter().map(step));
    }
    Ok(())
}

/// Prints what a command found: as JSON, in a table, or that there is nothing.
fn print<T: Serialize>(output: Output, found: &[T], nothing: &str, print_table: impl FnOnce()) -> Result<()> {
    if output.json {
        table::print_line(&serde_json::to_string_pretty(found)?);
    } else if found.is_empty() {
        table::print_line(nothing);
    } else {
        print_table();
    }
    Ok(())
}

fn step(step: &StepStatus) -> [String; 4] {
    let applied = step.applied_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    [step.context.clone(), step.version.to_string(), step.name.clone(), applied]
}

pub(crate) fn import(settings: &Settings, command: Import) -> Result<()> {
    platform::telemetry::init("monolith");
    let Import::OnlineRetail { file, opening_stock, rejects, output } = command;
    let input = Input::from(file.as_path());
    let rejects = rejects.unwrap_or_else(|| default_rejects(&input));
    let source = Source::open(input)?;
    let progress = Lines::new(source.size());
    let (db, control) = open(&with_small_cache(settings))?;
    let ports = wiring::loading(&db, control);
    let importing = crate::import::import(source, ports, opening_stock, Path::new(&rejects), &progress);
    let summary = runtime()?.block_on(importing);
    progress.finish();
    let summary = summary?;
    if output.json {
        table::print_line(&serde_json::to_string_pretty(&summary)?);
        return Ok(());
    }
    table::print(["online-retail", "count"], summary.rows());
    table::print_line(&format!("rejected lines are in {}", summary.rejects_file));
    Ok(())
}

pub(crate) fn seed(settings: &Settings, command: &Seed) -> Result<()> {
    platform::telemetry::init("monolith");
    let (db, control) = open(settings)?;
    let users = wiring::loading(&db, control).users;
    let progress = Users::new(command.users);
    let seeding =
        crate::seed::seed(users.as_ref(), command.seed, command.users, |done| progress.advance(done));
    let added = runtime()?.block_on(seeding);
    progress.finish();
    let added = added?;
    let unchanged = command.users - added;
    if command.output.json {
        let figures = json!({
            "users": command.users, "seed": command.seed, "users_added": added, "unchanged": unchanged,
        });
        table::print_line(&serde_json::to_string_pretty(&figures)?);
        return Ok(());
    }
    let rows = [("users", command.users), ("users added", added), ("unchanged", unchanged)];
    table::print(["seed", "count"], rows.map(|(name, count)| [name.to_owned(), count.to_string()]));
    Ok(())
}

/// The database for a command that writes users: refused while the service owns them.
fn open(settings: &Settings) -> Result<(Db, Option<ControlStore>)> {
    let control = wiring::open_control(settings)?;
    if let Some(control) = &control {
        let flags = control.flags()?;
        let moved = flags.iter().any(|flag| flag.context == CONTEXT && flag.writes == Side::Service);
        if moved {
            bail!(
                "users are not written here now, the service owns them; bring them home with `migrate switch users \
                 --to monolith` and run this again"
            );
        }
    }
    Ok((wiring::open_database(settings)?, control))
}

/// An import writes in order and reads little of what it wrote: more page memory would not make it faster, and it
/// would fill as the file grows.
fn with_small_cache(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.database.cache_kib = settings.database.cache_kib.min(IMPORT_CACHE_KIB);
    settings
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
