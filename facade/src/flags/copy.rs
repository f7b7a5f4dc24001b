//! A copy of the last known flags on disk, for a start while the control store cannot be reached.
//!
//! Invariants: it holds only what the store has said, and since when nobody knows better; it is replaced as a whole, and
//! only its owner may read it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use control::{DataMode, Flag, Side, now_ms};
use serde::{Deserialize, Serialize};

use super::Flags;
use crate::settings::Settings;

/// Raised with every change of the form.
const FORM: u32 = 1;
/// How often a copy says anew that the store still says the same.
const BEAT: Duration = Duration::from_secs(5);
/// Changes that follow each other within this time are one copy: the disk is the control store's, too, as often as not.
const GATHERING: Duration = Duration::from_millis(50);

/// Where a copy is, and of which store it is.
#[derive(Debug, Clone)]
pub(crate) struct FlagsCopy {
    path: PathBuf,
    store: String,
}

/// What a copy holds.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    pub(crate) flags: Vec<Flag>,
    /// When the store last said so, in milliseconds since 1970.
    pub(crate) confirmed_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    form: u32,
    store: String,
    confirmed_ms: i64,
    flags: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    flag: Flag,
    pins: Vec<(String, Side)>,
}

impl FlagsCopy {
    pub(crate) fn new(settings: &Settings) -> Option<Self> {
        let path = settings.flags_copy_path()?;
        Some(Self { path, store: settings.control.place() })
    }

    /// What was copied of this store; none where there is no copy, or one that is of no use, which is logged.
    pub(crate) fn read(&self) -> Option<Copied> {
        let path = self.path.display();
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "the copy of the flags {path} cannot be read: {error}");
                return None;
            }
        };
        match serde_json::from_slice::<Document>(&text) {
            Ok(Document { form: FORM, store, confirmed_ms, flags }) if store == self.store => {
                let flag = |Entry { flag, pins }| Flag { pins: pins.into_iter().collect(), ..flag };
                return Some(Copied { flags: flags.into_iter().map(flag).collect(), confirmed_ms });
            }
            Ok(Document { form, store, .. }) => {
                tracing::warn!(form, store, "the copy of the flags {path} is of another store or form");
            }
            Err(error) => tracing::warn!(%error, "the copy of the flags {path} is no such copy: {error}"),
        }
        None
    }

    fn write(&self, copied: &Copied) -> io::Result<()> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        let entry = |flag: &Flag| Entry {
            flag: flag.clone(),
            pins: flag.pins.iter().map(|(key, side)| (text(key), side)).collect(),
        };
        let document = Document {
            form: FORM,
            store: self.store.clone(),
            confirmed_ms: copied.confirmed_ms,
            flags: copied.flags.iter().map(entry).collect(),
        };
        // A name of its own: facades that share a copy must not write into each other's.
        let mut beside = self.path.clone().into_os_string();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside);
        let done = written.and_then(|mut file| {
            file.write_all(&serde_json::to_vec(&document)?)?;
            file.sync_data()?;
            fs::rename(&beside, &self.path)
        });
        if done.is_err() {
            // It is of no use to anybody; that it cannot be removed changes nothing about what is reported.
            let _ = fs::remove_file(&beside);
        }
        done
    }
}

impl Copied {
    /// Whether anything was ever moved, so that a store without flags cannot be the one that was copied.
    pub(crate) fn has_moved(&self) -> bool {
        self.flags.iter().any(|flag| flag.token > 0)
    }
}

/// Whether the owner of a context may have changed since its flag was copied: its data was on its way, or away.
pub(super) fn may_have_moved(flag: &Flag) -> bool {
    flag.data == DataMode::Replicated
        && (flag.is_followed() || flag.writes == Side::Service || flag.hold.is_some())
}

/// The thread that keeps a copy. It ends when nobody can tell it anything more.
#[derive(Debug)]
pub(crate) struct CopyKeeper(Option<JoinHandle<()>>);

impl CopyKeeper {
    /// Whatever the store says is to be sent to what is returned.
    pub(crate) fn start(copy: FlagsCopy, flags: &Arc<Flags>) -> io::Result<(Self, Sender<Vec<Flag>>)> {
        let (sender, receiver) = mpsc::channel();
        let flags = Arc::clone(flags);
        let thread = thread::Builder::new().name("flags-copy".to_owned());
        Ok((Self(Some(thread.spawn(move || keep(&copy, &flags, &receiver))?)), sender))
    }
}

impl Drop for CopyKeeper {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic there has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

fn keep(copy: &FlagsCopy, flags: &Flags, told: &Receiver<Vec<Flag>>) {
    let mut last: Option<Vec<Flag>> = None;
    let mut is_failing = false;
    loop {
        let confirmed_ms = match told.recv_timeout(BEAT) {
            Ok(newer) => {
                thread::sleep(GATHERING);
                last = Some(told.try_iter().last().unwrap_or(newer));
                Some(now_ms())
            }
            Err(RecvTimeoutError::Timeout) => flags.confirmed_ms(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let (Some(flags), Some(confirmed_ms)) = (&last, confirmed_ms) else { continue };
        let done = copy.write(&Copied { flags: flags.clone(), confirmed_ms });
        if let Err(error) = &done
            && !is_failing
        {
            let path = copy.path.display();
            tracing::error!(%error, "the copy of the flags cannot be written to {path}: {error}");
        }
        is_failing = done.is_err();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn copy(path: PathBuf, store: &str) -> FlagsCopy {
        FlagsCopy { path, store: store.to_owned() }
    }

    #[test]
    fn a_copy_holds_flags_with_their_pins_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let copy = copy(folder.path().join("copy"), "here");
        assert!(copy.read().is_none());
        let pins = [("42", Side::Service)].into_iter().collect();
        let flags = vec![Flag { token: 7, pins, ..Flag::unmoved("users") }];
        copy.write(&Copied { flags: flags.clone(), confirmed_ms: 5 }).unwrap();
        let read = copy.read().unwrap();
        assert_eq!((read.flags, read.confirmed_ms), (flags, 5));
        assert_eq!(fs::metadata(&copy.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_copy_of_another_store_or_half_of_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let here = copy(folder.path().join("copy"), "here");
        here.write(&Copied { flags: Vec::new(), confirmed_ms: 5 }).unwrap();
        assert!(here.read().is_some() && copy(here.path.clone(), "there").read().is_none());
        fs::write(&here.path, "{\"form\":").unwrap();
        assert!(here.read().is_none());
    }

    #[test]
    fn an_owner_may_have_changed_where_data_was_moving_or_away() {
        let flag = || Flag::unmoved("users");
        assert!(!may_have_moved(&flag()));
        assert!(may_have_moved(&Flag { dual_write: true, ..flag() }));
        assert!(may_have_moved(&Flag { writes: Side::Service, ..flag() }));
        assert!(!may_have_moved(&Flag { writes: Side::Service, data: DataMode::Shared, ..flag() }));
    }
}
