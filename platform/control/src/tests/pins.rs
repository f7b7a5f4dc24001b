//! Keys that are pinned.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::who;
use crate::tests::home::{Backend, eventually, on_both, open};
use crate::*;

on_both!([
    a_pin_is_part_of_its_flag_with_token_and_audit_row,
    what_makes_no_sense_is_not_pinned,
    a_watcher_is_told_of_a_pin,
]);

fn a_pin_is_part_of_its_flag_with_token_and_audit_row(on: Backend) {
    let (_home, store) = open(on, ControlSettings::default());
    let before = store.flag("users").unwrap().token;
    let flag = store.set_pin("users", "42", Some(Side::Service), &who()).unwrap();
    assert_eq!(
        (flag.token, flag.pins.get(b"42"), flag.pins.get(b"43")),
        (before + 1, Some(Side::Service), None)
    );
    assert_eq!(store.set_pin("users", "42", Some(Side::Service), &who()).unwrap().token, before + 1);
    assert_eq!(store.flag("users").unwrap(), flag);
    assert_eq!(store.flags().unwrap()[0].pins, flag.pins);
    store.set_pin("users", "42", Some(Side::Monolith), &who()).unwrap();
    let pins = store.pins(None).unwrap();
    assert_eq!((pins.len(), pins[0].side, pins[0].actor.as_str()), (1, Side::Monolith, "ann"));
    assert_eq!(pins, store.pins(Some("users")).unwrap());
    let flag = store.set_pin("users", "42", None, &who()).unwrap();
    assert!(flag.pins.is_empty() && flag.token == before + 3);
    let told = |row: &AuditRow| (row.action.clone(), row.from_state.clone(), row.to_state.clone(), row.token);
    let rows: Vec<_> = store.history(Some("users"), 3).unwrap().iter().map(told).collect();
    let row = |action: &str, from: &str, to: &str, token| (action.into(), from.into(), to.into(), token);
    assert_eq!(
        rows,
        [
            row("unpin", "key 42 pinned to the monolith", "key 42 by weight", before + 3),
            row("pin", "key 42 pinned to the service", "key 42 pinned to the monolith", before + 2),
            row("pin", "key 42 by weight", "key 42 pinned to the service", before + 1),
        ]
    );
}

fn what_makes_no_sense_is_not_pinned(on: Backend) {
    let (_home, store) = open(on, ControlSettings::default());
    let before = store.flag("users").unwrap();
    let set = |context: &str, key: &str, side, who: &Who| store.set_pin(context, key, side, who).unwrap_err();
    let service = Some(Side::Service);
    assert!(matches!(set("nobody", "1", service, &who()), ControlError::UnknownContext { .. }));
    for (key, side, who) in [
        ("1", service, Who::new("ann", " ")),
        ("1", None, who()),
        ("", service, who()),
        ("a\nb", service, who()),
        (&"x".repeat(1_001), service, who()),
    ] {
        assert!(matches!(set("users", key, side, &who), ControlError::Refused { .. }), "{key:?}");
    }
    assert_eq!(store.flag("users").unwrap(), before);
}

fn a_watcher_is_told_of_a_pin(on: Backend) {
    let (_home, store) = open(on, ControlSettings::default());
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = std::sync::Arc::clone(&told);
    let watcher = Watcher::spawn(store.clone(), "f".to_owned(), InstanceKind::Facade, move |change| {
        if let Ok(flags) = change {
            tell.lock().unwrap().push(flags[0].pins.get(b"42"));
        }
        Vec::new()
    })
    .unwrap();
    store.set_pin("users", "42", Some(Side::Service), &who()).unwrap();
    eventually("the pin is told", || told.lock().unwrap().last() == Some(&Some(Side::Service)));
    drop(watcher);
}

#[test]
fn a_file_from_before_there_were_pins_gets_room_for_them() {
    let (home, store) = open(Backend::Sqlite, ControlSettings::default());
    let settings = home.settings(ControlSettings::default());
    let mut conn = SqliteConnection::establish(settings.path.to_str().unwrap()).unwrap();
    conn.batch_execute("DROP TABLE pins").unwrap();
    drop(store);
    let store = ControlStore::open(&settings).unwrap();
    store.set_pin("users", "42", Some(Side::Service), &who()).unwrap();
}

#[test]
fn a_server_from_before_there_were_pins_gets_room_for_them() {
    let (home, store) = open(Backend::Postgres, ControlSettings::default());
    let settings = home.settings(ControlSettings::default());
    let mut conn = PgConnection::establish(settings.url.expose()).unwrap();
    conn.batch_execute("DROP TABLE banyan_control.pins").unwrap();
    drop(store);
    let store = ControlStore::open_existing(&settings).unwrap();
    store.set_pin("users", "42", Some(Side::Service), &who()).unwrap();
}
