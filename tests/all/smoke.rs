//! The monolith alone: what a client sees of good and bad input, and what an operator sees of bad settings.

use harness::http::Ask;
use harness::process::{self, Launch};
use harness::{Binaries, binaries};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{Lone, PATIENCE};

fn post(target: &str, body: &Value) -> Ask {
    Ask::new(Method::POST, target).json(body)
}

fn created(lone: &Lone, target: &str, body: &Value) -> i64 {
    let answer = lone.ask(post(target, body));
    assert_eq!(answer.status, 201, "{target}: {}", answer.text());
    let id = answer.json().unwrap()["id"].as_i64().unwrap();
    assert_eq!(answer.header("location"), Some(format!("{target}/{id}").as_str()));
    id
}

fn product(sku: &str) -> Value {
    json!({ "sku": sku, "name": "Lantern", "price": { "minor": 339, "currency": "GBP" } })
}

#[test]
fn a_shop_can_be_run_through_the_api() {
    let lone = Lone::start();
    let user = created(&lone, "/api/v1/users", &json!({ "name": "Ann", "email": "Ann@Example.com" }));
    let read = lone.ask(Ask::get(format!("/api/v1/users/{user}"))).json().unwrap();
    assert_eq!(read["email"], "ann@example.com");
    assert_eq!(read["phone"], Value::Null);
    assert_eq!(read["addresses"], json!([]));
    let lantern = created(&lone, "/api/v1/products", &product("71053"));
    let order = json!({ "user_id": user, "lines": [{ "product_id": lantern, "quantity": 3 }] });
    let order = created(&lone, "/api/v1/orders", &order);
    let read = lone.ask(Ask::get(format!("/api/v1/orders/{order}"))).json().unwrap();
    assert_eq!(read["total"], json!({ "minor": 1017, "currency": "GBP" }));
    let listed = lone.ask(Ask::get(format!("/api/v1/orders?user_id={user}"))).json().unwrap();
    assert_eq!(listed["items"][0]["id"], read["id"]);
    let removed = lone.ask(Ask::new(Method::DELETE, format!("/api/v1/users/{user}")));
    assert_eq!((removed.status, removed.body.len()), (204, 0));
    assert_eq!(lone.ask(Ask::get(format!("/api/v1/users/{user}"))).status, 404);
}

