//! A context that is copied by change capture: its stream, its two databases, and the driver that knows them.
//!
//! Invariant: a context is served by change capture or by dual-write, never by both: a delayed dual-write would overwrite a
//! newer row that catch-up brought, and leave no dirty key to heal it.

use std::path::Path;

use control::{ControlStore, DataMode, Side, Weight, Who};

use super::arguments::StreamArgs;
use crate::drivers::postgres::{PostgresDriver, PostgresOptions};
use crate::drivers::sqlite::{SqliteDriver, SqliteOptions};
use crate::engine::{Stream, TableShape};
use crate::error::MigrateError;
use crate::extraction::open_store;
use crate::flow::{End, Flow};
use crate::manifest::Manifest;
use crate::settings::{Engine, ExtractionSettings, Place, Settings};

/// A context and a direction of it.
pub(super) struct Captured {
    pub(super) context: String,
    pub(super) stream: Stream,
    pub(super) extraction: ExtractionSettings,
    back: bool,
}

/// Which side a direction fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fills {
    /// The one that owns the data.
    Owner,
    /// The one that follows.
    Follower,
}

/// The two databases, both of one engine.
pub(super) enum Ends {
    Sqlite(std::path::PathBuf, std::path::PathBuf),
    Postgres(String, String),
}

/// Runs an expression with the driver of a context's databases, whatever its type is.
macro_rules! with_driver {
    ($captured:expr, |$driver:ident| $work:expr) => {
        match $captured.ends()? {
            $crate::cli::captured::Ends::Sqlite(source, target) => {
                let $driver = $crate::cli::captured::sqlite(&source, &target, $captured.is_back());
                $work
            }
            $crate::cli::captured::Ends::Postgres(source, target) => {
                let $driver = $crate::cli::captured::postgres(&source, &target, $captured.is_back())?;
                $work
            }
        }
    };
}
pub(super) use with_driver;

impl Captured {
    pub(super) fn open(settings: &Settings, arguments: &StreamArgs) -> Result<Self, MigrateError> {
        let context = &arguments.context;
        let extraction = settings.extraction(context)?.clone();
        let manifest = Manifest::load(&extraction.manifest)?;
        if manifest.context != *context {
            let (file, other) = (extraction.manifest.display(), &manifest.context);
            return Err(MigrateError::Usage(format!("{file} is the manifest of {other}, not of {context}")));
        }
        let from = if arguments.back { End::Target } else { End::Source };
        let stream = manifest.stream(Flow { from, to: from.other() })?;
        Ok(Self { context: context.clone(), stream, extraction, back: arguments.back })
    }

    pub(super) fn is_back(&self) -> bool {
        self.back
    }

    /// The databases as settings name them.
    pub(super) fn ends(&self) -> Result<Ends, MigrateError> {
        let ExtractionSettings { source, target, .. } = &self.extraction;
        match (source.engine()?, target.engine()?) {
            (Engine::Sqlite(source), Engine::Sqlite(target)) => Ok(Ends::Sqlite(source, target)),
            (Engine::Postgres(source), Engine::Postgres(target)) => Ok(Ends::Postgres(source, target)),
            _ => Err(MigrateError::refused(
                format!(
                    "{source} and {target} are of two engines, and a mapping is written in one dialect whose values both ends \
                     must hold alike"
                ),
                "copy between two SQLite files or two PostgreSQL databases",
            )),
        }
    }

    /// Refused while dual-write is on.
    pub(super) fn needs_no_dual_write(&self, settings: &Settings) -> Result<(), MigrateError> {
        if !settings.control.is_set() {
            return Ok(());
        }
        let store = open_store(&settings.control)?;
        let flag = match store.flag(&self.context) {
            Err(control::ControlError::UnknownContext { .. }) => return Ok(()),
            flag => flag?,
        };
        if !flag.dual_write {
            return Ok(());
        }
        let context = &self.context;
        Err(MigrateError::refused(
            format!(
                "dual-write of {context} is on: a delayed one would overwrite a newer row that catch-up brought, and leave no \
                 changed key that heals it"
            ),
            format!("run `migrate dual-write {context} off` first"),
        ))
    }

    /// Which side this direction fills, as the control store says. One that does not know the context: the monolith owns it.
    pub(super) fn fills(&self, store: &ControlStore) -> Result<Fills, MigrateError> {
        let owner = match store.flag(&self.context) {
            Err(control::ControlError::UnknownContext { .. }) => Side::Monolith,
            flag => flag?.writes,
        };
        let filled = if self.back { Side::Monolith } else { Side::Service };
        Ok(if owner == filled { Fills::Owner } else { Fills::Follower })
    }

    /// Refused where the side to be filled owns the data, unless the stream rests and so writes nothing.
    pub(super) fn needs_follower(
        &self,
        settings: &Settings,
        is_resting: impl FnOnce() -> Result<bool, MigrateError>,
    ) -> Result<(), MigrateError> {
        let Some(store) = Self::store(settings)? else { return Ok(()) };
        if self.fills(&store)? == Fills::Follower || is_resting()? {
            return Ok(());
        }
        let (context, side) = (&self.context, if self.back { "monolith" } else { "service" });
        let (back, other) = if self.back { ("", "service") } else { (" --back", "monolith") };
        Err(MigrateError::refused(
            format!("the {side} owns {context}, and its newer rows would be written over"),
            format!(
                "follow it with `migrate run {context}{back}`, or run `migrate switch {context} --to {other}` first"
            ),
        ))
    }

