//! Protect: refuses what comes too often, without a valid token, or when there is too much to do.
//!
//! Invariant: the cheap checks come first, and nothing is counted against a client on another's word: a claim counts
//! only after its token was checked.

use http::HeaderMap;

use crate::answer::Refusal;
use crate::protect::forwarded::ClientAddress;
use crate::protect::rate_limit::{LimitKey, Marks, RateLimit};
use crate::worker::Worker;

pub(crate) fn protect(
    worker: &Worker,
    route: Option<usize>,
    headers: &HeaderMap,
    address: &ClientAddress,
    marks: &mut Marks,
) -> Result<(), Refusal> {
    let protection = &worker.plan.protection;
    if !protection.is_on {
        return Ok(());
    }
    let policy = protection.policy(route);
    let limited = within_limits(protection.global.iter().chain(&policy.rate_limit), headers, address, marks);
    limited.inspect_err(|_| worker.stats.protect.rate_limited(route))
}

fn within_limits<'l>(
    limits: impl Iterator<Item = &'l RateLimit>,
    headers: &HeaderMap,
    address: &ClientAddress,
    marks: &mut Marks,
) -> Result<(), Refusal> {
    for limit in limits {
        match &limit.by {
            LimitKey::Header(name) => match headers.get(name) {
                Some(value) => limit.check(value.as_bytes(), marks)?,
                None => limit.check_address(address.ip, marks)?,
            },
            LimitKey::ClientAddress | LimitKey::Claim(_) => limit.check_address(address.ip, marks)?,
        }
    }
    Ok(())
}
