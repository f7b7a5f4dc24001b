//! Reading and changing flags.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Json, Path, Query};
use control::ControlError;
use platform::problem::Problem;
use serde::Deserialize;

use crate::admin::views::{FlagView, HistoryView, List};
use crate::admin::{blocking, body};
use crate::server::Shared;

/// Rows of history when nothing is said, and at most.
const HISTORY: i64 = 50;
pub(super) const MOST_HISTORY: i64 = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    context: Option<String>,
    limit: Option<i64>,
}

pub(super) async fn list(shared: Data<Shared>) -> Result<Json<List<FlagView>>, Problem> {
    let flags = blocking(move || shared.store.flags()).await?;
    Ok(Json(List { items: flags.into_iter().map(FlagView::from).collect() }))
}

pub(super) async fn show(shared: Data<Shared>, context: Path<String>) -> Result<Json<FlagView>, Problem> {
    let flag = blocking(move || shared.store.flag(&context)).await?;
    Ok(Json(FlagView::from(flag)))
}

pub(super) async fn change(
    shared: Data<Shared>,
    context: Path<String>,
    bytes: Bytes,
) -> Result<Json<FlagView>, Problem> {
    let body::Change { change, who } = body::parse(&bytes)?;
    let poke = shared.poke.clone();
    let flag = blocking(move || shared.store.set_flag(&context, change, &who)).await?;
    // In effect at once here; other facades see it at their next look.
    poke.poke();
    Ok(Json(FlagView::from(flag)))
}

pub(super) async fn audit(shared: Data<Shared>, search: Query<Search>) -> Result<HttpResponse, Problem> {
    let Search { context, limit } = search.into_inner();
    rows(shared, context, limit).await
}

pub(super) async fn history(shared: Data<Shared>, page: Query<Page>) -> Result<HttpResponse, Problem> {
    rows(shared, None, page.limit).await
}

pub(super) async fn history_of(
    shared: Data<Shared>,
    context: Path<String>,
    page: Query<Page>,
) -> Result<HttpResponse, Problem> {
    rows(shared, Some(context.into_inner()), page.limit).await
}

async fn rows(
    shared: Data<Shared>,
    context: Option<String>,
    limit: Option<i64>,
) -> Result<HttpResponse, Problem> {
    let limit = limit.unwrap_or(HISTORY);
    if !(1..=MOST_HISTORY).contains(&limit) {
        let message = format!("must be 1 to {MOST_HISTORY}");
        return Err(Problem::new(StatusCode::BAD_REQUEST).field("limit", message));
    }
    let rows = blocking(move || shared.store.history(context.as_deref(), limit)).await?;
    let items: Vec<HistoryView> = rows.into_iter().map(HistoryView::from).collect();
    Ok(HttpResponse::Ok().json(List { items }))
}

/// What a client is told of the store's refusal.
pub(super) fn problem(error: ControlError) -> Problem {
    let status = match &error {
        ControlError::UnknownContext { .. } => StatusCode::NOT_FOUND,
        ControlError::Refused { .. } | ControlError::SwitchLost { .. } => StatusCode::CONFLICT,
        ControlError::NoWeight { .. } | ControlError::NoSide { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        ControlError::Silent { maybe_done: true, .. } => {
            tracing::warn!("{error}");
            return Problem::new(StatusCode::GATEWAY_TIMEOUT).detail(error.to_string());
        }
        _ => {
            let reason = platform::error::chain(&error);
            tracing::warn!(reason, "the control store did not answer: {reason}");
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail(format!("the control store cannot be used now: {reason}"))
                .retry_after(1);
        }
    };
    Problem::new(status).detail(error.to_string())
}
