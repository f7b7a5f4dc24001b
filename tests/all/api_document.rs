//! The API against its own description: generated requests, good and bad, over every operation, on both databases.
//!
//! Invariant: no request is answered with a 5xx, a status, a content type or a body that the document does not list.

use std::process::Command;
use std::{env, fs};

use harness::http::Ask;
use harness::shop::{Shop, Storage, order};
use serde_json::json;

/// Generated requests per operation and phase.
const EXAMPLES: &str = "40";

/// What stands there already, so that generated requests get past "there is none": ids cannot be guessed.
fn known_ids(shop: &Shop) -> String {
    let cart = shop.post(0, "/api/v1/carts", &json!({ "user_id": 2 }), 201).unwrap();
    shop.post(0, "/api/v1/categories", &json!({ "name": "Lanterns" }), 201).unwrap();
    let placed = shop.post(0, "/api/v1/orders", &order(1, 2, 3, "pm_ok"), 201).unwrap();
    let operations = [("/carts/", &cart["id"]), ("/orders/", &placed["id"]), ("/categories/", &json!(1))];
    let operation = |(path, id)| {
        format!("[[operations]]\ninclude-path-regex = \"{path}\"\nparameters = {{ \"path.id\" = {id} }}\n\n")
    };
    operations.into_iter().map(operation).collect()
}

fn conforms(storage: Storage) {
    let program = env::var_os("SCHEMATHESIS_BIN")
        .expect("SCHEMATHESIS_BIN is not set: run `cargo xtask test`, which installs schemathesis");
    let mut shop = Shop::stocked(storage, 100).unwrap();
    shop.start(&[]).unwrap();
    let document = shop.ask(0, Ask::get("/api/openapi.json")).unwrap();
    let file = shop.folder().join("openapi.json");
    fs::write(&file, &document.body).unwrap();
    fs::write(shop.folder().join("schemathesis.toml"), known_ids(&shop)).unwrap();
    let output = Command::new(program)
        .current_dir(shop.folder())
        .arg("run")
        .arg(&file)
        .args([
            "--url",
            shop.url(0).unwrap(),
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            EXAMPLES,
        ])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--seed", "1", "--generation-database", "none", "--workers", "1", "--no-color"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "schemathesis found faults:\n{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary = told.lines().find(|line| line.contains(" generated, ")).unwrap_or_default();
    assert!(summary.ends_with(" passed"), "{told}");
    assert!(shop.server(0).unwrap().runs().unwrap());
}

#[test]
fn generated_requests_are_answered_as_the_document_says_on_sqlite() {
    conforms(Storage::Sqlite);
}

#[test]
fn generated_requests_are_answered_as_the_document_says_on_postgresql() {
    conforms(Storage::Postgres);
}
