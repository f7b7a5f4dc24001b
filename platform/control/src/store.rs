//! The store itself: a SQLite file for the processes of one machine, or a PostgreSQL database for those of many.
//!
//! Invariant: whatever decides runs in a transaction that is alone from its start, so what it checked is still true
//! when it commits.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::conn::Conn;
use crate::error::ControlError;
use crate::file::File;
use crate::flag::{Flag, Hold};
use crate::postgres::{Missing, Server};
use crate::settings::ControlSettings;
use crate::transaction::Access;

/// A handle to the control store; clones share their connections. All calls block; those to a server no longer than
/// `answer_timeout_ms`.
#[derive(Clone)]
pub struct ControlStore {
    home: Home,
    settings: Arc<ControlSettings>,
}

#[derive(Clone)]
pub(crate) enum Home {
    File(Arc<File>),
    Server(Arc<Server>),
}

impl ControlStore {
    /// Opens the store, creating what it needs where there is nothing yet.
    pub fn open(settings: &ControlSettings) -> Result<Self, ControlError> {
        Self::open_or(settings, Missing::Create)
    }

    /// Opens a store that some other process created; where there is none, none is made.
    pub fn open_existing(settings: &ControlSettings) -> Result<Self, ControlError> {
        if settings.check().is_ok() && !settings.has_url() {
            std::fs::metadata(&settings.path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    ControlError::Missing { place: settings.place(), what: "there is no such file" }
                }
                _ => ControlError::CannotOpen { path: settings.place(), reason: error.to_string() },
            })?;
        }
        Self::open_or(settings, Missing::Refuse)
    }

    /// A handle to a store that cannot be reached now: it is opened, and never made, by the first call that reaches it.
    pub fn open_later(settings: &ControlSettings) -> Result<Self, ControlError> {
        needs_sound(settings)?;
        let home = match settings.has_url() {
            true => Home::Server(Server::later(settings, Missing::Refuse)),
            false => Home::File(Arc::new(File::later(settings))),
        };
        Ok(Self { home, settings: Arc::new(settings.clone()) })
    }

    fn open_or(settings: &ControlSettings, missing: Missing) -> Result<Self, ControlError> {
        needs_sound(settings)?;
        let home = match settings.has_url() {
            true => Home::Server(Server::open(settings, missing)?),
            false => Home::File(Arc::new(File::open(settings)?)),
        };
        Ok(Self { home, settings: Arc::new(settings.clone()) })
    }

    /// The settings under which the store was opened.
    pub fn settings(&self) -> &ControlSettings {
        &self.settings
    }

    /// The store as messages call it: the file, or the server's `host:port/name`.
    pub fn place(&self) -> String {
        self.settings.place()
    }

    /// Whether the store can be read now; for health checks.
    pub fn check(&self) -> Result<(), String> {
        self.flags().map(drop).map_err(|error| platform::error::chain(&error))
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Settings for work that may outlive its caller.
    pub(crate) fn shared_settings(&self) -> Arc<ControlSettings> {
        Arc::clone(&self.settings)
    }

    pub(crate) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.transact(Access::Read, work)
    }

    /// Whatever checks before it changes.
    pub(crate) fn decide<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.transact(Access::Decide, work)
    }

    /// Whatever replaces what this process alone says.
    pub(crate) fn report<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.transact(Access::Report, work)
    }

    fn transact<T: Send + 'static>(
        &self,
        access: Access,
        work: impl FnOnce(&mut Conn) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        match &self.home {
            Home::File(file) => file.transact(access, work),
            Home::Server(server) => server.transact(access, work),
        }
    }

    /// The flag as it is handed out: its hold by the machine's clock.
    pub(crate) fn local(&self, flag: Flag) -> Flag {
        Flag { hold: flag.hold.map(|hold| self.local_hold(hold)), ..flag }
    }

    pub(crate) fn local_hold(&self, hold: Hold) -> Hold {
        let ahead = self.ahead_ms();
        Hold { began_ms: hold.began_ms - ahead, deadline_ms: hold.deadline_ms - ahead, ..hold }
    }

    /// How far the store's clock is ahead of the machine's.
    pub(crate) fn ahead_ms(&self) -> i64 {
        match &self.home {
            Home::File(_) => 0,
            Home::Server(server) => server.ahead().ms(),
        }
    }
}

fn needs_sound(settings: &ControlSettings) -> Result<(), ControlError> {
    settings.check().map_err(|reason| ControlError::CannotOpen { path: settings.place(), reason })
}
