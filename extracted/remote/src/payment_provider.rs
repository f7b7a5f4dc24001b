//! The payment provider, as our payments context calls it: an HTTP API that belongs to somebody else.
//!
//! Invariant: every request may arrive twice without harm, since it names our key or the provider's own id; so whatever
//! gets no clear answer is sent again while the caller waits, and what stays unclear is reported as `maybe_done`.

mod answer;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use contracts::payments::{Charge, ChargeStatus, PaymentMethod, PaymentProvider, ProviderError};
use contracts::{CallContext, Money, Unavailable};
use platform::error::chain;
use platform::settings::Secret;
use reqwest::{Method, RequestBuilder, Url, redirect};
use serde_json::{Value, json};

use crate::PeerError;
use crate::breaker::Breaker;
use answer::{Answer, Items, Record};

/// How errors name it.
const NAME: &str = "the payment provider";
/// Times a request is sent at most.
const ATTEMPTS: u32 = 3;
/// Pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Shorter than servers keep an idle connection, so that one is rarely used just when it is being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(3);

/// How to reach the payment provider.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Base URL: `http://127.0.0.1:3090`. Where the provider speaks TLS only, that of a proxy which does.
    pub url: String,
    /// What the provider knows us by; empty where it asks for nothing.
    pub token: Secret,
    /// How long one attempt may take. Too short and payments that are merely slow are asked for again; too long and a
    /// dead provider holds each checkout for that time.
    pub timeout: Duration,
}

/// The payment provider behind its HTTP API.
#[derive(Debug)]
pub struct Client {
    client: reqwest::Client,
    base: Url,
    token: Secret,
    timeout: Duration,
    breaker: Breaker,
}

/// What a request asks for; built anew for each attempt.
struct Request<'a> {
    method: Method,
    path: &'a [&'a str],
    key: Option<&'a str>,
    body: Option<Value>,
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(settings: &ClientSettings) -> Result<Self, PeerError> {
        let no_url = || PeerError::NoUrl { url: settings.url.clone() };
        let base = Url::parse(&settings.url).map_err(|_| no_url())?;
        let is_plain = base.path() == "/" && base.query().is_none() && base.fragment().is_none();
        if base.scheme() != "http" || base.host_str().is_none() || !is_plain {
            return Err(no_url());
        }
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .pool_idle_timeout(IDLE_LIMIT)
            .tcp_nodelay(true)
            .build()?;
        let (token, timeout) = (settings.token.clone(), settings.timeout);
        Ok(Self { client, base, token, timeout, breaker: Breaker::default() })
    }

    /// Sends until there is a clear answer, the caller stops waiting, or it was tried often enough.
    async fn call(&self, ctx: &CallContext, request: Request<'_>) -> Result<Answer, ProviderError> {
        let (mut attempt, mut was_sent) = (1, false);
        loop {
            let failure = match self.send(ctx, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            was_sent |= failure.maybe_done;
            let pause = pause(attempt);
            if attempt == ATTEMPTS || pause >= ctx.remaining() {
                return Err(Unavailable { maybe_done: was_sent, ..failure }.into());
            }
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Sends once. An answer that says nothing about the request is a failure too.
    async fn send(&self, ctx: &CallContext, request: &Request<'_>) -> Result<Answer, Unavailable> {
        let timeout = self.timeout.min(ctx.remaining());
        if timeout.is_zero() {
            return Err(unavailable("the deadline has passed", false));
        }
        if !self.breaker.admits(Instant::now()) {
            return Err(unavailable(
                "it failed several times in a row and is left alone for a moment",
                false,
            ));
        }
        let outcome = match self.built(ctx, request).timeout(timeout).send().await {
            Ok(response) => Answer::read(response).await,
            Err(error) => Err(silence(&error)),
        };
        self.breaker.note(Instant::now(), outcome.is_err());
        outcome
    }

    fn built(&self, ctx: &CallContext, request: &Request<'_>) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().push("v1").extend(request.path);
        }
        if let (None, Some(key)) = (&request.body, request.key) {
            url.query_pairs_mut().append_pair("key", key);
        }
        let mut built = self.client.request(request.method.clone(), url);
        built = built.header("x-request-id", &ctx.request_id.0);
        if let Some(traceparent) = &ctx.traceparent {
            built = built.header("traceparent", traceparent);
        }
        if !self.token.expose().is_empty() {
            built = built.bearer_auth(self.token.expose());
        }
        match (&request.body, request.key) {
            (Some(body), Some(key)) => built.header("idempotency-key", key).json(body),
            (Some(body), None) => built.json(body),
            (None, _) => built,
        }
    }
}

/// A pause that doubles, of which a random half is left away, so that callers that failed together do not come back
/// together.
fn pause(attempt: u32) -> Duration {
    let step = FIRST_PAUSE * 2_u32.saturating_pow(attempt.saturating_sub(1));
    // The standard library's hasher is keyed at random: enough for spreading attempts, and no dependency.
    let share = u32::try_from(RandomState::new().hash_one(attempt) % 1000).unwrap_or(0);
    step / 2 + step / 2 * share / 1000
}

fn silence(error: &reqwest::Error) -> Unavailable {
    // Only while connecting is it certain that no byte of the request arrived.
    let unsent = error.is_connect() || error.is_builder();
    unavailable(chain(error), !unsent)
}

fn unavailable(reason: impl Into<String>, maybe_done: bool) -> Unavailable {
    Unavailable { context: NAME.to_owned(), reason: reason.into(), maybe_done }
}

#[async_trait]
impl PaymentProvider for Client {
    async fn authorise(
        &self,
        ctx: &CallContext,
        key: &str,
        amount: Money,
        method: &PaymentMethod,
    ) -> Result<Charge, ProviderError> {
        let body = Some(json!({ "amount": amount, "payment_method": method.expose() }));
        let request = Request { method: Method::POST, path: &["authorizations"], key: Some(key), body };
        self.call(ctx, request).await?.open::<Record>()?.charge()
    }

    async fn find(&self, ctx: &CallContext, key: &str) -> Result<Option<Charge>, ProviderError> {
        let request = Request { method: Method::GET, path: &["authorizations"], key: Some(key), body: None };
        let Items { items } = self.call(ctx, request).await?.open()?;
        // What was declined stands in the provider's books but holds nothing.
        items.into_iter().find(|record| !record.is_declined()).map(Record::charge).transpose()
    }

    async fn capture(&self, ctx: &CallContext, charge_id: &str) -> Result<Charge, ProviderError> {
        let path = ["authorizations", charge_id, "capture"];
        let request = Request { method: Method::POST, path: &path, key: None, body: Some(json!({})) };
        let charge = self.call(ctx, request).await?.open::<Record>()?.charge()?;
        if charge.status != ChargeStatus::Captured {
            let reason = format!("it answered a capture with a charge that is {:?}", charge.status);
            return Err(ProviderError::Refused { reason });
        }
        Ok(charge)
    }

    async fn void(&self, ctx: &CallContext, key: &str) -> Result<(), ProviderError> {
        let path = ["keys", key, "void"];
        let request = Request { method: Method::POST, path: &path, key: None, body: Some(json!({})) };
        self.call(ctx, request).await?.open::<Record>().map(drop)
    }
}

#[cfg(test)]
mod tests;
