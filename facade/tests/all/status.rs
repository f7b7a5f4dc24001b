//! `facade status`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::served::Served;
use crate::support::{Upstream, Wire, eventually};

fn served() -> Served {
    let served = Served::start(Upstream::saying("monolith").address, Upstream::saying("service").address, "");
    let body = r#"{"reads":"100","reason":"r","actor":"a"}"#;
    assert_eq!(served.ask("PUT", "/api/v1/flags/cart", "", body).status(), 200);
    let mut wire = Wire::connect(served.address);
    eventually("the service answers", || {
        wire.send("GET /cart HTTP/1.1\r\nhost: a\r\n\r\n");
        wire.message().unwrap().text() == "service"
    });
    served
}

#[test]
fn the_table_shows_stage_token_acknowledgements_and_both_sides() {
    let served = served();
    let json = || -> Value { serde_json::from_slice(&served.run(&["status", "--json"]).stdout).unwrap() };
    eventually("the flag is acknowledged and requests are counted", || {
        let cart = &json()["contexts"][0];
        cart["acknowledged"] == serde_json::json!({ "by": 1, "of": 1 })
            && cart["service"]["requests_per_s"].as_f64().unwrap() > 0.0
    });
    let status = json();
    let cart = &status["contexts"][0];
    assert_eq!((&cart["context"], &cart["stage"]), (&"cart".into(), &"canary".into()));
    assert!(cart["service"]["p99_ms"].as_f64().unwrap() > 0.0, "{cart}");
    let output = served.run(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let row =
        text.lines().find(|line| line.trim_start().starts_with("cart ") && line.contains("service")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(&cells[1..4], ["canary", "100%", "monolith"], "{text}");
    assert!(row.contains("1 of 1") && !text.contains('\x1b'), "{text}");
}

#[test]
fn watching_goes_on_until_interrupted() {
    let served = served();
    let mut watching = served.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        assert!(lines.by_ref().any(|line| line.unwrap().trim_start().starts_with("cart ")));
    }
    let pid = watching.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    lines.for_each(drop);
    assert!(watching.wait().unwrap().success());
}

#[test]
fn watching_ends_when_nobody_reads_any_more() {
    let served = served();
    let mut watching = served.command(&["status", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(watching.stdout.take());
    assert!(watching.wait().unwrap().success());
}
