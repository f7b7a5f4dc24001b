//! The taking end of dual-write.
//!
//! Invariant: without the token nothing is applied.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::replication::{Image, ReplicaError, ReplicaSink};
use platform::problem::Problem;
use platform::settings::Secret;
use serde::de::DeserializeOwned;

use super::{CONFLICT, Delete, HOLDER, OWNER, Put, Taken};
use crate::auth::authorize;

type Answer = Result<HttpResponse, Problem>;

/// Adds the private routes that take images of `context` for `sink`.
pub fn routes(config: &mut ServiceConfig, context: &str, sink: Arc<dyn ReplicaSink>, token: Secret) {
    let resource = web::resource(format!("/replica/{context}/{{id}}"))
        .app_data(Data::from(sink))
        .app_data(Data::new(token))
        .route(web::put().to(put))
        .route(web::delete().to(delete));
    config.service(resource);
}

async fn put(request: HttpRequest, sink: Data<dyn ReplicaSink>, token: Data<Secret>, body: Bytes) -> Answer {
    authorize(&request, &token)?;
    let Put { version, state } = read(&body)?;
    if !state.is_object() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY).field("state", "must be an object"));
    }
    apply(&sink, Image { version, id: id(&request), state: Some(state) }).await
}

async fn delete(
    request: HttpRequest,
    sink: Data<dyn ReplicaSink>,
    token: Data<Secret>,
    body: Bytes,
) -> Answer {
    authorize(&request, &token)?;
    let Delete { version } = read(&body)?;
    apply(&sink, Image { version, id: id(&request), state: None }).await
}

async fn apply(sink: &Data<dyn ReplicaSink>, image: Image) -> Answer {
    let applied = sink.apply(image).await.map_err(problem)?;
    Ok(HttpResponse::Ok().json(Taken { applied }))
}

fn id(request: &HttpRequest) -> String {
    request.match_info().query("id").to_owned()
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail(error.to_string()))
}

fn problem(error: ReplicaError) -> Problem {
    let detail = error.to_string();
    match error {
        ReplicaError::Conflict { holder, .. } => {
            Problem { type_: CONFLICT, ..Problem::new(StatusCode::CONFLICT) }
                .detail(detail)
                .field(HOLDER, holder)
        }
        ReplicaError::Owner { .. } => {
            Problem { type_: OWNER, ..Problem::new(StatusCode::CONFLICT) }.detail(detail)
        }
        ReplicaError::Malformed { reason, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail(reason)
        }
        ReplicaError::Unavailable(cause) => {
            tracing::warn!(context = cause.context, "an image was not applied: {cause}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("nothing is known to be applied")
                .retry_after(1)
        }
    }
}
