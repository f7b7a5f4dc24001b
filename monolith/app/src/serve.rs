//! `monolith serve`: the contexts behind their REST API, and the private endpoints of the other side.
//!
//! Invariant: the port is bound before a database is created, and announced only when the contexts are ready.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::ServiceConfig;
use anyhow::Result;
use contracts::users::CONTEXT;
use platform::http::{Health, announce, bind, serve_with_metrics};
use platform::metrics::{Metrics, Reading};

use crate::background::Background;
use crate::metrics::{self, PortMetrics};
use crate::settings::Settings;
use crate::wiring::{self, Contexts};

/// How long a neighbour may take to accept a connection.
const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn run(settings: &Settings) -> Result<()> {
    platform::telemetry::init("monolith");
    let listener = bind(&settings.http.listen, "http.listen")?;
    let db = wiring::open_database(settings)?;
    let control = wiring::open_control(settings)?;
    let mut health = Health::new();
    let checked = db.clone();
    health = health.check("database", move || checked.check());
    if let Some(control) = control.clone() {
        health = health.check("control", move || control.check());
    }
    // The shop goes on without these for a while: checkouts wait, and other contexts ask the side that answers.
    let neighbours = [
        ("payment provider", &settings.payments.provider.url),
        ("users service", &settings.users.remote.url),
    ];
    for (name, url) in neighbours.into_iter().filter(|(_, url)| !url.is_empty()) {
        let url = url.clone();
        health = health.watch(name, move || reach(&url));
    }
    let metrics = Metrics::new();
    metrics::watch_database(&metrics, &db);
    actix_web::rt::System::new().block_on(async {
        let contexts = wiring::serving(settings, &db, control, &PortMetrics::new(&metrics))?;
        let routes = routes(settings, &contexts);
        let Contexts { bus, outbox, checkout, inventory, following, .. } = contexts;
        metrics::watch_outbox(&metrics, &db, outbox.consumers());
        let background = settings
            .background
            .enabled
            .then(|| Background::start(&db, &settings.background, bus, &outbox, checkout, inventory));
        if let Some(background) = &background {
            let stats = background.deliveries();
            metrics.source("relay", move || Ok(stats().iter().flat_map(delivered).collect()));
        }
        announce("listening", &listener)?;
        let served = serve_with_metrics(listener, &settings.http, health, &metrics, routes).await;
        if let Some(background) = background {
            background.stop().await;
        }
        drop(following);
        Ok(served?)
    })
}

/// Whether somebody listens at the address of this URL.
fn reach(url: &str) -> Result<(), String> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let listed = authority.to_socket_addrs().or_else(|_| (authority, 80).to_socket_addrs());
    let address = listed.ok().and_then(|mut addresses| addresses.next()).ok_or("its name is not known")?;
    TcpStream::connect_timeout(&address, NEIGHBOUR_TIMEOUT).map(drop).map_err(|error| error.to_string())
}

#[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 is shown rounded")]
fn delivered(stats: &db::events::RelayStats) -> [Reading; 3] {
    let outcomes = [("delivered", stats.delivered), ("failed", stats.failed), ("dead", stats.dead)];
    outcomes.map(|(outcome, count)| {
        Reading::counter("banyan_events_delivered_total", "Events delivered by this process.", count as f64)
            .label("consumer", stats.consumer)
            .label("outcome", outcome)
    })
}

fn routes(
    settings: &Settings,
    contexts: &Contexts,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static + use<> {
    let (users, catalog, carts) =
        (Arc::clone(&contexts.users), Arc::clone(&contexts.catalog), Arc::clone(&contexts.carts));
    let (inventory, orders) = (Arc::clone(&contexts.inventory), Arc::clone(&contexts.orders));
    let (payments, shipping) = (Arc::clone(&contexts.payments), Arc::clone(&contexts.shipping));
    let (replica, relay) = (Arc::clone(&contexts.replica), contexts.relay.clone());
    let token = settings.replication.token.clone();
    move |config| {
        rest::docs::configure(config);
        rest::users::configure(config, Arc::clone(&users));
        rest::products::configure(config, Arc::clone(&catalog));
        rest::categories::configure(config, Arc::clone(&catalog));
        rest::stock::configure(config, Arc::clone(&inventory));
        rest::carts::configure(config, Arc::clone(&carts), Arc::clone(&orders));
        rest::orders::configure(config, Arc::clone(&orders));
        rest::payments::configure(config, Arc::clone(&payments));
        rest::shipments::configure(config, Arc::clone(&shipping));
        if token.expose().is_empty() {
            return;
        }
        remote::users::routes(config, Arc::clone(&users), token.clone());
        remote::replica::routes(config, CONTEXT, Arc::clone(&replica), token.clone());
        if let Some(relay) = &relay {
            remote::relay::routes(config, CONTEXT, relay.clone(), token.clone());
        }
    }
}
