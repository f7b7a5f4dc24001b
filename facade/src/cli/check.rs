//! `facade check`.
//!
//! Invariant: it starts nothing, and creates neither file nor store.

use std::path::Path;

use anyhow::{Result, bail};
use facade::check::{check, check_flags};
use facade::plan::Plan;
use facade::settings::{DEFAULT_FILE, Settings};
use platform::error::chain;
use platform::table::{print_error_line, print_line};

use crate::cli::show::flags;

pub(crate) fn run(file: Option<&Path>, json: bool) -> Result<()> {
    let mut findings = check(file);
    let mut sound = None;
    if findings.is_empty() {
        let settings = super::settings(file)?;
        let plan = Plan::new(&settings)?;
        plan.doubts().iter().for_each(|doubt| print_error_line(&format!("note: {doubt}")));
        match flags(&settings) {
            Ok(flags) => findings = check_flags(file, &plan, &flags),
            Err(error) => print_error_line(&format!(
                "note: the settings were not held against the flags: {}",
                chain(&error)
            )),
        }
        sound = Some(told(&settings, &plan));
    }
    if json {
        print_line(&serde_json::to_string_pretty(&findings)?);
    }
    match (findings.len(), sound) {
        (0, Some(sound)) if !json => print_line(&sound),
        (0, _) => {}
        (faults, _) => {
            if !json {
                findings.iter().for_each(|finding| print_error_line(&format!("{finding}\n")));
            }
            let name = file.map_or_else(|| DEFAULT_FILE.to_owned(), |file| file.display().to_string());
            bail!("{name} has {}", count(faults, "fault"))
        }
    }
    Ok(())
}

fn told(settings: &Settings, plan: &Plan) -> String {
    let contexts: Vec<&str> = plan.context_names().collect();
    let names = if contexts.is_empty() { String::new() } else { format!(" ({})", contexts.join(", ")) };
    format!(
        "the settings are sound: {}, {}, {}{names}",
        count(settings.upstreams.len(), "upstream"),
        count(settings.routes.len(), "route"),
        count(contexts.len(), "context"),
    )
}

fn count(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
