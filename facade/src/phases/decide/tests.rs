//! Which side is chosen, for every kind of flag, pin and wish.

use control::{Flag, Pins, Side, Weight};
use http::HeaderMap;
use proptest::prelude::*;

use super::{Choice, Why, choose_read, choose_write, outcome};
use crate::key::Keyed;
use crate::overrides::{Outcome, Wish};
use crate::plan::{ContextId, ContextPlan, Plan};
use crate::settings::{ContextSettings, KeySource, Settings, UpstreamSettings};

fn plan() -> Plan {
    let users = ContextSettings {
        service: "monolith".to_owned(),
        key: vec![KeySource::Header("x-key".to_owned())],
        ..ContextSettings::default()
    };
    let mut settings = Settings {
        upstreams: [(
            "monolith".to_owned(),
            UpstreamSettings { url: "http://127.0.0.1:1".to_owned(), ..UpstreamSettings::default() },
        )]
        .into(),
        contexts: [("users".to_owned(), users)].into(),
        ..Settings::default()
    };
    settings.control.path = "control.db".into();
    Plan::new(&settings).unwrap()
}

fn flag(points: u16, writes: Side) -> Flag {
    Flag { reads: Weight::from_basis_points(i64::from(points)).unwrap(), writes, ..Flag::unmoved("users") }
}

fn read(plan: &Plan, flag: &Flag, key: Option<&str>, wish: Wish) -> Choice {
    let context: &ContextPlan = plan.context(ContextId(0)).unwrap();
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        headers.insert("x-key", key.parse().unwrap());
    }
    choose_read(flag, context, &Keyed { path: "/", headers: &headers, client: b"", claims: None }, wish)
}

#[test]
fn a_pin_holds_its_key_in_canary_and_nowhere_else() {
    let plan = plan();
    let pins: Pins = [("a", Side::Service), ("b", Side::Monolith)].into_iter().collect();
    let flag = |points, writes| Flag { pins: pins.clone(), ..flag(points, writes) };
    let side = |flag: &Flag, key| read(&plan, flag, Some(key), Wish::Nothing).side;
    for points in [1, 5_000, 10_000] {
        let canary = flag(points, Side::Monolith);
        assert_eq!((side(&canary, "a"), side(&canary, "b")), (Side::Service, Side::Monolith), "{points}");
    }
    let home = flag(0, Side::Monolith);
    assert_eq!((side(&home, "a"), side(&home, "b")), (Side::Monolith, Side::Monolith));
    let extracted = flag(100, Side::Service);
    assert_eq!((side(&extracted, "a"), side(&extracted, "b")), (Side::Service, Side::Service));
    let late = Flag { late: true, ..flag(5_000, Side::Monolith) };
    assert_eq!(side(&late, "a"), Side::Monolith);
}

#[test]
fn a_wish_moves_reads_while_the_monolith_owns_the_context_and_never_writes() {
    let plan = plan();
    let pins: Pins = [("a", Side::Monolith)].into_iter().collect();
    let flag = |points, writes| Flag { pins: pins.clone(), ..flag(points, writes) };
    for points in [0, 5_000, 10_000] {
        for wished in [Side::Monolith, Side::Service] {
            let flag = flag(points, Side::Monolith);
            let choice = read(&plan, &flag, Some("a"), Wish::Side(wished));
            assert_eq!((choice.side, choice.why), (wished, Why::Wished));
            assert_eq!(choose_write(&flag).side, Side::Monolith);
        }
    }
    let extracted = flag(10_000, Side::Service);
    assert_eq!(read(&plan, &extracted, None, Wish::Side(Side::Monolith)).side, Side::Service);
    assert_eq!(choose_write(&extracted).side, Side::Service);
    assert_eq!(outcome(Wish::Side(Side::Monolith), Side::Service), Some(Outcome::Refused));
}

#[test]
fn a_wish_that_does_not_count_changes_nothing() {
    let plan = plan();
    let flag = flag(10_000, Side::Monolith);
    for wish in [Wish::Invalid, Wish::Expired, Wish::Nothing] {
        assert_eq!(read(&plan, &flag, None, wish).why, Why::AllReads);
    }
}

proptest! {
    /// Raising the weight moves nobody back, and a restart, another instance, or the order of requests changes nothing.
    #[test]
    fn the_ramp_is_monotone_per_key_and_the_same_everywhere(
        key in "[!-~]{1,40}",
        mut points in proptest::collection::vec(0_u16..=10_000, 2..8),
    ) {
        let (one, other) = (plan(), plan());
        points.sort_unstable();
        let mut was_moved = false;
        for points in points {
            let flag = flag(points, Side::Monolith);
            let choice = read(&one, &flag, Some(&key), Wish::Nothing);
            prop_assert_eq!(choice, read(&other, &flag, Some(&key), Wish::Nothing));
            prop_assert_eq!(choice.side, flag.side_of_read(key.as_bytes()));
            let is_moved = choice.side == Side::Service;
            prop_assert!(is_moved || !was_moved, "{} was moved back at {}", key, points);
            was_moved = is_moved;
        }
    }
}
