//! `facade serve` and `facade upgrade`.

use std::time::Duration;

use anyhow::Result;
use facade::admin;
use facade::handover::{self, Predecessor, Sockets};
use facade::server::Facade;
use facade::settings::Settings;

pub(crate) fn serve(settings: &Settings) -> Result<()> {
    platform::telemetry::init("facade");
    run(settings, Sockets::default(), None)
}

pub(crate) fn upgrade(settings: &Settings) -> Result<()> {
    platform::telemetry::init("facade");
    let (sockets, predecessor) = handover::take(&settings.upgrade_socket)?;
    run(settings, sockets, Some(predecessor))
}

fn run(settings: &Settings, sockets: Sockets, predecessor: Option<Predecessor>) -> Result<()> {
    // Before any client is let in, so that a facade which cannot be steered does not run.
    facade::plan::Plan::new(settings)?;
    let sockets = sockets.complete(settings)?;
    let listener = sockets.admin()?;
    actix_web::rt::System::new().block_on(async {
        let facade = Facade::start_on(settings, &sockets)?;
        admin::announce(&listener)?;
        let offer = sockets.offer(&settings.upgrade_socket)?;
        if let Some(predecessor) = predecessor {
            predecessor.dismiss();
        }
        let served = admin::serve(listener, &facade, &settings.admin_token).await;
        // While it drains, clients are refused rather than left waiting.
        drop(offer);
        facade.stop(Duration::from_secs(settings.shutdown_timeout_s)).await;
        Ok(served?)
    })
}
