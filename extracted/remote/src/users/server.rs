//! The serving end of the users wire.
//!
//! Invariant: without the token no port is called; details are parsed again, since this is an edge, too.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::users::{UserDetails, Users, UsersError};
use contracts::{CallContext, FieldError, IdempotencyKey};
use platform::http::request_info;
use platform::problem::Problem;
use platform::settings::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ById, Create, Delete, Ensure, List, PREFIX, Update};
use crate::auth::authorize;
use crate::peer::TIMEOUT_HEADER;

/// Largest body: a batch for `ensure` is larger than what the public API takes.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
/// Longest time that a caller may ask to be waited for.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// For callers that do not say how long they wait.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

type Answer = Result<HttpResponse, Problem>;

/// Adds the private routes through which another process calls `users`.
pub fn routes(config: &mut ServiceConfig, users: Arc<dyn Users>, token: Secret) {
    let scope = web::scope(PREFIX)
        .app_data(PayloadConfig::new(BODY_LIMIT))
        .app_data(Data::from(users))
        .app_data(Data::new(token))
        .route("/{method}", web::post().to(dispatch));
    config.service(scope);
}

async fn dispatch(request: HttpRequest, users: Data<dyn Users>, token: Data<Secret>, body: Bytes) -> Answer {
    authorize(&request, &token)?;
    let ctx = call(&request);
    match request.match_info().query("method") {
        "create" => {
            let Create { details, idempotency } = read(&body)?;
            let ctx = CallContext { idempotency: idempotency.map(check_key).transpose()?, ..ctx };
            render(users.create(&ctx, check(details)?).await)
        }
        "get" => {
            let ById { id } = read(&body)?;
            render(users.get(&ctx, id).await)
        }
        "update" => {
            let Update { id, details, expected } = read(&body)?;
            render(users.update(&ctx, id, check(details)?, expected).await)
        }
        "delete" => {
            let Delete { id, expected } = read(&body)?;
            render(users.delete(&ctx, id, expected).await)
        }
        "list" => {
            let List { after, limit } = read(&body)?;
            render(users.list(&ctx, after, limit).await)
        }
        "ensure" => {
            let Ensure { batch } = read(&body)?;
            let batch = batch.into_iter().map(check).collect::<Result<_, _>>()?;
            render(users.ensure(&ctx, batch).await)
        }
        other => Err(Problem::new(StatusCode::NOT_FOUND).detail(format!("the users port has no {other}"))),
    }
}

fn call(request: &HttpRequest) -> CallContext {
    let info = request_info(request);
    let asked = request.headers().get(TIMEOUT_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    let budget = asked.map_or(TIMEOUT_DEFAULT, Duration::from_millis).min(TIMEOUT_MAX);
    CallContext { traceparent: info.traceparent, ..CallContext::new(info.request_id, budget) }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail(error.to_string()))
}

fn check(details: UserDetails) -> Result<UserDetails, Problem> {
    let UserDetails { name, email, phone, addresses } = details;
    UserDetails::parse(name, email, phone, addresses).map_err(|faults| {
        let problem =
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail("the details break rules of their fields");
        faults
            .into_iter()
            .fold(problem, |problem, FieldError { field, message }| problem.field(field, message))
    })
}

fn check_key(key: IdempotencyKey) -> Result<IdempotencyKey, Problem> {
    IdempotencyKey::parse(key.key(), key.fingerprint()).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY).field("idempotency", error.to_string())
    })
}

fn render<T: Serialize>(result: Result<T, UsersError>) -> Answer {
    let error = match result {
        Ok(value) => return Ok(HttpResponse::Ok().json(value)),
        Err(error) => error,
    };
    let status = match &error {
        UsersError::NotFound { .. } => StatusCode::NOT_FOUND,
        UsersError::EmailTaken { .. } => StatusCode::CONFLICT,
        UsersError::Changed { .. } => StatusCode::PRECONDITION_FAILED,
        UsersError::KeyReused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        UsersError::NotOwner => StatusCode::MISDIRECTED_REQUEST,
        UsersError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    // The port's own error, not a problem document: the caller needs it as the enum that it is.
    Ok(HttpResponse::build(status).json(error))
}
