//! The client against the simulated provider, served in this process, with its ledger as the truth.

use std::thread;

use contracts::suite::{DECLINED_TOKEN, GOOD_TOKEN, PaymentProviderFixture, method};
use harness::ports;
use payment_provider::process;
use payment_provider::settings::{Behaviour, Settings};
use tempfile::TempDir;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const AMOUNT: Money = Money { minor: 1250, currency: contracts::Currency::GBP };

struct Provider {
    url: String,
    client: Client,
    http: reqwest::Client,
    _folder: TempDir,
}

/// A provider of its own, which runs until the tests end.
async fn provider() -> Provider {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.http.listen = format!("127.0.0.1:{}", ports::free().unwrap());
    settings.http.workers = 1;
    settings.ledger.path = folder.path().join("ledger");
    settings.provider.token = Secret::new("t");
    let url = format!("http://{}", settings.http.listen);
    thread::spawn(move || actix_web::rt::System::new().block_on(process::serve(&settings)));
    let http = reqwest::Client::new();
    let provider = Provider { client: client(&url, "t"), url, http, _folder: folder };
    until(async || provider.http.get(&provider.url).send().await.is_ok()).await;
    provider
}

fn client(url: &str, token: &str) -> Client {
    let timeout = Duration::from_millis(500);
    Client::new(&ClientSettings { url: url.to_owned(), token: Secret::new(token), timeout }).unwrap()
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn call() -> CallContext {
    CallContext::new("request-1", PATIENCE)
}

impl Provider {
    async fn behave(&self, behaviour: Behaviour) {
        let request = self.http.put(format!("{}/control/behaviour", self.url)).bearer_auth("t");
        assert!(request.json(&behaviour).send().await.unwrap().status().is_success());
    }

    async fn summary(&self) -> Value {
        let request = self.http.get(format!("{}/v1/ledger/summary", self.url)).bearer_auth("t");
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn records(&self) -> Value {
        self.summary().await["records"].clone()
    }

    async fn charge(&self, key: &str) -> Result<Charge, ProviderError> {
        self.client.authorise(&call(), key, AMOUNT, &method(GOOD_TOKEN)).await
    }
}

impl PaymentProviderFixture for Provider {
    fn provider(&self) -> &dyn PaymentProvider {
        &self.client
    }
}

contracts::payment_provider_suite!(provider);

fn is_open(outcome: &Result<Charge, ProviderError>) -> bool {
    matches!(outcome, Err(ProviderError::Unavailable(cause)) if cause.maybe_done)
}

#[tokio::test]
async fn a_decline_tells_why() {
    let provider = provider().await;
    for (token, reason) in [(DECLINED_TOKEN, "declined"), ("pm_insufficient", "insufficient_funds")] {
        let declined = provider.client.authorise(&call(), token, AMOUNT, &method(token)).await;
        assert_eq!(declined, Err(ProviderError::Declined { reason: reason.to_owned() }));
    }
}

#[tokio::test]
async fn a_charge_whose_answer_never_came_is_found_and_not_charged_twice() {
    let provider = provider().await;
    provider.behave(Behaviour { charge_then_hang_rate: 1.0, ..Behaviour::default() }).await;
    let charged = provider.charge("k").await;
    assert!(is_open(&charged), "{charged:?}");
    provider.behave(Behaviour::default()).await;
    let found = provider.client.find(&call(), "k").await.unwrap().unwrap();
    assert_eq!(found.status, ChargeStatus::Authorised);
    assert_eq!(provider.charge("k").await, Ok(found.clone()));
    provider.behave(Behaviour { charge_then_hang_rate: 1.0, ..Behaviour::default() }).await;
    let captured = provider.client.capture(&call(), &found.id).await;
    assert!(is_open(&captured), "{captured:?}");
    provider.behave(Behaviour::default()).await;
    assert!(provider.client.capture(&call(), &found.id).await.is_ok());
    let summary = provider.summary().await;
    assert_eq!((&summary["records"], &summary["charges_per_key_max"]), (&json!(1), &json!(1)));
    assert_eq!(summary["captured"], json!({ "GBP": AMOUNT.minor }));
}

#[tokio::test]
async fn a_silent_attempt_is_followed_by_one_that_is_answered() {
    let provider = provider().await;
    provider.behave(Behaviour { charge_then_hang_rate: 1.0, ..Behaviour::default() }).await;
    let mends = async {
        until(async || provider.records().await == 1).await;
        provider.behave(Behaviour::default()).await;
    };
    let (charged, ()) = tokio::join!(async { provider.charge("k").await }, mends);
    assert_eq!(charged.unwrap().status, ChargeStatus::Authorised);
    assert_eq!(provider.records().await, 1);
}

#[tokio::test]
async fn a_failure_before_the_work_leaves_nothing_and_the_repeat_does_it() {
    let provider = provider().await;
    provider.behave(Behaviour { fail_rate: 1.0, ..Behaviour::default() }).await;
    let failed = provider.charge("k").await;
    assert!(is_open(&failed), "{failed:?}");
    assert_eq!(provider.records().await, 0);
    provider.behave(Behaviour::default()).await;
    assert_eq!(provider.client.find(&call(), "k").await, Ok(None));
    assert!(provider.charge("k").await.is_ok());
}

#[tokio::test]
async fn what_arrives_after_the_void_is_refused() {
    let provider = provider().await;
    let late = Behaviour { late_rate: 1.0, late_ms: 300, ..Behaviour::default() };
    provider.behave(late).await;
    let charged = provider.charge("k").await;
    assert!(is_open(&charged), "{charged:?}");
    // Another process, whose charge is late by as much, and so arrives after the first one.
    let other = client(&provider.url, "t");
    let marker = other.authorise(&call(), "marker", AMOUNT, &method(GOOD_TOKEN)).await;
    assert!(is_open(&marker), "{marker:?}");
    provider.behave(Behaviour::default()).await;
    other.void(&call(), "k").await.unwrap();
    until(async || other.find(&call(), "marker").await.unwrap().is_some()).await;
    let held = other.find(&call(), "k").await.unwrap().unwrap();
    assert_eq!(held.status, ChargeStatus::Voided);
    assert!(matches!(provider.charge("k").await, Err(ProviderError::Refused { .. })));
    assert_eq!(provider.summary().await["charges_per_key_max"], 0);
}

#[tokio::test]
async fn a_wrong_token_does_nothing_and_is_not_told() {
    let provider = provider().await;
    let stranger = client(&provider.url, "s3cret");
    let refused = stranger.authorise(&call(), "k", AMOUNT, &method(GOOD_TOKEN)).await.unwrap_err();
    assert!(matches!(&refused, ProviderError::Unavailable(cause) if !cause.maybe_done), "{refused}");
    assert!(refused.to_string().contains("payments.provider.token"), "{refused}");
    assert!(!format!("{refused:?} {stranger:?}").contains("s3cret"));
    assert_eq!(provider.records().await, 0);
}

#[tokio::test]
async fn nobody_listening_means_nothing_was_done() {
    let client = client(&format!("http://127.0.0.1:{}", ports::free().unwrap()), "");
    let error = client.void(&call(), "k").await.unwrap_err();
    assert!(matches!(&error, ProviderError::Unavailable(cause) if !cause.maybe_done), "{error}");
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline() {
    let provider = provider().await;
    let late = CallContext::new("request-1", Duration::ZERO);
    let error = provider.client.authorise(&late, "k", AMOUNT, &method(GOOD_TOKEN)).await.unwrap_err();
    assert!(matches!(&error, ProviderError::Unavailable(cause) if !cause.maybe_done), "{error}");
    assert_eq!(provider.records().await, 0);
}

#[test]
fn only_plain_http_addresses_are_providers() {
    for url in ["", "127.0.0.1:3090", "https://a", "http://a/b", "http://a?x=1"] {
        let settings = ClientSettings { url: url.to_owned(), token: Secret::default(), timeout: PATIENCE };
        assert!(matches!(Client::new(&settings), Err(PeerError::NoUrl { .. })), "{url}");
    }
}
