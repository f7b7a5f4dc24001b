//! `monolith serve`.
//!
//! Invariant: the port is taken before anything is created, and nothing is announced before everything is ready.

use std::sync::Arc;

use actix_web::web::ServiceConfig;
use anyhow::Result;
use contracts::users::CONTEXT;
use platform::http::{Health, announce, bind, serve};

use crate::settings::Settings;
use crate::wiring::{self, Contexts};

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
    actix_web::rt::System::new().block_on(async {
        let contexts = wiring::serving(settings, &db, control)?;
        announce("listening", &listener)?;
        serve(listener, &settings.http, health, routes(settings, &contexts)).await?;
        Ok(())
    })
}

fn routes(settings: &Settings, contexts: &Contexts) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let Contexts { users, catalog, orders, replica, relay, following: _ } = contexts;
    let (users, catalog, orders) = (Arc::clone(users), Arc::clone(catalog), Arc::clone(orders));
    let (replica, relay) = (Arc::clone(replica), relay.clone());
    let token = settings.replication.token.clone();
    move |config| {
        rest::users::configure(config, Arc::clone(&users));
        rest::products::configure(config, Arc::clone(&catalog));
        rest::orders::configure(config, Arc::clone(&orders));
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
