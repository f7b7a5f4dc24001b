//! `facade override`: signs a tester's wish with the secret of the settings.
//!
//! Invariant: it asks nobody; whoever can read the secret can sign.

use anyhow::{Result, bail};
use control::{Side, now_ms};
use facade::overrides::sign;
use facade::plan::Plan;
use facade::settings::Settings;
use jiff::{SignedDuration, Timestamp};
use platform::table::print_line;

use crate::cli::OverrideArgs;

/// What is signed cannot be taken back but by a new secret.
const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(crate) fn run(settings: &Settings, arguments: &OverrideArgs) -> Result<()> {
    let plan = Plan::new(settings)?;
    let OverrideArgs { context, side, lasts, header, json } = arguments;
    if settings.overrides.secret.expose().is_empty() {
        bail!(
            "setting `overrides.secret` is empty, so there are no overrides; set it for every facade alike"
        );
    }
    if !plan.context_names().any(|name| name == context) {
        let known: Vec<_> = plan.context_names().collect();
        bail!("unknown context `{context}`; known: {}", known.join(", "));
    }
    let side: Side = side.parse()?;
    let expires_s = now_ms() / 1000 + duration(lasts)?.as_secs();
    let signed = sign(&settings.overrides, context, side, expires_s);
    if *json {
        print_line(&serde_json::to_string_pretty(&signed)?);
        return Ok(());
    }
    print_line(&format!("{}: {}", signed.header, signed.token));
    if !header {
        print_line(&format!("Cookie: {}={}", signed.cookie, signed.token));
        print_line(&format!("valid until {}", Timestamp::from_second(expires_s)?));
    }
    Ok(())
}

fn duration(text: &str) -> Result<SignedDuration> {
    // A day is 24 hours here, which the parser leaves to calendars.
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
    let parsed = match days {
        Some(days) => Some(SignedDuration::from_hours(i64::from(days) * 24)),
        None => text.parse().ok(),
    };
    match parsed {
        Some(duration) if duration.as_secs() >= 1 && duration <= LONGEST => Ok(duration),
        Some(_) => bail!("--for `{text}`: from 1s to 30d is allowed"),
        None => bail!("--for `{text}` is no duration; write 90s, 15m, 2h or 1d"),
    }
}
