//! A control store's file that is no longer what it was.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use crate::tests::home::{PATIENCE, eventually};
use crate::tests::{reads, who};
use crate::*;

#[test]
fn a_file_that_is_no_control_store_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "this is no database, and long enough to be noticed as none").unwrap();
    let error = ControlStore::open(&settings(&path)).err().unwrap();
    assert!(error.to_string().contains("notes.txt"), "{error}");
}

fn settings(path: &std::path::Path) -> ControlSettings {
    ControlSettings { path: path.to_owned(), ..ControlSettings::default() }
}

fn declared(path: &std::path::Path) -> ControlStore {
    let store = ControlStore::open(&settings(path)).unwrap();
    store.declare("users", DataMode::Shared).unwrap();
    store
}

fn assert_replaced<T: std::fmt::Debug>(answer: Result<T, ControlError>, words: &str) {
    let error = answer.unwrap_err();
    assert!(matches!(error, ControlError::Replaced { .. }), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_file_put_in_place_of_the_first_is_never_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other, aside) =
        (folder.path().join("control.db"), folder.path().join("other.db"), folder.path().join("aside.db"));
    let store = declared(&path);
    let token = store.set_flag("users", reads("10"), &who()).unwrap().token;
    drop(declared(&other));
    let (sender, changes) = mpsc::channel();
    let watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |flags| {
        sender.send(flags.map(|flags| flags[0].token).map_err(ToString::to_string)).unwrap();
        Vec::new()
    })
    .unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), Ok(token));

    fs::rename(&path, &aside).unwrap();
    fs::rename(&other, &path).unwrap();
    let trouble = changes.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(trouble.contains("control.db") && !watcher.vitals().up, "{trouble}");
    assert_replaced(store.flags(), "was replaced by another file");
    assert_replaced(store.set_flag("users", reads("20"), &who()), "was replaced by another file");

    fs::rename(&aside, &path).unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), Ok(token), "the first file is back");
    assert_eq!(store.set_flag("users", reads("20"), &who()).unwrap().token, token + 1);
}

#[test]
fn a_file_that_is_overwritten_in_place_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let store = declared(&path);
    let mut conn = SqliteConnection::establish(&path.display().to_string()).unwrap();
    conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    let (sender, changes) = mpsc::channel();
    let _watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |flags| {
        sender.send(flags.map(drop).map_err(ToString::to_string)).unwrap();
        Vec::new()
    })
    .unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE).unwrap(), Ok(()));
    // From then on nothing but signs of life is written, beside the file.
    eventually("there was a sign of life", || !store.instances().unwrap().is_empty());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 16 * 1024], 0).unwrap();
    let trouble = changes.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(trouble.contains("put back a copy"), "{trouble}");
}

#[test]
fn a_deleted_file_is_not_created_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let store = declared(&path);
    fs::remove_file(&path).unwrap();
    assert_replaced(store.flags(), "is gone");
    assert_replaced(store.set_flag("users", reads("20"), &who()), "is gone");
    assert!(!path.exists());
}
