//! Child processes: servers that say when they are ready, jobs that run beside the test, commands that end.
//!
//! Invariant: a process that this module started is dead when its handle is dropped, unless it was let go on purpose.
//! Output goes to files, not to pipes, so no process ever blocks on a reader or dies with it.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::wait;

/// How long a server may take until it listens, or until it has ended after being asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The binary.
    pub binary: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Where it runs, and where its output goes.
    pub folder: PathBuf,
    /// Names the output files: `NAME.out`, `NAME.log`.
    pub name: String,
}

impl Launch {
    /// A launch without arguments; the output files are called as the binary is.
    pub fn new(binary: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        let binary = binary.into();
        let name = binary.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { binary, args: Vec::new(), env: Vec::new(), folder: folder.into(), name }
    }

    /// With these arguments after those it has.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// With output files of this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The command line, for messages.
    pub fn line(&self) -> String {
        let binary = self.binary.file_name().unwrap_or_default().to_string_lossy();
        [binary.as_ref()]
            .into_iter()
            .chain(self.args.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    fn spawn(&self) -> Result<Child> {
        let out =
            File::create(self.file("out")).with_context(|| format!("cannot write {}.out", self.name))?;
        let log = OpenOptions::new().create(true).append(true).open(self.file("log"))?;
        Command::new(&self.binary)
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    urls: Vec<String>,
    log: PathBuf,
    let_go: bool,
}

impl Server {
    /// Starts a server and waits until it has named as many listeners as it has.
    pub fn start(launch: &Launch, listeners: usize) -> Result<Self> {
        let child = launch.spawn()?;
        let mut server = Self {
            name: launch.name.clone(),
            child,
            urls: Vec::new(),
            log: launch.file("log"),
            let_go: false,
        };
        let out = launch.file("out");
        let what = format!("{} listens (its log: {})", launch.name, server.log.display());
        server.urls = wait::until(&what, PATIENCE, || {
            let urls = listener_urls(&fs::read_to_string(&out)?);
            if urls.len() >= listeners {
                return Ok(Some(urls));
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended with {status} before it listened: {}", server.name, tail(&server.log));
            }
            Ok(None)
        })?;
        Ok(server)
    }

    /// The base URL of its first listener.
    pub fn url(&self) -> Result<&str> {
        self.urls.first().map(String::as_str).with_context(|| format!("{} has no listener", self.name))
    }

    /// The base URL of its second listener.
    pub fn admin_url(&self) -> Result<&str> {
        self.urls.get(1).map(String::as_str).with_context(|| format!("{} has no admin listener", self.name))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged last.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Ends it with SIGKILL: no handler runs, nothing is flushed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it with SIGTERM and waits for it; an exit status other than 0 is an error.
    pub fn stop(mut self) -> Result<()> {
        terminate(self.child.id())?;
        let what = format!("{} ends after SIGTERM", self.name);
        let status = wait::until(&what, PATIENCE, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "{} ended with {status} after SIGTERM: {}", self.name, tail(&self.log));
        Ok(())
    }

    /// Leaves it running after this process has ended, and returns its process id.
    pub fn let_go(mut self) -> u32 {
        self.let_go = true;
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.let_go {
            // Either may fail only because the process has ended already, which is what is wanted.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A command that ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said on the side.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// The same output, or an error if the command failed.
    pub fn ok(self) -> Result<Self> {
        if self.code == Some(0) {
            return Ok(self);
        }
        let status = self.code.map_or("a signal".to_owned(), |code| format!("status {code}"));
        bail!(
            "`{}` ended with {status}: {}",
            self.line,
            last_lines(&format!("{}\n{}", self.stdout, self.stderr), 12)
        )
    }

    /// What it printed, as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("`{}` printed no JSON: {}", self.line, last_lines(&self.stdout, 5)))
    }
}

/// A command that runs beside the test.
#[derive(Debug)]
pub struct Job {
    launch: Launch,
    child: Child,
    started: Instant,
    log_start: u64,
}

impl Job {
    /// Starts it.
    pub fn start(launch: &Launch) -> Result<Self> {
        let log_start = fs::metadata(launch.file("log")).map_or(0, |data| data.len());
        let child = launch.spawn()?;
        Ok(Self { launch: launch.clone(), child, started: Instant::now(), log_start })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Ends it with SIGKILL. Returns whether it was still running, that is, whether the kill landed.
    pub fn kill(mut self) -> Result<bool> {
        if self.child.try_wait()?.is_some() {
            return Ok(false);
        }
        self.child.kill()?;
        // Only the exit status tells a kill from an end that came just before it.
        Ok(self.child.wait()?.code().is_none())
    }

    /// Waits until it has ended by itself.
    pub fn finish(mut self, limit: Duration) -> Result<Output> {
        let what = format!("`{}` ends", self.launch.line());
        let status = wait::until(&what, limit, || Ok(self.child.try_wait()?))?;
        let took = self.started.elapsed();
        let stdout = read_lossy(&self.launch.file("out"))?;
        let log = fs::read(self.launch.file("log"))?;
        let own = log.get(usize::try_from(self.log_start)?..).unwrap_or_default();
        let stderr = String::from_utf8_lossy(own).into_owned();
        Ok(Output { line: self.launch.line(), code: status.code(), stdout, stderr, took })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // Either may fail only because the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub fn run(launch: &Launch, limit: Duration) -> Result<Output> {
    Job::start(launch)?.finish(limit)
}

/// Sends SIGTERM.
fn terminate(pid: u32) -> Result<()> {
    // The standard library sends SIGKILL only, and unsafe code is not worth one signal.
    let status =
        Command::new("kill").arg("-TERM").arg(pid.to_string()).status().context("cannot run kill")?;
    ensure!(status.success(), "cannot send SIGTERM to process {pid}");
    Ok(())
}

/// The URLs in lines such as `listening http://127.0.0.1:3000`. A line without its end is not complete yet.
fn listener_urls(out: &str) -> Vec<String> {
    out.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| {
            line.trim().strip_prefix("listening ").or_else(|| line.trim().strip_prefix("admin "))
        })
        .filter(|url| url.starts_with("http://"))
        .map(str::to_owned)
        .collect()
}

fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(path: &Path) -> String {
    read_lossy(path).map_or_else(|error| error.to_string(), |text| last_lines(&text, 6))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_name_listeners() {
        let out = "listening http://127.0.0.1:1\nadmin http://127.0.0.1:2\nlistening http://127.0.0.1:";
        assert_eq!(listener_urls(out), ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    }

    #[test]
    fn a_server_that_ends_early_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::new("/bin/sh", folder.path()).args(["-c", "echo no port >&2; exit 3"]);
        let error = Server::start(&launch, 1).unwrap_err().to_string();
        assert!(error.contains("no port") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_failed_command_is_an_error_with_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::new("/bin/sh", folder.path()).args(["-c", "echo oops >&2; exit 2"]);
        let error = run(&launch, PATIENCE).unwrap().ok().unwrap_err().to_string();
        assert!(error.contains("status 2") && error.contains("oops"), "{error}");
    }

    #[test]
    fn a_kill_that_comes_too_late_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut job = Job::start(&Launch::new("/bin/true", folder.path())).unwrap();
        wait::until("true ends", PATIENCE, || job.ended()).unwrap();
        assert!(!job.kill().unwrap());
        let job = Job::start(&Launch::new("/bin/sleep", folder.path()).args(["600"])).unwrap();
        assert!(job.kill().unwrap());
    }
}
