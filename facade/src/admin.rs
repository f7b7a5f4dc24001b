//! The admin API: reads and changes flags, shows status, routes, instances and metrics. It listens on an address of its
//! own, and describes itself at `/api/openapi.json`.
//!
//! Invariant: whoever may reach it may move traffic, so it answers only those who bear the token, or, where none is
//! set, only requests that name a loopback host (a page in a browser must not get in through a name of its own).

mod body;
mod config;
mod document;
mod door;
mod flags;
mod operation;
mod page;
mod pins;
mod protection;
mod status;
mod upstreams;
pub(crate) mod views;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use control::Instance;
use platform::http::{Health, HttpSettings, ServeError};
use platform::problem::Problem;
use platform::settings::Secret;
use serde_json::{Value, json};

use crate::reload::ConfigView;
use crate::server::{Facade, Shared};
use crate::settings::Settings;

use operation::{Operation, get, put};

pub use crate::upstream::views::{InstanceView, NameView, UpstreamView};
pub use pins::PinView;
pub use status::{Acknowledged, ContextView, HealthWord, SideView, StatusView};
pub use views::{FlagView, HistoryView, List, RouteKind, RouteView};

/// Where the admin API of these settings is found.
pub fn url(settings: &Settings) -> String {
    let listen = settings.admin_listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    format!("http://{listen}")
}

/// Serves the admin API until the process is told to end.
pub async fn serve(listener: TcpListener, facade: &Facade, token: &Secret) -> Result<(), ServeError> {
    let shared = facade.shared();
    let health = {
        let shared = Arc::clone(&shared);
        Health::new().watch("control store", move || shared.flags.trouble().map_or(Ok(()), Err))
    };
    let window = actix_web::rt::spawn(status::keep_window(Data::from(Arc::clone(&shared))));
    let settings = HttpSettings { workers: 1, ..HttpSettings::default() };
    let shared = Data::from(shared);
    let token = Data::new(token.clone());
    let configure = move |config: &mut ServiceConfig| {
        config.app_data(shared.clone()).app_data(token.clone()).configure(routes);
    };
    let served = platform::http::serve(listener, &settings, health, configure).await;
    window.abort();
    served
}

fn routes(config: &mut ServiceConfig) {
    let operations = operations();
    let document = Data::new(document::document(&operations));
    let api = |config: &mut ServiceConfig| operation::serve(config, &operations);
    config.service(web::resource("/").get(page::page));
    config.service(web::scope("").wrap(from_fn(door::guard)).app_data(document).configure(api));
}

/// Everything that is served, and described: each feature adds its operations here.
fn operations() -> Vec<Operation> {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": flags::MOST_HISTORY, "default": 50 });
    let rows = |operation: Operation| {
        operation.query("limit", "At most so many rows.", &limit).returns::<List<HistoryView>>().asks_store()
    };
    let (flag, pins) = ("/api/v1/flags/{context}", "/api/v1/flags/{context}/pins");
    vec![
        get("/api/v1/status", "status", "How the facade and its contexts fare", status::status)
            .returns::<StatusView>(),
        get("/api/v1/contexts", "contexts", "How the contexts fare, side by side", status::list)
            .returns::<List<ContextView>>(),
        get("/api/v1/contexts/{context}", "context", "How one context fares", status::show)
            .of_context()
            .returns::<ContextView>(),
        get("/api/v1/flags", "flags", "All flags, as the control store has them", flags::list)
            .returns::<List<FlagView>>()
            .asks_store(),
        get(flag, "flag", "One flag", flags::show).of_context().returns::<FlagView>().asks_store(),
        put(flag, "change_flag", "Changes a flag; a shut gate is a conflict", flags::change)
            .of_context()
            .takes::<body::Body>()
            .returns::<FlagView>()
            .refuses(&[409])
            .asks_store(),
        get(pins, "flag_pins", "Keys of one context that stay at one side", pins::list_of)
            .of_context()
            .returns::<List<PinView>>()
            .asks_store(),
        put(pins, "change_pin", "Pins a key to a side, or lets it go where the weight says", pins::change)
            .of_context()
            .takes::<pins::Change>()
            .returns::<FlagView>()
            .refuses(&[409])
            .asks_store(),
        get("/api/v1/pins", "pins", "Keys that stay at one side", pins::list)
            .query("context", "Only this context.", &json!({ "type": "string" }))
            .refuses(&[404])
            .returns::<List<PinView>>()
            .asks_store(),
        rows(
            get(
                "/api/v1/flags/{context}/history",
                "flag_history",
                "Who changed one flag, the latest first",
                flags::history_of,
            )
            .of_context(),
        ),
        rows(get("/api/v1/history", "history", "Who changed which flag, the latest first", flags::history)),
        rows(
            get("/api/v1/audit", "audit", "The audit trail, the latest first", flags::audit)
                .query("context", "Only this context.", &json!({ "type": "string" }))
                .refuses(&[404]),
        ),
        get("/api/v1/instances", "instances", "Every process that serves flags, and which token", instances)
            .returns::<List<Instance>>()
            .asks_store(),
        get("/api/v1/routes", "routes", "The route table in the order in which it is tried", route_table)
            .returns::<List<RouteView>>(),
        get(
            "/api/v1/config",
            "config",
            "Which settings are in force, and how the last change of them went",
            config::state,
        )
        .returns::<ConfigView>(),
        get("/api/v1/config/settings", "settings", "The settings in force, without secrets", config::config)
            .returns::<Settings>(),
        get(
            "/api/v1/protection",
            "protection",
            "Limits, where they stand, and what they refused",
            protection::show,
        )
        .returns::<Value>(),
        get(
            "/api/v1/upstreams",
            "upstreams",
            "Upstreams, their instances and how these fare",
            upstreams::list,
        )
        .returns::<List<UpstreamView>>(),
        get("/api/openapi.json", "document", "This document", openapi).returns::<Value>(),
        get("/metrics", "metrics", "Metrics in Prometheus' text format", metrics),
    ]
}

async fn instances(shared: Data<Shared>) -> Result<impl Responder, Problem> {
    Ok(web::Json(List { items: blocking(move || shared.store.instances()).await? }))
}

async fn route_table(shared: Data<Shared>) -> impl Responder {
    web::Json(List { items: shared.plan().route_views() })
}

async fn openapi(document: Data<Value>) -> impl Responder {
    web::Json(document.get_ref().clone())
}

async fn metrics(shared: Data<Shared>) -> impl Responder {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4")).body(shared.metrics())
}

/// The store's calls block, so they run off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, control::ControlError> + Send + 'static,
) -> Result<T, Problem> {
    match web::block(work).await {
        Ok(done) => done.map_err(flags::problem),
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail("the facade is ending")),
    }
}

/// Prints where the admin API is found.
pub fn announce(listener: &TcpListener) -> io::Result<()> {
    platform::http::announce("admin", listener)
}
