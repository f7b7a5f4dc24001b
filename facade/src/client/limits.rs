//! How large a request may be.
//!
//! Invariant: what is too large is refused before anything of it reaches an upstream, as far as its head tells.

use http::header::CONTENT_LENGTH;
use http::{StatusCode, Version, request};

use crate::answer::Refusal;
use crate::client::plan::ClientPlan;

/// Bytes that stand around a header's name and value.
const AROUND: usize = 4;

pub(crate) fn check(plan: &ClientPlan, parts: &request::Parts) -> Result<(), Refusal> {
    // A head of HTTP/1 was measured as it came.
    if parts.version == Version::HTTP_2 {
        check_head(plan, parts)?;
    }
    let length =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > plan.body.most => Err(body_too_large()),
        _ => Ok(()),
    }
}

fn check_head(plan: &ClientPlan, parts: &request::Parts) -> Result<(), Refusal> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > plan.target_bytes {
        return Err(too_large(
            StatusCode::URI_TOO_LONG,
            format!("the request target is longer than {} bytes", plan.target_bytes),
        ));
    }
    if parts.headers.len() > plan.header_count {
        return Err(too_large(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("there are more than {} headers", plan.header_count),
        ));
    }
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + AROUND);
    if target + headers.sum::<usize>() > plan.header_bytes {
        return Err(too_large(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("the request's line and headers are longer than {} bytes", plan.header_bytes),
        ));
    }
    Ok(())
}

/// Of a body that announces its size, or has exceeded it.
pub(crate) fn body_too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the request body is larger than this server takes")
}

fn too_large(status: StatusCode, detail: String) -> Refusal {
    Refusal::new(status, detail).closing()
}
