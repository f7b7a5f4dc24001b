//! The control store as its users see it: gates, switches and instances, each fact on both databases.

use crate::tests::home::{Backend, Home, on_both, open};
use crate::*;

mod away;
mod concurrency;
mod home;
mod moved_file;
mod pins;
mod watching;

on_both!([
    reads_are_refused_until_the_data_is_copied_and_proven_right,
    reads_are_refused_while_the_other_side_is_late,
    canary_reads_stay_with_the_owner_while_its_writes_arrive_late,
    an_old_report_of_lag_says_nothing,
    an_old_verification_opens_no_gate,
    force_passes_a_gate_and_is_shown_in_the_audit_trail,
    not_even_force_moves_ownership_without_its_data,
    with_one_database_for_both_ownership_moves_freely,
    a_change_needs_a_reason_and_a_known_context,
    setting_what_is_set_changes_no_token,
    turning_dual_write_on_again_voids_what_was_proven,
    capture_opens_the_gates_with_a_verification_alone,
    capture_and_dual_write_exclude_each_other,
    capture_stays_while_the_service_is_read,
    a_switch_flips_once_and_every_step_raises_the_token,
    an_aborted_switch_cannot_flip,
    a_switch_past_its_deadline_cannot_flip_and_anybody_may_end_it,
    a_switch_needs_a_clean_verification,
    an_instance_that_ends_in_order_is_forgotten,
]);

fn who() -> Who {
    Who::new("ann", "a test")
}

/// A store whose `users` passed every gate.
fn ready(on: Backend, settings: ControlSettings) -> (Home, ControlStore) {
    let (home, store) = open(on, settings);
    store.set_dual_write("users", true, &who()).unwrap();
    store.record_backfill("users", 3).unwrap();
    store.record_verification(&verification(0)).unwrap();
    (home, store)
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
        at_ms: now_ms(),
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

fn captured(on: Backend) -> (Home, ControlStore) {
    let (home, store) = open(on, ControlSettings::default());
    assert_eq!(store.set_capture("users", true, &who()).unwrap().stage(), Stage::Syncing);
    (home, store)
}

fn capture_opens_the_gates_with_a_verification_alone(on: Backend) {
    let (_home, store) = captured(on);
    assert!(refusal(store.begin_switch("users", Side::Service, &who())).contains("migrate verify users"));
    store.record_verification(&verification(1)).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("migrate repair users"));
    store.record_verification(&verification(0)).unwrap();
    assert!(store.set_flag("users", reads("10"), &who()).unwrap().captured);
    let hold = store.begin_switch("users", Side::Service, &who()).unwrap();
    let flag = store.flip("users", hold.token, &who()).unwrap();
    assert!(flag.captured && store.flags().unwrap().iter().all(|flag| flag.captured));
}

fn capture_and_dual_write_exclude_each_other(on: Backend) {
    let (_home, store) = captured(on);
    assert!(refusal(store.set_dual_write("users", true, &who())).contains("migrate capture remove users"));
    store.record_verification(&verification(0)).unwrap();
    store.set_capture("users", false, &who()).unwrap();
    assert_eq!(store.verification("users").unwrap(), None, "nothing is up to date any more");
    store.set_dual_write("users", true, &who()).unwrap();
    assert!(refusal(store.set_capture("users", true, &who())).contains("migrate dual-write users off"));
}

fn capture_stays_while_the_service_is_read(on: Backend) {
    let (_home, store) = captured(on);
    store.record_verification(&verification(0)).unwrap();
    store.set_flag("users", reads("10"), &who()).unwrap();
    assert!(refusal(store.set_capture("users", false, &who())).contains("--reads 0"));
}

fn reads_are_refused_until_the_data_is_copied_and_proven_right(on: Backend) {
    let (_home, store) = open(on, ControlSettings::default());
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

fn reads_are_refused_while_the_other_side_is_late(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    store.record_lag("users", 12, 60_000).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("12 writes of users wait"));
    store.record_lag("users", 0, 0).unwrap();
    store.set_flag("users", reads("10"), &who()).unwrap();
}

fn canary_reads_stay_with_the_owner_while_its_writes_arrive_late(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    store.set_flag("users", reads("100"), &who()).unwrap();
    let side = || store.flags().unwrap()[0].side_of_read(b"42");
    assert_eq!(side(), Side::Service);
    store.record_lag("users", 3, 501).unwrap();
    assert_eq!(side(), Side::Monolith);
    store.record_lag("users", 3, 500).unwrap();
    assert_eq!(side(), Side::Service);
}

