//! A relay's figures, and the private route that shows them.
//!
//! Invariant: figures count since the process started; only `pending` comes from the log itself.

use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use actix_web::http::StatusCode;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::replication::Backlog;
use platform::problem::Problem;
use platform::settings::Secret;
use serde::{Deserialize, Serialize};

use super::RelayHandle;
use super::progress::Shared;
use crate::auth::authorize;

/// What a relay has done and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStats {
    /// Images that the other side took.
    pub delivered: u64,
    /// Writes that were answered before the other side had them.
    pub late: u64,
    /// Late writes that the other side has by now.
    pub healed: u64,
    /// Since when delivery fails, in milliseconds since 1970.
    pub failing_since_ms: Option<u64>,
    /// Why it fails.
    pub failure: Option<String>,
    /// Whether the other side refuses the oldest image instead of being unreachable.
    pub stuck: bool,
    /// Images that wait in the log.
    pub pending: u64,
    /// Age of the oldest one in milliseconds.
    pub oldest_ms: u64,
}

impl Shared {
    pub(super) fn stats(&self, backlog: Backlog) -> RelayStats {
        let trouble = self.trouble();
        let since = trouble.as_ref().and_then(|(since, _)| since.duration_since(UNIX_EPOCH).ok());
        RelayStats {
            delivered: self.delivered.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            healed: self.healed.load(Ordering::Relaxed),
            failing_since_ms: since.and_then(|since| u64::try_from(since.as_millis()).ok()),
            stuck: trouble.as_ref().is_some_and(|(_, trouble)| trouble.stuck),
            failure: trouble.map(|(_, trouble)| trouble.what),
            pending: backlog.pending,
            oldest_ms: backlog.oldest_ms,
        }
    }
}

/// Adds the private route `GET /internal/v1/relay/{context}` with the relay's figures.
pub fn routes(config: &mut ServiceConfig, context: &str, relay: RelayHandle, token: Secret) {
    let resource = web::resource(format!("/internal/v1/relay/{context}"))
        .app_data(Data::new(relay))
        .app_data(Data::new(token))
        .route(web::get().to(show));
    config.service(resource);
}

async fn show(
    request: HttpRequest,
    relay: Data<RelayHandle>,
    token: Data<Secret>,
) -> Result<HttpResponse, Problem> {
    authorize(&request, &token)?;
    let stats = relay.stats().await.map_err(|cause| {
        tracing::warn!(context = cause.context, "{cause}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail("the intent log cannot be read").retry_after(1)
    })?;
    Ok(HttpResponse::Ok().json(stats))
}
