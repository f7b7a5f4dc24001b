//! `facade pin`: through the admin API of a running facade.

use anyhow::Result;
use control::Stage;
use facade::admin::{FlagView, List, PinView};
use facade::settings::Settings;
use platform::table;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::api::{call, in_path};
use crate::cli::{PinArgs, PinCommand, PinListArgs};

pub(crate) fn run(settings: &Settings, command: PinCommand) -> Result<()> {
    match command {
        PinCommand::List(arguments) => list(settings, &arguments),
        PinCommand::Set { side, pin } => set(settings, &pin, &json!(side)),
        PinCommand::Remove { pin } => set(settings, &pin, &Value::Null),
    }
}

fn list(settings: &Settings, arguments: &PinListArgs) -> Result<()> {
    let path = match &arguments.context {
        Some(context) => format!("/api/v1/flags/{}/pins", in_path(context)),
        None => "/api/v1/pins".to_owned(),
    };
    let pins: List<PinView> = call(settings, &arguments.admin, Method::GET, &path, None)?;
    if arguments.admin.json {
        table::print_line(&serde_json::to_string_pretty(&pins.items)?);
        return Ok(());
    }
    let cells = pins
        .items
        .into_iter()
        .map(|PinView { pin, at }| [pin.context, pin.key, pin.side.to_string(), at, pin.actor, pin.reason]);
    table::print(["context", "key", "side", "since", "who", "why"], cells);
    Ok(())
}

fn set(settings: &Settings, pin: &PinArgs, side: &Value) -> Result<()> {
    let PinArgs { context, key, reason, actor, admin } = pin;
    let body = json!({ "key": key, "side": side, "reason": reason, "actor": actor });
    let path = format!("/api/v1/flags/{}/pins", in_path(context));
    let flag: FlagView = call(settings, admin, Method::PUT, &path, Some(&body))?;
    if admin.json {
        table::print_line(&serde_json::to_string_pretty(&flag)?);
        return Ok(());
    }
    let told = match side.as_str() {
        Some(side) => {
            format!("reads of the key {key} of {context} stay at the {side}{}", condition(flag.stage))
        }
        None => format!("reads of the key {key} of {context} go where the weight says"),
    };
    table::print_line(&told);
    Ok(())
}

/// Where both sides may answer, a pin counts; elsewhere it waits.
fn condition(stage: Stage) -> &'static str {
    match stage {
        Stage::Canary => "",
        Stage::Monolith | Stage::Syncing => {
            " once reads are above 0 %; until then the monolith answers all of them"
        }
        Stage::Extracted => {
            " once the monolith owns the context again; until then the service answers all of them"
        }
    }
}