fn an_old_report_of_lag_says_nothing(on: Backend) {
    let (_home, store) = ready(on, ControlSettings { lease_ms: 0, ..ControlSettings::default() });
    store.record_lag("users", 3, 60_000).unwrap();
    assert_eq!(store.set_flag("users", reads("100"), &who()).unwrap().stage(), Stage::Canary);
    assert!(!store.flags().unwrap()[0].late);
}

fn an_old_verification_opens_no_gate(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let hours_ago = Verification { at_ms: now_ms() - 7_200_000, ..verification(0) };
    store.record_verification(&hours_ago).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("7200 s old"));
}

fn force_passes_a_gate_and_is_shown_in_the_audit_trail(on: Backend) {
    let (_home, store) = open(on, ControlSettings::default());
    let change = FlagChange { force: true, ..reads("10") };
    assert!(store.set_flag("users", change, &who()).unwrap().forced);
    store.set_flag("users", reads("0"), &who()).unwrap();
    let history = store.history(Some("users"), 10).unwrap();
    assert_eq!(history.iter().map(|row| row.forced).collect::<Vec<_>>(), [false, true]);
    assert_eq!(history[1].actor, "ann");
    assert!(history[1].to_state.starts_with("reads 10%"), "{}", history[1].to_state);
}

fn not_even_force_moves_ownership_without_its_data(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let change = FlagChange { writes: Some(Side::Service), force: true, ..FlagChange::default() };
    assert!(refusal(store.set_flag("users", change, &who())).contains("migrate switch users --to service"));
}

fn with_one_database_for_both_ownership_moves_freely(on: Backend) {
    let (_home, store) = open(on, ControlSettings::default());
    store.declare("users", DataMode::Shared).unwrap();
    let change = FlagChange { writes: Some(Side::Service), ..FlagChange::default() };
    assert_eq!(store.set_flag("users", change, &who()).unwrap().stage(), Stage::Extracted);
}

fn a_change_needs_a_reason_and_a_known_context(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    assert!(refusal(store.set_flag("users", reads("10"), &Who::new("ann", " "))).contains("--reason"));
    let error = store.set_flag("user", reads("10"), &who()).unwrap_err().to_string();
    assert_eq!(error, "unknown context `user`; known: users");
}

fn setting_what_is_set_changes_no_token(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let token = store.set_flag("users", reads("10"), &who()).unwrap().token;
    assert_eq!(store.set_flag("users", reads("10"), &who()).unwrap().token, token);
}

fn turning_dual_write_on_again_voids_what_was_proven(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    store.set_dual_write("users", false, &who()).unwrap();
    store.set_dual_write("users", true, &who()).unwrap();
    assert!(refusal(store.set_flag("users", reads("10"), &who())).contains("migrate backfill users"));
}

fn a_switch_flips_once_and_every_step_raises_the_token(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
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

fn an_aborted_switch_cannot_flip(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let hold = store.begin_switch("users", Side::Service, &who()).unwrap();
    assert!(store.abort_switch("users", hold.token, &who()).unwrap());
    assert!(matches!(store.flip("users", hold.token, &who()), Err(ControlError::SwitchLost { .. })));
    assert_eq!(store.flag("users").unwrap().writes, Side::Monolith);
}

fn a_switch_past_its_deadline_cannot_flip_and_anybody_may_end_it(on: Backend) {
    let (_home, store) = ready(on, ControlSettings { hold_limit_ms: 0, ..ControlSettings::default() });
    let hold = store.begin_switch("users", Side::Service, &who()).unwrap();
    assert!(matches!(store.flip("users", hold.token, &who()), Err(ControlError::SwitchLost { .. })));
    let settled = store.settle("users").unwrap();
    assert_eq!((settled.hold, settled.writes), (None, Side::Monolith));
    assert_eq!(store.history(None, 1).unwrap()[0].action, "switch aborted");
}

fn a_switch_needs_a_clean_verification(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    store.record_verification(&verification(1)).unwrap();
    assert!(refusal(store.begin_switch("users", Side::Service, &who())).contains("1 differing rows"));
}

fn an_instance_that_ends_in_order_is_forgotten(on: Backend) {
    let (_home, store) = ready(on, ControlSettings::default());
    let acks = vec![Ack { context: "users".to_owned(), token: 3, held: true }];
    store
        .heartbeat(&Heartbeat { instance: "facade-1".to_owned(), kind: InstanceKind::Facade, acks })
        .unwrap();
    let instances = store.instances().unwrap();
    assert!(instances[0].age_ms < 3_000);
    assert!(instances[0].live && instances[0].holds("users", 3) && !instances[0].holds("users", 4));
    store.retire("facade-1").unwrap();
    assert!(store.instances().unwrap().is_empty());
}
