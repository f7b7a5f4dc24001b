//! Facts about a control store that is not the one in which ownership was decided.
//!
//! Invariant: nothing is written to a store that is refused, and none is created.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use control::{ControlSettings, ControlStore, Side};

use crate::extraction::Extraction;
use crate::fail_point::FailPoints;
use crate::meter::Meter;
use crate::settings::Settings;
use crate::switch;
use crate::tests::world::{World, who};
use crate::verify::VerifyOptions;

fn at(world: &World, name: &str) -> Settings {
    let path = world.folder.path().join(name);
    Settings { control: ControlSettings { path, ..ControlSettings::default() }, ..world.settings.clone() }
}

fn switched() -> World {
    let world = World::copied(5);
    switch(&world);
    world
}

fn switch(world: &World) {
    let options = VerifyOptions::default();
    switch::run(&world.extraction, Side::Service, &who(), options, &mut Meter::silent()).unwrap();
}

#[test]
fn a_control_store_that_is_not_there_is_not_created() {
    let world = World::new();
    let settings = at(&world, "elsewhere.db");
    let error = Extraction::open(&settings, "users").err().unwrap();
    assert_eq!(error.exit_code(), 4);
    let expected = format!(
        "cannot open the control store {}: there is no such file; start the facade first, or set control.path or \
         control.url to the store it uses",
        settings.control.path.display()
    );
    assert_eq!(platform::error::chain(&error), expected);
    assert!(!settings.control.path.exists());

    let unset = Settings { control: ControlSettings::default(), ..settings };
    let error = Extraction::open(&unset, "users").err().unwrap().to_string();
    assert!(error.starts_with("cannot open the control store: neither control.path"), "{error}");
}

#[test]
fn a_control_store_that_a_fence_is_ahead_of_is_refused_and_left_as_it_is() {
    let world = switched();
    let settings = at(&world, "another.db");
    let another = ControlStore::open(&settings.control).unwrap();
    let error = Extraction::open(&settings, "users").err().unwrap();
    assert_eq!(error.exit_code(), 3);
    let token: i64 =
        world.target.query_row("SELECT fence_token FROM banyan_contexts", [], |row| row.get(0)).unwrap();
    let expected = format!(
        "refused: the fence of users was moved under token {token}, which the control store {} has not reached (it is at \
         0); set control.path or control.url to the store that the switch was made in",
        settings.control.path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(another.flags().unwrap().is_empty());
    assert!(Extraction::open(&world.settings, "users").is_ok());
}

#[test]
fn a_switch_that_goes_on_is_not_taken_for_another_control_store() {
    let mut world = World::copied(5);
    let (settings, passed) = (world.settings.clone(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&passed);
    world.extraction.points = FailPoints::watched(move |_| {
        Extraction::open(&settings, "users").unwrap();
        count.fetch_add(1, Ordering::SeqCst);
    });
    switch(&world);
    assert_eq!(passed.load(Ordering::SeqCst), 11);
}

#[test]
fn one_side_is_enough_to_know_the_wrong_control_store() {
    let world = switched();
    let mut settings = at(&world, "another.db");
    ControlStore::open(&settings.control).unwrap();
    settings.extractions.get_mut("users").unwrap().source = world.folder.path().join("nowhere.db").into();
    assert_eq!(Extraction::open(&settings, "users").err().unwrap().exit_code(), 3);
}
