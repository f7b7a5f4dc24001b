//! What a POST brings: its body, and the key by which a repeat of it is known.
//!
//! Invariant: two requests are the same command only if method, path and every byte of the body are the same.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::HeaderName;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use contracts::{CallContext, IdempotencyKey};
use platform::problem::Problem;
use serde::de::DeserializeOwned;
use twox_hash::XxHash3_64;

use crate::answer::bad_header;
use crate::body;
use crate::precondition::single;
use crate::query::Parameters;
use crate::request::call;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// A command with a body of type `T`, for resources that take no query parameters.
#[derive(Debug)]
pub(crate) struct Command<T> {
    pub(crate) ctx: CallContext,
    pub(crate) body: T,
}

/// A command that is said by its address alone.
#[derive(Debug)]
pub(crate) struct BareCommand {
    pub(crate) ctx: CallContext,
}

impl<T: DeserializeOwned + 'static> FromRequest for Command<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let bytes = body::read(&request, payload);
        Box::pin(async move {
            let bytes = bytes.await?;
            let ctx = keyed(&request, &bytes)?;
            Ok(Self { ctx, body: body::parse(&bytes)? })
        })
    }
}

impl FromRequest for BareCommand {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let bytes = Bytes::from_request(&request, payload);
        Box::pin(async move {
            Parameters::parse(&request, &[])?;
            let is_empty = bytes.await.is_ok_and(|bytes| bytes.is_empty());
            if !is_empty {
                return Err(body::unexpected());
            }
            Ok(Self { ctx: keyed(&request, &[])? })
        })
    }
}

/// The call with its key, where the client gave one.
fn keyed(request: &HttpRequest, body: &[u8]) -> Result<CallContext, Problem> {
    let ctx = call(request);
    let Some(key) = single(request, &HEADER, "Idempotency-Key")? else { return Ok(ctx) };
    let said = [request.method().as_str().as_bytes(), request.path().as_bytes(), body].join(&b'\n');
    let fingerprint = format!("{:016x}", XxHash3_64::oneshot(&said));
    let key = IdempotencyKey::parse(key, fingerprint)
        .map_err(|error| bad_header("Idempotency-Key", error.to_string()))?;
    Ok(CallContext { idempotency: Some(key), ..ctx })
}
