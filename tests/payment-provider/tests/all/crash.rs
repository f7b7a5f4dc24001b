//! The provider dies in the middle of its work; what it answered must still be true.

use std::cell::RefCell;
use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::Provider;

const CLIENTS: usize = 8;
const ANSWERS: usize = 100;

/// What clients were told: keys with the last status they saw.
type Told = RefCell<BTreeMap<String, (String, &'static str)>>;

/// Authorises and captures, one key after the other, until the provider is gone. `done` is called after each answer.
async fn shop(provider: &Provider, client: usize, told: &Told, done: impl Fn()) {
    for number in 0.. {
        let key = format!("{client}-{number}");
        let Ok(answer) = provider.authorize(&key, "pm_ok").send().await else { return };
        let Ok(record) = answer.json::<Value>().await else { return };
        let id = record["id"].as_str().unwrap().to_owned();
        told.borrow_mut().insert(key.clone(), (id.clone(), "authorized"));
        done();
        let Ok(answer) = provider.post(&format!("/v1/authorizations/{id}/capture")).send().await else {
            return;
        };
        let Ok(record) = answer.json::<Value>().await else { return };
        assert_eq!(record["status"], "captured");
        told.borrow_mut().insert(key, (id, "captured"));
        done();
    }
}

#[actix_web::test]
async fn every_answered_authorization_is_there_exactly_once_after_a_kill() {
    let mut provider = Provider::start(&[]);
    let told = Told::default();
    for round in 1..=3 {
        let enough = told.borrow().len() + ANSWERS;
        let kill_when_enough = || {
            if told.borrow().len() == enough {
                provider.kill();
            }
        };
        let clients =
            (0..CLIENTS).map(|client| shop(&provider, round * CLIENTS + client, &told, kill_when_enough));
        join_all(clients).await;
        provider.restart();
    }
    let (_, ledger) = provider.get("/v1/ledger?limit=1000").await;
    let records = ledger["items"].as_array().unwrap();
    assert!(ledger["next"].is_null(), "more records than expected");
    let told = told.into_inner();
    assert!(told.len() >= 3 * ANSWERS);
    for (key, (id, status)) in &told {
        let found: Vec<_> = records.iter().filter(|record| record["key"] == *key).collect();
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        assert_eq!(found[0]["id"], *id);
        assert!(*status == "authorized" || found[0]["status"] == *status, "{key} lost its capture");
    }
    let (_, summary) = provider.get("/v1/ledger/summary").await;
    assert_eq!(summary["charges_per_key_max"], 1);
}
