//! Protect: refuses what is too much to do, what comes too often, and what comes without a valid token.
//!
//! Invariant: the cheap checks come first, and nothing is counted against a client on another's word: a claim counts
//! only after its token was checked.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode, request};

use crate::answer::Refusal;
use crate::protect::claims::Claims;
use crate::protect::forwarded::ClientAddress;
use crate::protect::jwks::KeySet;
use crate::protect::jwt::{self, Fault};
use crate::protect::marks::Marks;
use crate::protect::policy::{JwtRule, Policy, Protection};
use crate::protect::rate_limit::LimitKey;
use crate::protect::tokens;
use crate::settings::Priority;
use crate::worker::Worker;

/// What is known of the one who sent a request.
struct Sender<'r> {
    address: &'r ClientAddress,
    headers: &'r HeaderMap,
    claims: Known<'r>,
}

/// What is known of the claims of a sender.
#[derive(Clone, Copy)]
enum Known<'r> {
    /// There may be some later.
    NotYet,
    /// There are none, and there will be none.
    Nothing,
    Claims(&'r Claims),
}

/// The claims of the request's token, where its route asks for one.
pub(crate) async fn protect(
    worker: &Worker,
    route: Option<usize>,
    parts: &request::Parts,
    address: &ClientAddress,
    marks: &mut Marks,
) -> Result<Option<Claims>, Refusal> {
    let protection = &worker.plan.protection;
    if !protection.is_on {
        return Ok(None);
    }
    let policy = protection.policy(route);
    let headers = &parts.headers;
    if protection.shedding.is_on {
        shed(worker, policy.priority)?;
    }
    let limited = |sender: Sender<'_>, marks: &mut Marks| {
        within_limits(protection, policy, &sender, marks).inspect_err(|_| policy.counts.add_limited())
    };
    let rule = policy.jwt.as_ref().filter(|rule| !(rule.preflights && is_preflight(parts)));
    let claims = if rule.is_some() { Known::NotYet } else { Known::Nothing };
    limited(Sender { address, headers, claims }, marks)?;
    let Some(rule) = rule else { return Ok(None) };
    let claims = authorize(worker, rule, headers).await.map_err(|fault| {
        policy.counts.add_unauthorized(fault);
        unauthorized(rule, fault, marks)
    })?;
    limited(Sender { address, headers, claims: Known::Claims(&claims) }, marks)?;
    Ok(Some(claims))
}

/// A preflight as browsers send it (Fetch, "CORS-preflight fetch").
fn is_preflight(parts: &request::Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn shed(worker: &Worker, priority: Priority) -> Result<(), Refusal> {
    let (shedding, stats) = (&worker.plan.protection.shedding, &worker.stats.protect);
    let others = worker.stats.in_flight().saturating_sub(1);
    match shedding.check(priority, others, &stats.lag) {
        None => Ok(()),
        Some(reason) => {
            stats.shed(priority, reason);
            Err(shedding.refusal())
        }
    }
}

/// Counts a request against the limits that apply by what is known: those by claim once there are claims, or where
/// there never will be, and all others before.
fn within_limits(
    protection: &Protection,
    policy: &Policy,
    sender: &Sender<'_>,
    marks: &mut Marks,
) -> Result<(), Refusal> {
    for limit in protection.global.iter().chain(&policy.rate_limit) {
        match &limit.by {
            LimitKey::Claim(name) => match sender.claims {
                Known::NotYet => {}
                Known::Nothing => limit.check_address(sender.address.ip, marks)?,
                Known::Claims(claims) => match claims.text(name) {
                    Some(text) => limit.check(text.as_bytes(), marks)?,
                    None => limit.check_address(sender.address.ip, marks)?,
                },
            },
            _ if matches!(sender.claims, Known::Claims(_)) => {}
            LimitKey::Header(name) => match sender.headers.get(name) {
                Some(value) => limit.check(value.as_bytes(), marks)?,
                None => limit.check_address(sender.address.ip, marks)?,
            },
            LimitKey::ClientAddress => limit.check_address(sender.address.ip, marks)?,
        }
    }
    Ok(())
}

async fn authorize(worker: &Worker, rule: &JwtRule, headers: &HeaderMap) -> Result<Claims, Fault> {
    let token = bearer(headers)?;
    let keys = rule.provider.keys.load();
    let claims = match checked(worker, rule, token, &keys) {
        Err(Fault::UnknownKey | Fault::NoKeys) => {
            let round = keys.round;
            drop(keys);
            // Boxed: it is rare, and every request's future has room for all that is not.
            Box::pin(with_newer_keys(worker, rule, token, round)).await?
        }
        other => other?,
    };
    if claims.has_scopes(&rule.scopes) { Ok(claims) } else { Err(Fault::Scope) }
}

/// The issuer may have new keys; if there are any soon, they decide.
async fn with_newer_keys(worker: &Worker, rule: &JwtRule, token: &[u8], round: u64) -> Result<Claims, Fault> {
    rule.provider.refresh.newer_than(round).await;
    let keys = rule.provider.keys.load_full();
    checked(worker, rule, token, &keys)
}

fn checked(worker: &Worker, rule: &JwtRule, token: &[u8], keys: &KeySet) -> Result<Claims, Fault> {
    let provider = &rule.provider;
    let (key, now) = (tokens::key(provider, token), jwt::now());
    if let Some(claims) = worker.tokens.borrow().get(&key, keys, now) {
        return Ok(claims);
    }
    let claims = Claims(Arc::new(provider.check(token, keys, now)?));
    worker.tokens.borrow_mut().insert(key, &claims, keys, now, provider);
    Ok(claims)
}

/// The one bearer token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Fault> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Fault::Missing)?;
    if values.next().is_some() {
        return Err(Fault::Malformed);
    }
    let (scheme, token) = value.as_bytes().split_at_checked(7).ok_or(Fault::Missing)?;
    if scheme.eq_ignore_ascii_case(b"bearer ") { Ok(token.trim_ascii()) } else { Err(Fault::Missing) }
}

/// The answer as RFC 6750 §3 wants it; who sent no token at all is not told of an error.
fn unauthorized(rule: &JwtRule, fault: Fault, marks: &mut Marks) -> Refusal {
    let detail = fault.detail();
    let (status, challenge) = match fault {
        Fault::NoKeys => {
            let pause = rule.provider.refresh.left_of_pause().as_secs() + 1;
            let seconds = u16::try_from(pause).unwrap_or(u16::MAX);
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(seconds);
        }
        Fault::Missing => (StatusCode::UNAUTHORIZED, "Bearer".to_owned()),
        Fault::Scope => {
            let scopes = rule.scopes.join(" ");
            let challenge = format!(
                "Bearer error=\"insufficient_scope\", error_description=\"{detail}\", scope=\"{scopes}\""
            );
            (StatusCode::FORBIDDEN, challenge)
        }
        _ => {
            let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{detail}\"");
            (StatusCode::UNAUTHORIZED, challenge)
        }
    };
    if let Ok(value) = HeaderValue::try_from(challenge) {
        marks.add(WWW_AUTHENTICATE, value);
    }
    Refusal::new(status, detail)
}
