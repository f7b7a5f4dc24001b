//! Health: `/health/live` says that the process answers, `/health/ready` that what it needs answers too.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use futures_util::future::join_all;
use serde::Serialize;

use crate::question::Question;

/// How long one dependency may take to answer, unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(2);

type Check = Question<Result<(), String>>;

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
        self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check_within(name, TIMEOUT, check)
    }

    /// Adds a dependency that may take this long to answer. The others never wait for it, and while one asking of it
    /// hangs, no second one begins.
    pub fn check_within(
        mut self,
        name: &'static str,
        timeout: Duration,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Question::new(timeout, check)));
        self
    }

    /// Adds something the process can go on without for a while: its failure makes the report `degraded`, with the
    /// status still 200. The check runs like any other.
    pub fn watch(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.watches.push((name, Question::new(TIMEOUT, check)));
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
    // As resources, so that another method gets a 405 and not a 404.
    config
        .service(web::resource("/health/live").route(web::get().to(live)))
        .service(web::resource("/health/ready").route(web::get().to(ready)));
}

async fn live() -> impl Responder {
    web::Json(Report { status: "ok", checks: Vec::new() })
}

async fn ready(health: web::Data<Health>) -> impl Responder {
    let all = health.checks.iter().chain(&health.watches);
    let checks = join_all(all.map(|(name, check)| run(name, check))).await;
    let failed = checks.iter().position(|check| check.status != "ok");
    let (status, word) = match failed {
        None => (StatusCode::OK, "ok"),
        Some(first) if first >= health.checks.len() => (StatusCode::OK, "degraded"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    HttpResponse::build(status).json(Report { status: word, checks })
}

async fn run(name: &'static str, check: &Check) -> CheckReport {
    let failure = match check.answer().await {
        Ok(answer) => answer.err(),
        Err(error) => Some(error.to_string()),
    };
    CheckReport { name, status: if failure.is_none() { "ok" } else { "failed" }, detail: failure }
}
