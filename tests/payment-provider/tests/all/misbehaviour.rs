//! What a misbehaving provider does to a client, and what it has done all the same.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::support::{Provider, answer, until};

#[actix_web::test]
async fn a_failure_before_the_work_leaves_nothing_and_one_after_it_leaves_a_charge() {
    let provider = Provider::start(&[]);
    for (rate, found) in [("fail_rate", None), ("charge_then_fail_rate", Some("authorized".to_owned()))] {
        provider.behave(json!({ rate: 1.0 })).await;
        let (status, problem) = answer(provider.authorize(rate, "pm_ok")).await;
        assert_eq!((status, &problem["status"]), (500, &json!(500)));
        assert_eq!(provider.status_of(rate).await, found);
    }
}

#[actix_web::test]
async fn a_request_that_hangs_is_never_answered_and_its_connection_closed_in_the_end() {
    let provider = Provider::start(&[]);
    for (rate, found) in [("hang_rate", None), ("charge_then_hang_rate", Some("authorized".to_owned()))] {
        provider.behave(json!({ rate: 1.0, "hang_ms": 100 })).await;
        let begun = Instant::now();
        assert!(provider.authorize(rate, "pm_ok").send().await.is_err());
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert_eq!(provider.status_of(rate).await, found);
    }
}

#[actix_web::test]
async fn a_client_that_gives_up_waiting_finds_its_charge() {
    let provider = Provider::start(&[]);
    provider.behave(json!({ "charge_then_hang_rate": 1.0 })).await;
    let request = provider.authorize("k", "pm_ok").timeout(Duration::from_millis(200));
    assert!(request.send().await.unwrap_err().is_timeout());
    until(Some("authorized".to_owned()), async || provider.status_of("k").await).await;
}

#[actix_web::test]
async fn dropped_connections_carry_no_answer_and_about_half_of_their_requests_are_done() {
    let provider = Provider::start(&[]);
    provider.behave(json!({ "drop_rate": 1.0 })).await;
    for number in 0..20 {
        assert!(provider.authorize(&format!("k{number}"), "pm_ok").send().await.is_err());
    }
    let (_, summary) = provider.get("/v1/ledger/summary").await;
    assert!((1..20).contains(&summary["records"].as_u64().unwrap()), "{summary}");
}

#[actix_web::test]
async fn a_late_request_is_answered_504_and_done_afterwards() {
    let provider = Provider::start(&[]);
    provider.behave(json!({ "late_rate": 1.0, "late_ms": 300 })).await;
    assert_eq!(answer(provider.authorize("k", "pm_ok")).await.0, 504);
    assert_eq!(provider.status_of("k").await, None);
    until(Some("authorized".to_owned()), async || provider.status_of("k").await).await;
}

#[actix_web::test]
async fn a_late_request_finds_its_key_closed_if_that_was_voided_meanwhile() {
    let provider = Provider::start(&[]);
    provider.behave(json!({ "late_rate": 1.0, "late_ms": 300 })).await;
    assert_eq!(answer(provider.authorize("k", "pm_ok")).await.0, 504);
    assert_eq!(answer(provider.authorize("later", "pm_ok")).await.0, 504);
    provider.behave(json!({})).await;
    assert_eq!(answer(provider.post("/v1/keys/k/void")).await.0, 200);
    until(Some("authorized".to_owned()), async || provider.status_of("later").await).await;
    let (_, ledger) = provider.get("/v1/ledger").await;
    assert_eq!(provider.status_of("k").await.as_deref(), Some("voided"), "{ledger}");
}

#[actix_web::test]
async fn every_answer_is_as_slow_as_the_latency_says() {
    let provider = Provider::start(&[("BANYAN_PROVIDER__BEHAVIOUR__LATENCY_MS", "100")]);
    let begun = Instant::now();
    assert_eq!(provider.get("/v1/ledger").await.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    let (_, behaviour) = answer(provider.ask(Method::GET, "/control/behaviour")).await;
    assert_eq!(behaviour["latency_ms"], 100);
}