#[test]
fn listing_by_cursor_shows_every_user_once() {
    let lone = Lone::start();
    let ids: Vec<i64> = (0..7)
        .map(|n| {
            let body = json!({ "name": "Ann", "email": format!("ann{n}@example.com") });
            created(&lone, "/api/v1/users", &body)
        })
        .collect();
    let mut seen = Vec::new();
    let mut target = "/api/v1/users?limit=3".to_owned();
    loop {
        let page = lone.ask(Ask::get(target)).json().unwrap();
        seen.extend(page["items"].as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/api/v1/users?limit=3&cursor={next}");
    }
    assert_eq!(seen, ids);
}

#[test]
fn an_id_is_not_given_out_again_after_a_delete() {
    let lone = Lone::start();
    let body = json!({ "name": "Ann", "email": "ann@example.com" });
    let first = created(&lone, "/api/v1/users", &body);
    lone.ask(Ask::new(Method::DELETE, format!("/api/v1/users/{first}")));
    assert!(created(&lone, "/api/v1/users", &body) > first);
}

#[test]
fn bad_requests_are_refused_with_the_field_at_fault() {
    let lone = Lone::start();
    let user = created(&lone, "/api/v1/users", &json!({ "name": "Ann", "email": "ann@example.com" }));
    created(&lone, "/api/v1/products", &product("71053"));
    let ask = |method: Method, target: &str, body: &str| Ask::new(method, target).text(body);
    let order = |user_id: i64, product_id: i64, quantity: i64| {
        json!({ "user_id": user_id, "lines": [{ "product_id": product_id, "quantity": quantity }] })
            .to_string()
    };
    let cases = [
        (ask(Method::POST, "/api/v1/users", "{"), 400, ""),
        (ask(Method::POST, "/api/v1/users", r#"{"name":"A"}"#), 422, "email"),
        (ask(Method::POST, "/api/v1/users", r#"{"name":"A","email":"a@b.c","age":1}"#), 422, "age"),
        (ask(Method::POST, "/api/v1/users", r#"{"name":7,"email":"a@b.c"}"#), 422, "name"),
        (ask(Method::POST, "/api/v1/users", r#"{"name":"A","email":"ann@example.com"}"#), 409, "email"),
        (
            ask(
                Method::POST,
                "/api/v1/users",
                r#"{"name":"A","email":"a@b.c","addresses":[{"label":"home","country":""}]}"#,
            ),
            422,
            "addresses[0].country",
        ),
        (ask(Method::POST, "/api/v1/users", &"x".repeat(1024 * 1024 + 1)), 413, ""),
        (Ask::get("/api/v1/users/abc"), 400, "id"),
        (Ask::get("/api/v1/users/999"), 404, ""),
        (Ask::get("/api/v1/users?cursor=tampered"), 400, "cursor"),
        (Ask::get("/api/v1/users?limit=1000"), 400, "limit"),
        (Ask::get("/api/v1/orders"), 400, "user_id"),
        (ask(Method::POST, "/api/v1/products", &product("71053").to_string()), 409, "sku"),
        (ask(Method::POST, "/api/v1/orders", &order(999, 1, 1)), 422, "user_id"),
        (ask(Method::POST, "/api/v1/orders", &order(user, 999, 1)), 422, "lines[0].product_id"),
        (ask(Method::POST, "/api/v1/orders", &order(user, 1, 0)), 422, "lines[0].quantity"),
        (Ask::new(Method::DELETE, "/api/v1/users"), 405, ""),
        (Ask::get("/api/v1/nothing"), 404, ""),
    ];
    for (ask, status, field) in cases {
        let line = format!("{} {}", ask.method, ask.target);
        let answer = lone.ask(ask);
        assert_eq!(answer.status, status, "{line}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{line}");
        assert!(answer.header("x-request-id").is_some(), "{line}");
        let problem = answer.json().unwrap();
        assert_eq!(problem["status"], status, "{line}");
        let named = problem["errors"][0]["field"].as_str().unwrap_or_default();
        assert_eq!(named, field, "{line}: {problem}");
    }
}

#[test]
fn a_monolith_is_healthy_and_ends_when_asked() {
    let mut lone = Lone::start();
    assert_eq!(lone.ask(Ask::get("/health/live")).status, 200);
    assert_eq!(lone.ask(Ask::get("/health/ready")).status, 200);
    lone.server().stop().unwrap();
}

/// Runs a binary that must fail with one line that names the thing at fault.
fn refused(name: &str, args: &[&str], env: &[(&str, &str)], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut launch =
        Launch::new(Binaries::find().unwrap().path(name), folder.path()).args(args.iter().copied());
    for (key, value) in env {
        launch = launch.env(*key, *value);
    }
    let output = process::run(&launch, PATIENCE).unwrap();
    assert!(output.code.is_some_and(|code| code != 0), "{name} {args:?} {env:?} ended well");
    let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{name} {args:?}: {}", output.stderr);
    for part in parts {
        assert!(errors[0].contains(part), "{name} {args:?}: {}", errors[0]);
    }
}

#[test]
fn a_port_in_use_is_told_with_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused("monolith", &["serve"], &[("BANYAN_HTTP__LISTEN", &address)], &[&address, "http.listen"]);
}

#[test]
fn an_unknown_setting_is_told_by_its_name() {
    refused("monolith", &["serve"], &[("BANYAN_HTTP__LISTNE", "x")], &["listne"]);
    refused("facade", &["serve"], &[("BANYAN_COLOUR", "red")], &["colour"]);
}

#[test]
fn a_settings_file_that_is_missing_is_told() {
    for name in Binaries::NAMES {
        let args: &[&str] = if name == "migrate" { &["status"] } else { &["serve"] };
        refused(name, &[&["--config", "nowhere.toml"], args].concat(), &[], &["nowhere.toml"]);
    }
}

#[test]
fn a_database_in_a_folder_that_is_missing_is_told() {
    let env = [("BANYAN_DATABASE__PATH", "nowhere/monolith.db"), ("BANYAN_HTTP__LISTEN", "127.0.0.1:0")];
    refused("monolith", &["serve"], &env, &["nowhere/monolith.db"]);
}

#[test]
fn secrets_are_masked_where_settings_are_shown() {
    let lone = Lone::prepare();
    let launch = lone.launch(&["config"]).env("BANYAN_REPLICATION__TOKEN", "a-very-secret-token");
    let output = process::run(&launch, PATIENCE).unwrap().ok().unwrap();
    assert!(output.stdout.contains("replication.token"), "{}", output.stdout);
    assert!(!output.stdout.contains("a-very-secret-token"), "{}", output.stdout);
}

#[test]
fn the_workspace_is_where_the_harness_thinks() {
    assert!(binaries::workspace().join("Cargo.toml").is_file());
}
