//! `facade init`: a settings file to start from.
//!
//! Invariant: what it writes passes `facade check`, and nothing is overwritten unasked.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use facade::plan::Plan;
use facade::settings::Settings;
use platform::table::{print_error_line, print_line};

use crate::cli::InitArgs;

/// How long the upstream may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(3);
/// The file; `UPSTREAM` is put in.
const TEMPLATE: &str = include_str!("init.toml");

pub(crate) fn run(arguments: &InitArgs) -> Result<()> {
    let InitArgs { upstream, output, force } = arguments;
    let quoted = toml::Value::String(upstream.clone()).to_string();
    let text = TEMPLATE.replace("UPSTREAM", &quoted);
    let settings: Settings = toml::from_str(&text).context("the file would not be right")?;
    Plan::new(&settings)?;

    let mut options = OpenOptions::new();
    options.write(true).truncate(true).create(true).create_new(!force);
    let name = output.display();
    let mut file = match options.open(output) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{name} is there already; name another with --output, or overwrite it with --force")
        }
        other => other.with_context(|| {
            format!("cannot write {name}; name a file in a folder that is there and yours to write to with --output")
        })?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {name}"))?;
    print_line(&format!("wrote {name}; start with `facade run --config {name}`"));
    if let Err(reason) = probe(upstream) {
        print_error_line(&format!(
            "warning: {upstream} does not answer ({reason}); until it does, clients get 502"
        ));
    }
    Ok(())
}

/// Any answer will do: what stands under `/` is the upstream's business.
fn probe(url: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        client
            .get(url)
            .send()
            .await
            .map(drop)
            .map_err(|error| anyhow::anyhow!(platform::error::chain(&error)))
    })
}
