//! The control store as its users see it: gates, switches and the watch.

use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::*;

fn who() -> Who {
    Who::new("ann", "a test")
}

fn open(settings: ControlSettings) -> (TempDir, ControlStore) {
    let folder = tempfile::tempdir().unwrap();
    let store =
        ControlStore::open(&ControlSettings { path: folder.path().join("control.db"), ..settings }).unwrap();
    store.declare("users", DataMode::Replicated).unwrap();
    (folder, store)
}

/// A store whose `users` passed every gate.
fn ready(settings: ControlSettings) -> (TempDir, ControlStore) {
    let (folder, store) = open(settings);
    store.set_dual_write("users", true, &who()).unwrap();
    store.record_backfill("users", 3).unwrap();
    store.record_verification(&verification(0)).unwrap();
    (folder, store)
}

fn verification(differences: i64) -> Verification {
    Verification {
        context: "users".to_owned(),
        clean: differences == 0,
        rows: 3,
        differences,
        position: 7,
        mapping_hash: "abc".to_owned(),
        evidence: "3 rows equal at version 7".to_owned(),
        at_ms: crate::store::now_ms(),
    }
}

fn reads(percent: &str) -> FlagChange {
    FlagChange { reads: Some(percent.parse().unwrap()), ..FlagChange::default() }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, ControlError>) -> String {
    match answer {
        Err(error @ ControlError::Refused { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn reads_are_refused_until_the_data_is_copied_and_proven_right() {
    let (_folder, store) = open(ControlSettings::default());
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("migrate dual-write users on"));
    store.set_dual_write("users", true, &who()).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("migrate backfill users"));
    store.record_backfill("users", 3).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("migrate verify users"));
    store.record_verification(&verification(2)).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("2 differing rows"));
    store.record_verification(&verification(0)).unwrap();
    assert_eq!(store.set_flag("users", reads("10"), &who()).unwrap().stage(), Stage::Canary);
}

#[test]
fn reads_are_refused_while_the_other_side_is_late() {
    let (_folder, store) = ready(ControlSettings::default());
    store.record_lag("users", 12, 60_000).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("12 writes of users wait"));
    store.record_lag("users", 0, 0).unwrap();
    store.set_flag("users", reads("10"), &who()).unwrap();
}

#[test]
fn canary_reads_stay_with_the_owner_while_its_writes_arrive_late() {
    let (_folder, store) = ready(ControlSettings::default());
    store.set_flag("users", reads("100"), &who()).unwrap();
    let side = || store.flags().unwrap()[0].side_of_read(b"42");
    assert_eq!(side(), Side::Service);
    store.record_lag("users", 3, 501).unwrap();
    assert_eq!(side(), Side::Monolith);
    store.record_lag("users", 3, 500).unwrap();
    assert_eq!(side(), Side::Service);
}

#[test]
fn an_old_report_of_lag_says_nothing() {
    let (_folder, store) = ready(ControlSettings { lease_ms: 0, ..ControlSettings::default() });
    store.record_lag("users", 3, 60_000).unwrap();
    assert_eq!(store.set_flag("users", reads("100"), &who()).unwrap().stage(), Stage::Canary);
    assert!(!store.flags().unwrap()[0].late);
}

#[test]
fn an_old_verification_opens_no_gate() {
    let (_folder, store) = ready(ControlSettings::default());
    let hours_ago = Verification { at_ms: crate::store::now_ms() - 7_200_000, ..verification(0) };
    store.record_verification(&hours_ago).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("7200 s old"));
}

#[test]
fn force_passes_a_gate_and_is_shown_in_the_audit_trail() {
    let (_folder, store) = open(ControlSettings::default());
    let change = FlagChange { force: true, ..reads("10") };
    assert!(store.set_flag("users", change, &who()).unwrap().forced);
    store.set_flag("users", reads("0"), &who()).unwrap();
    let history = store.history(Some("users"), 10).unwrap();
    assert_eq!(history.iter().map(|row| row.forced).collect::<Vec<_>>(), [false, true]);
    assert_eq!(history[1].actor, "ann");
    assert!(history[1].to_state.starts_with("reads 10%"), "{}", history[1].to_state);
}

#[test]
fn not_even_force_moves_ownership_without_its_data() {
    let (_folder, store) = ready(ControlSettings::default());
    let change = FlagChange { writes: Some(Side::Service), force: true, ..FlagChange::default() };
    assert!(refusal(store.set_flag("users", change, &who())).contains("migrate switch users --to service"));
}

#[test]
fn with_one_database_for_both_ownership_moves_freely() {
    let (_folder, store) = open(ControlSettings::default());
    store.declare("users", DataMode::Shared).unwrap();
    let change = FlagChange { writes: Some(Side::Service), ..FlagChange::default() };
    assert_eq!(store.set_flag("users", change, &who()).unwrap().stage(), Stage::Extracted);
}

#[test]
fn a_change_needs_a_reason_and_a_known_context() {
    let (_folder, store) = ready(ControlSettings::default());
    assert!(refusal(store.set_flag("users", reads("10"), &Who::new("ann", " "))).contains("--reason"));
    let error = store.set_flag("user", reads("10"), &who()).unwrap_err().to_string();
    assert_eq!(error, "unknown context `user`; known: users");
}

