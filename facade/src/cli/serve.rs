//! `facade serve`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use facade::admin;
use facade::server::Facade;
use facade::settings::Settings;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::watch;

pub(crate) fn serve(config: Option<&Path>, settings: &Settings) -> Result<()> {
    platform::telemetry::init("facade");
    // Before any client is let in, so that a facade which cannot be steered does not run.
    facade::plan::Plan::new(settings)?;
    let listener = admin::bind(settings)?;
    actix_web::rt::System::new().block_on(async {
        let facade = Facade::start(settings)?;
        let watch = actix_web::rt::spawn(watch::watch(facade.reloader(), config.map(Path::to_owned)));
        admin::announce(&listener)?;
        let mut hangups = signal(SignalKind::hangup())?;
        let reopen = async {
            while hangups.recv().await.is_some() {
                facade.reopen_logs();
            }
            std::future::pending().await
        };
        let served = tokio::select! {
            served = admin::serve(listener, &facade, &settings.admin_token) => served,
            never = reopen => never,
        };
        watch.abort();
        facade.stop(Duration::from_secs(settings.shutdown_timeout_s)).await;
        Ok(served?)
    })
}
