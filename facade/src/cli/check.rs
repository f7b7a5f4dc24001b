//! `facade check`.
//!
//! Invariant: it starts and creates nothing.

use std::path::Path;

use anyhow::{Result, bail};
use facade::check::check;
use facade::plan::Plan;
use facade::settings::{DEFAULT_FILE, Settings};
use platform::table::print_line;

pub(crate) fn run(file: Option<&Path>, json: bool) -> Result<()> {
    let findings = check(file);
    let name = file.map_or_else(|| DEFAULT_FILE.to_owned(), |file| file.display().to_string());
    if json {
        print_line(&serde_json::to_string_pretty(&findings)?);
    }
    match findings.len() {
        0 if json => Ok(()),
        0 => sound(&super::settings(file)?),
        count => {
            if !json {
                findings.iter().for_each(|finding| eprintln!("{finding}\n"));
            }
            bail!("{name} has {}", self::count(count, "fault"))
        }
    }
}

fn sound(settings: &Settings) -> Result<()> {
    let plan = Plan::new(settings)?;
    let contexts: Vec<&str> = plan.context_names().collect();
    let names = if contexts.is_empty() { String::new() } else { format!(" ({})", contexts.join(", ")) };
    print_line(&format!(
        "the settings are sound: {}, {}, {}{names}",
        count(settings.upstreams.len(), "upstream"),
        count(settings.routes.len(), "route"),
        count(contexts.len(), "context"),
    ));
    Ok(())
}

fn count(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