#[test]
fn setting_what_is_set_changes_no_token() {
    let (_folder, store) = ready(ControlSettings::default());
    let token = store.set_flag("users", reads("10"), &who()).unwrap().token;
    assert_eq!(store.set_flag("users", reads("10"), &who()).unwrap().token, token);
}

#[test]
fn turning_dual_write_on_again_voids_what_was_proven() {
    let (_folder, store) = ready(ControlSettings::default());
    store.set_dual_write("users", false, &who()).unwrap();
    store.set_dual_write("users", true, &who()).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("migrate backfill users"));
}

#[test]
fn a_switch_flips_once_and_every_step_raises_the_token() {
    let (_folder, store) = ready(ControlSettings::default());
    let hold = store.begin_switch("users", Side::Service, &who()).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("in progress"));
    let flipped = store.flip("users", hold.token, &who()).unwrap();
    assert_eq!((flipped.writes, flipped.reads), (Side::Service, Weight::FULL));
    assert!(flipped.token > hold.token);
    assert_eq!(store.flip("users", hold.token, &who()).unwrap(), flipped);
    assert!(!store.abort_switch("users", hold.token, &who()).unwrap());
    let done = store.finish_switch("users", hold.token, &who()).unwrap();
    assert_eq!((done.hold, done.stage()), (None, Stage::Extracted));
    assert_eq!(store.finish_switch("users", hold.token, &who()).unwrap(), done);
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("answers all reads"));
    assert!(refusal(store.set_dual_write("users", false, &who())).contains("bring it home first"));
}

#[test]
fn an_aborted_switch_cannot_flip() {
    let (_folder, store) = ready(ControlSettings::default());
    let hold = store.begin_switch("users", Side::Service, &who()).unwrap();
    assert!(store.abort_switch("users", hold.token, &who()).unwrap());
    assert!(matches!(store.flip("users", hold.token, &who()), Err(ControlError::SwitchLost { .. })));
    assert_eq!(store.flag("users").unwrap().writes, Side::Monolith);
}

#[test]
fn a_switch_past_its_deadline_cannot_flip_and_anybody_may_end_it() {
    let (_folder, store) = ready(ControlSettings { hold_limit_ms: 0, ..ControlSettings::default() });
    let hold = store.begin_switch("users", Side::Service, &who()).unwrap();
    assert!(matches!(store.flip("users", hold.token, &who()), Err(ControlError::SwitchLost { .. })));
    let settled = store.settle("users").unwrap();
    assert_eq!((settled.hold, settled.writes), (None, Side::Monolith));
    assert_eq!(store.history(None, 1).unwrap()[0].action, "switch aborted");
}

#[test]
fn a_switch_needs_a_clean_verification() {
    let (_folder, store) = ready(ControlSettings::default());
    store.record_verification(&verification(1)).unwrap();
    assert!(refusal(store.begin_switch("users", Side::Service, &who())).contains("1 differing rows"));
}

#[test]
fn an_instance_that_ends_in_order_is_forgotten() {
    let (_folder, store) = ready(ControlSettings::default());
    let acks = vec![Ack { context: "users".to_owned(), token: 3, held: true }];
    store
        .heartbeat(&Heartbeat { instance: "facade-1".to_owned(), kind: InstanceKind::Facade, acks })
        .unwrap();
    let instances = store.instances().unwrap();
    assert!(instances[0].live && instances[0].holds("users", 3) && !instances[0].holds("users", 4));
    store.retire("facade-1").unwrap();
    assert!(store.instances().unwrap().is_empty());
}

#[test]
fn a_watch_tells_every_change_and_reports_what_it_is_told() {
    let (_folder, store) = ready(ControlSettings::default());
    let (sender, changes) = mpsc::channel();
    let watcher = Watcher::spawn(store.clone(), "facade-1".to_owned(), InstanceKind::Facade, move |flags| {
        let flags = flags.unwrap();
        sender.send(flags[0].reads).unwrap();
        vec![Ack { context: "users".to_owned(), token: flags[0].token, held: false }]
    })
    .unwrap();
    let patience = Duration::from_secs(10);
    assert_eq!(changes.recv_timeout(patience).unwrap(), Weight::ZERO);
    let flag = store.set_flag("users", reads("10"), &who()).unwrap();
    assert_eq!(changes.recv_timeout(patience).unwrap(), flag.reads);
    let deadline = std::time::Instant::now() + patience;
    while store.instances().unwrap().iter().all(|instance| instance.acks[0].token != flag.token) {
        assert!(std::time::Instant::now() < deadline, "the token served was never reported");
        std::thread::yield_now();
    }
    drop(watcher);
    assert!(store.instances().unwrap().is_empty(), "an ended watch still counts as an instance");
}

#[test]
fn a_file_that_is_no_control_store_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "this is no database, and long enough to be noticed as none").unwrap();
    let error = ControlStore::open(&ControlSettings { path, ..ControlSettings::default() }).err().unwrap();
    assert!(error.to_string().contains("notes.txt"), "{error}");
}
