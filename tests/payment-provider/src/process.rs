//! The running provider.

use actix_web::web::{Data, ServiceConfig};
use platform::http::{self, Health, ServeError};

use crate::behaviour::TooMuch;
use crate::ledger::Ledger;
use crate::provider::Provider;
use crate::routes;
use crate::settings::Settings;

pub use crate::ledger::LedgerError;

/// Why the provider could not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The rates cannot be kept.
    #[error("settings provider.behaviour.*")]
    Behaviour(#[from] TooMuch),
    /// The listener failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The announcement failed.
    #[error("the process could not start")]
    Start(#[from] std::io::Error),
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(settings: &Settings) -> Result<(), ProcessError> {
    settings.provider.behaviour.check()?;
    let listener = http::bind(&settings.http.listen, "http.listen")?;
    let ledger = Ledger::open(&settings.ledger.path)?;
    let provider = Data::new(Provider::new(ledger, settings.provider.behaviour.clone()));
    let checked = provider.clone();
    let health = Health::new().check("ledger", move || checked.ledger().check());
    http::announce("listening", &listener)?;
    let doors = settings.provider.clone();
    let routes = move |config: &mut ServiceConfig| routes::configure(config, provider.clone(), &doors);
    Ok(http::serve(listener, &settings.http, health, routes).await?)
}