    /// Refused while somebody relies on what this direction's capture brings across. The control store asks the same only when
    /// the last capture of the context goes.
    pub(super) fn needs_nobody_behind(&self, settings: &Settings) -> Result<(), MigrateError> {
        let Some(store) = Self::store(settings)? else { return Ok(()) };
        let context = &self.context;
        let flag = match store.flag(context) {
            Err(control::ControlError::UnknownContext { .. }) => return Ok(()),
            flag => flag?,
        };
        if let Some(hold) = flag.hold {
            return Err(MigrateError::refused(
                format!("a switch of {context} to {} is in progress", hold.to),
                "wait until it has ended; `migrate status` shows it and ends one that was left behind",
            ));
        }
        match (self.back, flag.writes) {
            (true, Side::Service) => Err(MigrateError::refused(
                format!(
                    "the service owns {context}, and what it writes would not come back to the monolith any more"
                ),
                format!("run `migrate switch {context} --to monolith` first"),
            )),
            (false, Side::Monolith) if flag.reads > Weight::ZERO => Err(MigrateError::refused(
                format!("{context} is read from the service, which would fall behind"),
                format!("run `facade flag set {context} --reads 0` first"),
            )),
            _ => Ok(()),
        }
    }

    /// Tells the control store, where one is set, that change capture serves the context, or does so no longer. Refused
    /// beside dual-write, and while somebody relies on it.
    pub(super) fn announce(&self, settings: &Settings, on: bool) -> Result<(), MigrateError> {
        let Some(store) = Self::store(settings)? else { return Ok(()) };
        store.declare(&self.context, DataMode::Replicated)?;
        let reason = if on { "capture is installed" } else { "capture is removed" };
        store.set_capture(&self.context, on, &Who::new("migrate", reason))?;
        Ok(())
    }

    /// The control store, where one is set.
    pub(super) fn store(settings: &Settings) -> Result<Option<ControlStore>, MigrateError> {
        settings.control.is_set().then(|| open_store(&settings.control)).transpose()
    }
}

/// Whether change capture serves a context: its manifest has no versions, its databases are no files, or capture is installed.
pub(super) fn is_captured(settings: &Settings, context: &str) -> Result<bool, MigrateError> {
    let extraction = settings.extraction(context)?;
    let manifest = Manifest::load(&extraction.manifest)?;
    let files = [&extraction.source, &extraction.target].map(|place| place.engine());
    if !manifest.has_versions() || !files.iter().all(|file| matches!(file, Ok(Engine::Sqlite(_)))) {
        return Ok(true);
    }
    Ok(installed(settings, context)?.is_some())
}

/// Where capture is installed, if it is.
fn installed(settings: &Settings, context: &str) -> Result<Option<End>, MigrateError> {
    for (back, end) in [(false, End::Source), (true, End::Target)] {
        if is_installed(settings, context, back)? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// Whether capture of this direction is installed. A database that cannot be read says nothing.
pub(super) fn is_installed(settings: &Settings, context: &str, back: bool) -> Result<bool, MigrateError> {
    let arguments = StreamArgs { context: context.to_owned(), back };
    let Ok(captured) = Captured::open(settings, &arguments) else { return Ok(false) };
    let state = with_driver!(captured, |driver| state_of(&driver, &captured.stream));
    Ok(state.is_ok_and(|state| state.installed))
}

/// Refused where capture is installed.
pub(super) fn needs_no_capture(settings: &Settings, context: &str) -> Result<(), MigrateError> {
    let Some(end) = installed(settings, context)? else { return Ok(()) };
    let back = if end == End::Target { " --back" } else { "" };
    Err(MigrateError::refused(
        format!(
            "capture of {context} is installed at the {end}: a delayed dual-write would overwrite a newer row that catch-up \
             brought, and leave no changed key that heals it"
        ),
        format!(
            "stay with change capture (`migrate run {context}`), or run `migrate capture remove {context}{back} --forget`"
        ),
    ))
}

pub(super) fn state_of<D: crate::engine::Driver>(
    driver: &D,
    stream: &Stream,
) -> Result<crate::engine::CaptureState, MigrateError> {
    use crate::engine::Source as _;
    driver.source()?.capture_state(stream)
}

pub(super) fn sqlite(source: &Path, target: &Path, back: bool) -> SqliteDriver {
    let there = SqliteDriver::new(source, target, SqliteOptions::default());
    if back { there.back() } else { there }
}

pub(super) fn postgres(source: &str, target: &str, back: bool) -> Result<PostgresDriver, MigrateError> {
    let (source, target) = if back { (target, source) } else { (source, target) };
    PostgresDriver::new(source, target, PostgresOptions::default())
}

/// The tables of a database.
pub(super) fn describe(place: &Place) -> Result<Vec<TableShape>, MigrateError> {
    use crate::engine::{Driver as _, Source as _};
    match place.engine()? {
        Engine::Sqlite(file) => sqlite(&file, &file, false).source()?.describe(),
        Engine::Postgres(url) => postgres(&url, &url, false)?.source()?.describe(),
    }
}
