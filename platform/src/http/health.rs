//! Health: `/health/live` says that the process answers, `/health/ready` that what it needs answers too.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use futures_util::future::join_all;
use serde::Serialize;

/// How long one dependency may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The dependencies of a process, each with a check of its own.
#[derive(Clone, Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
    watches: Vec<(&'static str, Check)>,
}

impl Health {
    /// No dependencies yet: ready as soon as live.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dependency. The check may block; it runs off the event loop and is given up after two seconds.
    pub fn check(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Arc::new(check)));
        self
    }

    /// Adds something the process can go on without for a while: its failure makes the report `degraded`, with the
    /// status still 200. The check runs like any other.
    pub fn watch(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.watches.push((name, Arc::new(check)));
        self
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckReport>,
}

#[derive(Serialize)]
struct CheckReport {
    name: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

pub(super) fn routes(config: &mut ServiceConfig) {
    config.route("/health/live", web::get().to(live)).route("/health/ready", web::get().to(ready));
}

async fn live() -> impl Responder {
    web::Json(Report { status: "ok", checks: Vec::new() })
}

async fn ready(health: web::Data<Health>) -> impl Responder {
    let all = health.checks.iter().chain(&health.watches);
    let checks = join_all(all.map(|(name, check)| run(name, Arc::clone(check)))).await;
    let failed = checks.iter().position(|check| check.status != "ok");
    let (status, word) = match failed {
        None => (StatusCode::OK, "ok"),
        Some(first) if first >= health.checks.len() => (StatusCode::OK, "degraded"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    HttpResponse::build(status).json(Report { status: word, checks })
}

async fn run(name: &'static str, check: Check) -> CheckReport {
    let answer = tokio::time::timeout(TIMEOUT, tokio::task::spawn_blocking(move || check())).await;
    let failure = match answer {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(reason))) => Some(reason),
        Ok(Err(_)) => Some("the check itself failed".to_owned()),
        Err(_) => Some(format!("no answer within {} s", TIMEOUT.as_secs())),
    };
    CheckReport { name, status: if failure.is_none() { "ok" } else { "failed" }, detail: failure }
}
