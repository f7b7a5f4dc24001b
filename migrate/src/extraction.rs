//! One extraction at work: its manifest, its two databases and the control store.
//!
//! Invariant: the flag is read anew for every decision; an owner remembered is an owner of the past.

use std::time::Duration;

use control::{ControlStore, DataMode, Flag};

use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::flow::{End, Flow};
use crate::manifest::Manifest;
use crate::settings::Settings;
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
        let store = ControlStore::open(&settings.control)?;
        store.declare(context, DataMode::Replicated)?;
        Ok(Self {
            manifest,
            files: Files { source: extraction.source.clone(), target: extraction.target.clone() },
            store,
            points: FailPoints::from_env(),
            target_health: extraction.target_health.clone(),
            source_health: extraction.source_health.clone(),
            health_timeout: Duration::from_millis(extraction.health_timeout_ms.unwrap_or(2_000)),
        })
    }

    /// The context.
    pub fn context(&self) -> &str {
        &self.manifest.context
    }

    /// The context's flag as it stands.
    pub fn flag(&self) -> Result<Flag, MigrateError> {
        Ok(self.store.flag(self.context())?)
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

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
