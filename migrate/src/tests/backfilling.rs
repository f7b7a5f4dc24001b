//! Facts about the backfill.
//!
//! Invariant: each test ends by comparing both sides with the engine's own comparison, which has tests of its own.

use std::cell::Cell;

use crate::backfill::BackfillOptions;
use crate::error::MigrateError;
use crate::fail_point::FailPoints;
use crate::tests::application::{Application, Delivery};
use crate::tests::world::{MANIFEST, MONOLITH, SERVICE, World, who};

fn chunks_of(rows: u32) -> BackfillOptions {
    BackfillOptions { chunk_rows: rows, ..BackfillOptions::default() }
}

#[test]
fn everything_is_copied_and_equal() {
    let world = World::copied(100);
    let report = world.verify();
    assert!(report.clean(), "{report:?}");
    assert_eq!(world.count(&world.target, "person"), 100);
    assert_eq!(report.keys, 100);
    assert_eq!(world.extraction.store.verification("users").unwrap().unwrap().position, 100);
}

#[test]
fn a_backfill_that_was_interrupted_goes_on_behind_its_last_chunk() {
    let world = World::new();
    world.seed(50);
    world.dual_write(true);
    let first = world.backfill(BackfillOptions { max_chunks: Some(3), ..chunks_of(7) });
    assert!(!first.done && first.keys_copied == 21);
    let second = world.backfill(chunks_of(7));
    assert!(second.done && second.resumed);
    assert_eq!(second.keys_copied, 29);
    assert!(world.verify().clean());
}

#[test]
fn a_crash_at_any_fail_point_loses_nothing() {
    for point in ["backfill_chunk_copied:3", "backfill_chunk:3", "backfill_rows"] {
        let mut world = World::new();
        world.seed(50);
        world.dual_write(true);
        world.extraction.points = FailPoints::crash_at(point);
        let crashed = world.try_backfill(chunks_of(7));
        assert!(matches!(crashed, Err(MigrateError::Crashed(_))), "{point}: {crashed:?}");
        world.extraction.points = FailPoints::none();
        let report = world.backfill(chunks_of(7));
        assert!(report.done && report.resumed, "{point}");
        assert!(world.verify().clean(), "{point}");
    }
}

#[test]
fn a_second_run_copies_only_what_is_newer() {
    let world = World::copied(100);
    world.set_email(5, "five@example.com");
    let report = world.backfill(BackfillOptions::default());
    assert!(report.done && !report.resumed);
    assert_eq!(report.keys_copied, 1);
    assert!(world.verify().clean());
}

#[test]
fn addresses_that_were_swapped_while_dual_write_was_off_do_not_collide() {
    let world = World::copied(10);
    world.dual_write(false);
    world.set_email(1, "away@example.com");
    world.set_email(9, "ann1@example.com");
    world.set_email(1, "ann9@example.com");
    world.delete(10);
    world.set_email(2, "ann10@example.com");
    world.dual_write(true);
    assert!(world.backfill(chunks_of(2)).done);
    assert!(world.verify().clean());
}

#[test]
fn a_row_that_holds_a_value_it_gave_away_is_brought_up_to_date_in_the_same_chunk() {
    let world = World::copied(10);
    world.dual_write(false);
    world.set_email(9, "away@example.com");
    world.set_email(1, "ann9@example.com");
    world.dual_write(true);
    let report = world.backfill(BackfillOptions { max_chunks: Some(1), ..chunks_of(2) });
    assert!(report.refused.is_empty(), "{report:?}");
    assert_eq!(world.count(&world.target, "person"), 10);
    assert!(world.verify().clean());
}

/// Row 1 gave its address to row 2 by way of another that row 9 took then. With row 9 copied as it is and row 1 as it
/// was, the image that gives row 1 the other address is superseded, and the one of row 2 collides for ever.
#[test]
fn rows_copied_at_different_times_do_not_block_delivery() {
    let world = World::new();
    world.seed(9);
    world.dual_write(true);
    let application = Application::beside(world.folder.path());
    let mut world = world;
    let passes = Cell::new(0);
    world.extraction.points = FailPoints::watched(move |point| {
        if point == "backfill_chunk" && passes.replace(passes.get() + 1) == 0 {
            application.set_email(1, "other@example.com");
            application.set_email(2, "ann1@example.com");
            application.set_email(1, "third@example.com");
            application.set_email(9, "other@example.com");
        }
        if point == "backfill_rows" {
            application.deliver_all();
        }
    });
    assert!(world.backfill(chunks_of(2)).done);
    assert!(world.verify().clean());
}

#[test]
fn removals_are_copied_with_their_tombstones() {
    let world = World::copied(10);
    world.dual_write(false);
    world.delete(3);
    world.dual_write(true);
    assert!(world.backfill(BackfillOptions::default()).done);
    assert!(world.verify().clean());
    assert_eq!(world.count(&world.target, "banyan_tombstones"), 1);
}

