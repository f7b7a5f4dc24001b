//! One extraction at work: its manifest, its two databases and the control store.
//!
//! Invariant: the flag is read anew for every decision; an owner remembered is an owner of the past.

use std::path::PathBuf;
use std::time::Duration;

use control::{ControlError, ControlSettings, ControlStore, DataMode, Flag};

use crate::drivers::sqlite::{SqliteDriver, SqliteOptions};
use crate::engine::Stream;
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::flow::{End, Flow};
use crate::manifest::Manifest;
use crate::settings::{Engine, Place, Settings};
use crate::sqlite::{Files, Pair};

/// Everything a command needs for one context.
pub struct Extraction {
    /// The mapping.
    pub manifest: Manifest,
    /// The databases.
    pub files: Files,
    /// The control store.
    pub store: ControlStore,
    /// Where a test ends the process.
    pub points: FailPoints,
    /// Health URL of the service.
    pub target_health: Option<String>,
    /// Health URL of the monolith.
    pub source_health: Option<String>,
    /// How long a health answer may take.
    pub health_timeout: Duration,
    /// How many rows a log may hold.
    pub max_log_rows: u64,
}

impl Extraction {
    /// Reads the manifest and opens the control store.
    pub fn open(settings: &Settings, context: &str) -> Result<Self, MigrateError> {
        let extraction = settings.extraction(context)?;
        let manifest = Manifest::load(&extraction.manifest)?;
        if manifest.context != context {
            let (file, other) = (extraction.manifest.display(), &manifest.context);
            return Err(MigrateError::Usage(format!("{file} is the manifest of {other}, not of {context}")));
        }
        let files = Files {
            source: dual_write_file(context, &extraction.source)?,
            target: dual_write_file(context, &extraction.target)?,
        };
        let store = open_store(&settings.control)?;
        needs_store_of_fences(&store, &files, context)?;
        store.declare(context, DataMode::Replicated)?;
        Ok(Self {
            manifest,
            files,
            store,
            points: FailPoints::from_env(),
            target_health: extraction.target_health.clone(),
            source_health: extraction.source_health.clone(),
            health_timeout: Duration::from_millis(extraction.health_timeout_ms.unwrap_or(2_000)),
            max_log_rows: extraction.run.max_log_rows,
        })
    }

    /// Runs a command; if a database fails outside of any transaction, the error says where the databases are.
    pub fn carry_out<T>(
        &self,
        command: impl FnOnce(&Self) -> Result<T, MigrateError>,
    ) -> Result<T, MigrateError> {
        command(self).map_err(|error| self.files.locate(error))
    }

    /// The context.
    pub fn context(&self) -> &str {
        &self.manifest.context
    }

    /// The context's flag as it stands.
    pub fn flag(&self) -> Result<Flag, MigrateError> {
        Ok(self.store.flag(self.context())?)
    }

    /// The stream that fills `flow.to`, and the driver that moves it.
    pub(crate) fn stream(&self, flow: Flow) -> Result<(Stream, SqliteDriver), MigrateError> {
        let stream = self.manifest.stream(flow)?;
        let driver = SqliteDriver::new(&self.files.source, &self.files.target, SqliteOptions::default());
        Ok((stream, if flow.from == End::Target { driver.back() } else { driver }))
    }

    /// The direction out of the present owner's database; refused while ownership is being switched.
    pub fn settled_flow(&self) -> Result<Flow, MigrateError> {
        let flag = self.store.settle(self.context())?;
        if let Some(hold) = flag.hold {
            return Err(MigrateError::refused(
                format!("a switch of {} to {} is in progress", flag.context, hold.to),
                format!("wait until it has ended; `migrate status {}` shows it", flag.context),
            ));
        }
        Ok(Flow::from_owner(End::from(flag.writes)))
    }

    /// Refuses if the manifest and the databases do not agree.
    pub fn needs_fitting_mapping(&self, pair: &Pair) -> Result<(), MigrateError> {
        match pair.misfits(&self.manifest)?.into_iter().next() {
            None => Ok(()),
            Some(misfit) => Err(MigrateError::refused(
                misfit,
                format!("correct the manifest; `migrate plan {}` lists every such problem", self.context()),
            )),
        }
    }
}

/// Dual-write is for SQLite files; other databases are copied by change capture.
fn dual_write_file(context: &str, place: &Place) -> Result<PathBuf, MigrateError> {
    match place.engine()? {
        Engine::Sqlite(file) => Ok(file),
        Engine::Postgres(_) => Err(MigrateError::refused(
            format!(
                "{place} is no SQLite file, and dual-write and switches of ownership are for SQLite files"
            ),
            format!(
                "copy {context} by change capture: `migrate capture install {context}`, then `migrate run {context}`"
            ),
        )),
    }
}

/// Opens the control store that the facades use. One created here would know nothing and look right all the same.
pub(crate) fn open_store(settings: &ControlSettings) -> Result<ControlStore, MigrateError> {
    ControlStore::open_existing(settings).map_err(|error| {
        let (place, reason) = match error {
            ControlError::CannotOpen { path, reason } => (path, reason),
            ControlError::Missing { place, what } => (place, what.to_owned()),
            other => return other.into(),
        };
        let place = if settings.is_set() { format!(" {place}") } else { String::new() };
        MigrateError::Unreachable {
            message: format!(
                "cannot open the control store{place}: {reason}; start the facade first, or set control.path or \
                 control.url to the store it uses"
            ),
            source: None,
        }
    })
}

/// Refuses if a fence was moved under a token that the control store never gave out: ownership is then decided in
/// another store. Fences are read before the flag, so a switch that goes on meanwhile is not taken for one. A side
/// that cannot be read is left to the command.
fn needs_store_of_fences(store: &ControlStore, files: &Files, context: &str) -> Result<(), MigrateError> {
    let fence = |end| Pair::alone(files, end)?.context_state(end, context);
    let states = [End::Source, End::Target].map(fence);
    let moved = states.into_iter().flatten().flatten().map(|state| state.fence_token).max().unwrap_or(0);
    let reached = match store.flag(context) {
        Ok(flag) => flag.token,
        Err(ControlError::UnknownContext { .. }) => 0,
        Err(error) => return Err(error.into()),
    };
    if moved <= reached {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!(
            "the fence of {context} was moved under token {moved}, which the control store {} has not reached (it is \
             at {reached})",
            store.place()
        ),
        "set control.path or control.url to the store that the switch was made in",
    ))
}
