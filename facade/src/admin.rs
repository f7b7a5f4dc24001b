//! The admin API: reads and changes flags, shows routes and metrics. It listens on an address of its own.
//!
//! Invariant: whoever may reach it may move traffic, so it answers only those who bear the token, or, where none is
//! set, only requests that name a loopback host (a page in a browser must not get in through a name of its own).

mod body;
mod door;
mod flags;
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
use platform::http::{Health, HttpSettings, ServeError};
use platform::problem::Problem;
use platform::settings::Secret;

use crate::server::{Facade, Shared};
use crate::settings::Settings;

pub use crate::upstream::views::{InstanceView, UpstreamView};
pub use views::{FlagView, HistoryView, List, RouteView};

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
    let settings = HttpSettings { workers: 1, ..HttpSettings::default() };
    let shared = Data::from(shared);
    let token = Data::new(token.clone());
    let configure = move |config: &mut ServiceConfig| {
        config.app_data(shared.clone()).app_data(token.clone()).configure(routes);
    };
    platform::http::serve(listener, &settings, health, configure).await
}

fn routes(config: &mut ServiceConfig) {
    let api = web::scope("/api/v1")
        .wrap(from_fn(door::guard))
        .service(web::resource("/flags").get(flags::list))
        .service(web::resource("/flags/{context}").get(flags::show).put(flags::change))
        .service(web::resource("/flags/{context}/history").get(flags::history_of))
        .service(web::resource("/history").get(flags::history))
        .service(web::resource("/upstreams").get(upstreams::list))
        .service(web::resource("/routes").get(route_table));
    config.service(api).service(web::resource("/metrics").wrap(from_fn(door::guard)).get(metrics));
}

async fn route_table(shared: Data<Shared>) -> impl Responder {
    web::Json(List { items: shared.plan.route_views() })
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

/// Binds the admin listener of these settings.
pub fn bind(settings: &Settings) -> Result<TcpListener, ServeError> {
    platform::http::bind(&settings.admin_listen, "admin_listen")
}

/// Prints where the admin API is found.
pub fn announce(listener: &TcpListener) -> io::Result<()> {
    platform::http::announce("admin", listener)
}
