//! How the facade is doing: itself, its contexts, and how each side answers at present.

use std::time::{Duration, Instant};

use actix_web::web::{Data, Json, Path};
use control::{ControlError, Flag, Instance, InstanceKind, Side};
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::flags::problem;
use crate::admin::views::{FlagView, List};
use crate::metrics::Totals;
use crate::plan::{ContextId, ContextPlan};
use crate::reload::ConfigError;
use crate::server::Shared;

/// How long acknowledgements are waited for before they are left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// The facade as a whole.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Name of this process in the control store.
    pub instance: String,
    /// Version of the program.
    pub version: String,
    /// When it was started.
    pub started_at: String,
    /// Whether it works as it should.
    pub health: HealthWord,
    /// Why it is degraded; null where it is not.
    pub trouble: Option<String>,
    /// The last change of settings, where it was refused and the old ones go on; null where it was taken over.
    pub settings_refused: Option<ConfigError>,
    /// Worker threads of the data plane.
    pub workers: usize,
    /// Connections of clients that are open.
    pub connections: u64,
    /// Requests that have begun and not ended.
    pub in_flight: u64,
    /// Seconds that rates and latencies look back.
    pub window_s: f64,
    /// How requests of no context fare, which the monolith answers.
    pub rest: SideView,
    /// The contexts, by name.
    pub contexts: Vec<ContextView>,
}

/// Whether the facade works as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthWord {
    /// It does.
    Ok,
    /// The control store cannot be read; the last known flags go on.
    Degraded,
}

/// A context, and how its two sides fare.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ContextView {
    /// Its flag as this facade serves it.
    #[serde(flatten)]
    pub flag: FlagView,
    /// Name of the upstream that is its service.
    pub upstream: String,
    /// Live facades that serve the served token or a later one; null while the control store cannot be asked.
    pub acknowledged: Option<Acknowledged>,
    /// Reads that the monolith answered for a failing service, since the start.
    pub fallbacks: u64,
    /// State of the circuit breaker of its service; null where there is none.
    pub breaker: Option<String>,
    /// How the monolith fares.
    pub monolith: SideView,
    /// How the service fares.
    pub service: SideView,
}

/// How many facades have taken over a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledged {
    /// Those that have.
    pub by: usize,
    /// All live ones.
    pub of: usize,
}

/// How one side fares.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SideView {
    /// Requests that ended, since the start.
    pub requests: u64,
    /// Those of them with a status from 500 on.
    pub errors: u64,
    /// Requests that have begun and not ended.
    pub in_flight: u64,
    /// Requests a second, within the window.
    pub requests_per_s: f64,
    /// Requests a second with a status from 500 on, within the window.
    pub errors_per_s: f64,
    /// Median latency within the window, in milliseconds; null where there was no request.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the latency within the window, in milliseconds; null where there was no request.
    pub p99_ms: Option<f64>,
}

/// What all views of one answer are made from.
struct Reading {
    totals: Totals,
    recent: Totals,
    span: Duration,
    instances: Option<Vec<Instance>>,
}

impl Reading {
    async fn take(shared: &Data<Shared>) -> Self {
        let totals = shared.totals();
        let (recent, span) = shared.window.recent(Instant::now(), &totals);
        let store = shared.store.clone();
        let asked = actix_web::web::block(move || store.instances());
        let answered = actix_web::rt::time::timeout(PATIENCE, asked).await;
        Self { totals, recent, span, instances: answered.ok().and_then(Result::ok).and_then(Result::ok) }
    }

    fn side(&self, context: Option<ContextId>, side: Side) -> SideView {
        let (all, recent) = (self.totals.side(context, side), self.recent.side(context, side));
        let per_s = |count: u64| match self.span.as_secs_f64() {
            span if span > 0.0 => rounded(count as f64 / span),
            _ => 0.0,
        };
        SideView {
            requests: all.count(),
            errors: all.errors(),
            in_flight: all.in_flight(),
            requests_per_s: per_s(recent.count()),
            errors_per_s: per_s(recent.errors()),
            p50_ms: recent.quantile_ms(0.5).map(rounded),
            p99_ms: recent.quantile_ms(0.99).map(rounded),
        }
    }

    fn acknowledged(&self, flag: &Flag) -> Option<Acknowledged> {
        let is_facade = |instance: &&Instance| instance.live && instance.kind == InstanceKind::Facade;
        let serves = |instance: &&Instance| {
            instance.acks.iter().any(|ack| ack.context == flag.context && ack.token >= flag.token)
        };
        let facades = || self.instances.iter().flatten().filter(is_facade);
        self.instances.as_ref()?;
        Some(Acknowledged { by: facades().filter(serves).count(), of: facades().count() })
    }
}

pub(super) async fn status(shared: Data<Shared>) -> Json<StatusView> {
    let reading = Reading::take(&shared).await;
    let trouble = shared.flags.trouble();
    Json(StatusView {
        instance: shared.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: format!("{:.3}", shared.started),
        health: if trouble.is_none() { HealthWord::Ok } else { HealthWord::Degraded },
        trouble,
        settings_refused: shared.live.view().last_error,
        workers: shared.workers(),
        connections: reading.totals.connections.open(),
        in_flight: reading.totals.in_flight(),
        window_s: rounded(reading.span.as_secs_f64()),
        rest: reading.side(None, Side::Monolith),
        contexts: contexts(&shared, &reading),
    })
}

pub(super) async fn list(shared: Data<Shared>) -> Json<List<ContextView>> {
    let reading = Reading::take(&shared).await;
    Json(List { items: contexts(&shared, &reading) })
}

pub(super) async fn show(shared: Data<Shared>, context: Path<String>) -> Result<Json<ContextView>, Problem> {
    let reading = Reading::take(&shared).await;
    let found = contexts(&shared, &reading).into_iter().find(|view| view.flag.flag.context == *context);
    let known = || shared.plan().context_names().map(str::to_owned).collect();
    let unknown = || problem(ControlError::UnknownContext { context: context.clone(), known: known() });
    found.map(Json).ok_or_else(unknown)
}

/// Remembers what is counted, once a second, for as long as the admin API runs.
pub(super) async fn keep_window(shared: Data<Shared>) {
    let mut ticks = actix_web::rt::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        shared.window.remember(Instant::now(), shared.totals());
    }
}

fn contexts(shared: &Shared, reading: &Reading) -> Vec<ContextView> {
    let table = shared.flags.table().load_full();
    let plan = shared.plan();
    let plans = plan.contexts.iter().enumerate();
    plans
        .filter_map(|(index, plan)| {
            Some(view(shared, reading, ContextId(index), plan, table.get(ContextId(index))?))
        })
        .collect()
}

fn view(shared: &Shared, reading: &Reading, id: ContextId, plan: &ContextPlan, flag: &Flag) -> ContextView {
    let live = shared.plan();
    let upstream = live.upstream(plan.service);
    ContextView {
        acknowledged: reading.acknowledged(flag),
        flag: FlagView::from(flag.clone()),
        upstream: upstream.map(|found| found.name.clone()).unwrap_or_default(),
        fallbacks: reading.totals.fallbacks(id),
        breaker: upstream.map(|found| found.shared.breaker.state().to_owned()),
        monolith: reading.side(Some(id), Side::Monolith),
        service: reading.side(Some(id), Side::Service),
    }
}

/// Three digits behind the point are more than anybody reads.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
