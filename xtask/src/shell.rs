//! Commands of the tool chain and of the system.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use harness::{Binaries, binaries};
use serde_json::Value;

/// Cargo itself, in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(binaries::workspace());
    // It is read from `.cargo/config.toml` anew; a build script that finds it in its environment as well is run again each time.
    command.env_remove("LIBSQLITE3_FLAGS");
    command
}

/// Runs a command with its output shown; another exit status than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
    ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

/// Whether a command exists and ends well; its output is not shown.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a command and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.output().with_context(|| format!("cannot run `{line}`"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` ended with {}: {}", output.status, told.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether we may change the system.
pub(crate) fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// Installs Debian packages when run as root; else says what to run.
pub(crate) fn install_packages(names: &[&str]) -> Result<()> {
    if !is_root()? {
        bail!("missing: {}; run `sudo apt-get install {}`", names.join(", "), names.join(" "));
    }
    eprintln!("missing: {}; installing", names.join(", "));
    run(Command::new("apt-get").arg("update"))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["install", "--yes", "--no-install-recommends"]);
    run(install.args(names))
}

/// The folder that Cargo builds into.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let text = output(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
    let folder = metadata.get("target_directory").and_then(Value::as_str);
    Ok(PathBuf::from(folder.context("cargo metadata names no target folder")?))
}

/// How binaries are optimised, as Cargo.toml describes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build.
    Release,
    /// As in production.
    Dist,
}

/// Builds these of the project's binaries with optimisation; or takes them as they are from the folder that
/// `BANYAN_BIN_DIR` names.
pub(crate) fn optimised_binaries(names: &[&str], profile: Profile) -> Result<Binaries> {
    if let Some(folder) = env::var_os("BANYAN_BIN_DIR") {
        return Binaries::some_in_folder(folder, names);
    }
    let profile = match profile {
        Profile::Release => "release",
        Profile::Dist => "dist",
    };
    let mut arguments = vec!["build", "--profile", profile, "--bins"];
    arguments.extend(names.iter().flat_map(|name| ["--package", name]));
    run(&mut cargo(&arguments))?;
    Binaries::some_in_folder(target_folder()?.join(profile), names)
}

fn line(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    [name].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}
