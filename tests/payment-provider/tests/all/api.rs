//! What a well-behaved provider answers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Provider, answer};

#[actix_web::test]
async fn an_authorization_is_made_once_captured_once_and_found_by_key_and_id() {
    let provider = Provider::start(&[]);
    let (status, made) = answer(provider.authorize("k1", "pm_ok")).await;
    assert_eq!((status, &made["status"]), (201, &json!("authorized")));
    assert_eq!(answer(provider.authorize("k1", "pm_ok")).await, (200, made.clone()));
    let (status, problem) = answer(provider.authorize("k1", "pm_other")).await;
    assert_eq!((status, &problem["code"]), (422, &json!("key_reused")));
    let id = made["id"].as_str().unwrap();
    let captured = answer(provider.post(&format!("/v1/authorizations/{id}/capture"))).await;
    assert_eq!(
        (captured.0, &captured.1["status"], &captured.1["captured"]),
        (200, &json!("captured"), &json!(5))
    );
    assert_eq!(answer(provider.post(&format!("/v1/authorizations/{id}/capture"))).await, captured);
    assert_eq!(provider.get(&format!("/v1/authorizations/{id}")).await, captured);
    let by_key = provider.get("/v1/authorizations?key=k1").await;
    assert_eq!(by_key, (200, json!({ "items": [captured.1] })));
    let nothing = provider.get("/v1/authorizations?key=k2").await;
    assert_eq!(nothing, (200, json!({ "items": [] })));
}

#[actix_web::test]
async fn a_void_closes_its_key_whatever_stands_under_it() {
    let provider = Provider::start(&[]);
    answer(provider.authorize("a/1", "pm_ok")).await;
    assert_eq!(answer(provider.authorize("declined", "pm_declined")).await.1["code"], "declined");
    for (path, key) in [("a%2F1", "a/1"), ("declined", "declined"), ("unknown", "unknown")] {
        for _ in 0..2 {
            let (status, record) = answer(provider.post(&format!("/v1/keys/{path}/void"))).await;
            assert_eq!((status, &record["key"], &record["status"]), (200, &json!(key), &json!("voided")));
        }
        let (status, problem) = answer(provider.authorize(key, "pm_ok")).await;
        assert_eq!((status, &problem["code"]), (409, &json!("voided")), "{problem}");
    }
}

#[actix_web::test]
async fn the_ledger_lists_every_key_once_page_by_page() {
    let provider = Provider::start(&[]);
    for number in 0..5 {
        answer(provider.authorize(&format!("k{number}"), "pm_ok")).await;
    }
    let mut keys = Vec::new();
    let mut next = Some("0".to_owned());
    while let Some(cursor) = next {
        let (_, page) = provider.get(&format!("/v1/ledger?limit=2&cursor={cursor}")).await;
        keys.extend(page["items"].as_array().unwrap().iter().map(|record| record["key"].clone()));
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4"]);
    let (_, summary) = provider.get("/v1/ledger/summary").await;
    assert_eq!(summary["by_status"]["authorized"], json!({ "count": 5, "minor": { "GBP": 25 } }));
    assert_eq!(summary["charges_per_key_max"], 0);
}

#[actix_web::test]
async fn bad_requests_are_refused_as_problems_and_leave_nothing() {
    let provider = Provider::start(&[]);
    let body = json!({ "amount": { "minor": 5, "currency": "GBP" }, "payment_method": "pm_ok" });
    let with = |field: &str, value: Value| {
        let mut body = body.clone();
        *body.pointer_mut(field).unwrap() = value;
        body.to_string()
    };
    let mut unknown = body.clone();
    unknown["colour"] = json!("red");
    let post = |path: &str| provider.ask(Method::POST, path);
    let authorize = |body: String| post("/v1/authorizations").header("idempotency-key", "k").body(body);
    for (request, expected) in [
        (post("/v1/authorizations").body(body.to_string()), 400),
        (authorize(body.to_string()).header("idempotency-key", "l"), 400),
        (authorize("{".to_owned()), 400),
        (authorize(format!("{body} {body}")), 400),
        (authorize(unknown.to_string()), 422),
        (authorize(with("/amount/minor", json!(0))), 422),
        (authorize(with("/amount/currency", json!("gbp"))), 422),
        (authorize(with("/payment_method", json!(""))), 422),
        (authorize(" ".repeat(2_000_000)), 413),
        (provider.ask(Method::GET, "/v1/authorizations?kee=k"), 400),
        (provider.ask(Method::GET, "/v1/ledger?limit=0"), 400),
        (provider.ask(Method::GET, "/v1/authorizations/auth_none"), 404),
        (provider.post("/v1/authorizations/auth_none/capture"), 404),
        (provider.ask(Method::GET, "/v1/nothing"), 404),
        (provider.ask(Method::DELETE, "/v1/ledger"), 405),
        (provider.ask(Method::PUT, "/control/behaviour").body("{\"latency\":1}"), 422),
        (provider.ask(Method::PUT, "/control/behaviour").body("{\"fail_rate\":2}"), 422),
        (provider.ask(Method::PUT, "/control/behaviour").body("{\"fail_rate\":0.7,\"late_rate\":0.7}"), 422),
    ] {
        let answer = request.send().await.unwrap();
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let (url, status) = (answer.url().clone(), answer.status().as_u16());
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(
            (status, content_type.as_str()),
            (expected, "application/problem+json"),
            "{url} {problem}"
        );
    }
    assert_eq!(provider.get("/v1/ledger").await.1, json!({ "items": [], "next": null }));
}

#[actix_web::test]
async fn the_token_guards_everything_but_health_and_control_can_be_off() {
    let provider =
        Provider::start(&[("BANYAN_PROVIDER__TOKEN", "s3cret"), ("BANYAN_PROVIDER__CONTROL", "false")]);
    assert_eq!(answer(provider.authorize("k", "pm_ok")).await.0, 401);
    assert_eq!(answer(provider.authorize("k", "pm_ok").bearer_auth("wrong")).await.0, 401);
    assert_eq!(answer(provider.authorize("k", "pm_ok").bearer_auth("s3cret")).await.0, 201);
    assert_eq!(provider.get("/health/ready").await.0, 200);
    assert_eq!(answer(provider.ask(Method::GET, "/control/behaviour").bearer_auth("s3cret")).await.0, 404);
}