#[test]
fn an_image_that_arrives_after_the_copy_is_stale_and_changes_nothing() {
    let world = World::new();
    world.seed(5);
    world.dual_write(true);
    world.set_email(1, "x@example.com");
    world.set_email(2, "ann1@example.com");
    assert!(world.backfill(BackfillOptions::default()).done);
    assert_eq!(world.deliver(), Delivery::Done);
    assert!(world.verify().differences() == 0);
    world.deliver_all();
    assert!(world.verify().clean());
}

#[test]
fn again_repairs_what_was_changed_at_the_copy() {
    let world = World::copied(20);
    world
        .target
        .execute_batch(
            "UPDATE contact SET value = 'wrong' WHERE person_id = 3 AND kind = 'email';
             DELETE FROM person WHERE person_id = 4; INSERT INTO person VALUES (99, 'x', NULL, 0, 0, 1)",
        )
        .unwrap();
    assert!(!world.verify().clean());
    let report = world.backfill(BackfillOptions { again: true, ..chunks_of(6) });
    assert!(report.done);
    assert!(world.verify().clean());
}

#[test]
fn without_dual_write_a_backfill_is_refused() {
    let world = World::new();
    world.seed(3);
    let error = world.try_backfill(BackfillOptions::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("migrate dual-write users on"), "{error}");
}

#[test]
fn a_target_with_rows_of_somebody_else_is_refused_and_left_alone() {
    let world = World::new();
    world.seed(3);
    world.dual_write(true);
    world.target.execute_batch("INSERT INTO person VALUES (1, 'Mine', NULL, 0, 0, 1)").unwrap();
    let error = world.try_backfill(BackfillOptions::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("neither dual-write nor a backfill"), "{error}");
    assert_eq!(world.count(&world.target, "person"), 1);
}

#[test]
fn a_trigger_on_the_target_is_refused() {
    let world = World::new();
    world.dual_write(true);
    world.target.execute_batch("CREATE TRIGGER spy AFTER INSERT ON contact BEGIN SELECT 1; END").unwrap();
    let error = world.try_backfill(BackfillOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the trigger spy on the target table contact"), "{error}");
}

#[test]
fn dual_write_turned_off_and_on_during_a_backfill_ends_it() {
    let world = World::new();
    world.seed(30);
    world.dual_write(true);
    world.backfill(BackfillOptions { max_chunks: Some(2), ..chunks_of(5) });
    world.dual_write(false);
    let error = world.try_backfill(BackfillOptions::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    world.set_email(1, "one@example.com");
    world.dual_write(true);
    let report = world.backfill(chunks_of(5));
    assert!(report.done && !report.resumed);
    assert!(world.verify().clean());
}

#[test]
fn rows_that_the_target_cannot_hold_are_reported_with_the_row_in_the_way() {
    let shared = MONOLITH.replace("email      TEXT NOT NULL UNIQUE", "email TEXT NOT NULL");
    let world = World::with(MANIFEST, &shared, SERVICE);
    world.seed(6);
    world.source.execute_batch("UPDATE users_users SET email = 'ann2@example.com' WHERE id = 5").unwrap();
    world.dual_write(true);
    let report = world.backfill(chunks_of(2));
    assert!(!report.done);
    assert_eq!(report.refused.len(), 1);
    assert_eq!(report.refused[0].key, "5");
    assert!(report.refused[0].reason.contains("row 2 holds \"ann2@example.com\" already"), "{report:?}");
    assert_eq!(world.count(&world.target, "person"), 5);
    world.set_email(5, "ann5@example.com");
    let report = world.backfill(chunks_of(2));
    assert!(report.done, "{report:?}");
    assert!(world.verify().differences() == 0);
}

#[test]
fn a_changed_mapping_is_refused_unless_everything_is_written_anew() {
    let mut world = World::copied(5);
    let changed = MANIFEST.replace("a.value ->> '$.label', a.value", "upper(a.value ->> '$.label'), a.value");
    let file = world.folder.path().join("extraction.toml");
    world.extraction.manifest = crate::manifest::Manifest::parse(&file, &changed).unwrap();
    let error = world.try_backfill(BackfillOptions::default()).unwrap_err();
    assert!(error.to_string().contains("--again"), "{error}");
    assert!(world.backfill(BackfillOptions { again: true, ..BackfillOptions::default() }).done);
    let labels: String = world
        .target
        .query_row("SELECT group_concat(DISTINCT label) FROM address", [], |row| row.get(0))
        .unwrap();
    assert!(!labels.contains("home"), "{labels}");
}

#[test]
fn the_way_back_fills_an_empty_monolith() {
    let world = World::copied(20);
    let (options, mut meter) = (crate::verify::VerifyOptions::default(), crate::meter::Meter::silent());
    crate::switch::run(&world.extraction, control::Side::Service, &who(), options, &mut meter).unwrap();
    world.source.execute_batch("DELETE FROM users_users WHERE id > 5").unwrap();
    assert!(!world.verify().clean());
    let report = world.backfill(chunks_of(6));
    assert!(report.done && report.filled == control::Side::Monolith);
    assert!(world.verify().clean());
    assert_eq!(world.count(&world.source, "users_users"), 20);
}
