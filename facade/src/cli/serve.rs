//! `facade serve` and `facade upgrade`.

use std::io;
use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use facade::admin;
use facade::handover::{self, Predecessor, Sockets};
use facade::server::Facade;
use facade::settings::Settings;
use platform::http::ServeError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::cli::watch::{self, Watched};

/// How long the admin API may take to end before clients' connections drain.
const ADMIN_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn serve(file: Watched, settings: &Settings) -> Result<()> {
    platform::telemetry::init("facade");
    run(file, settings, Sockets::default(), None)
}

pub(crate) fn upgrade(file: Watched, settings: &Settings) -> Result<()> {
    platform::telemetry::init("facade");
    let (sockets, predecessor) = handover::take(&settings.upgrade_socket)?;
    run(file, settings, sockets, Some(predecessor))
}

/// Hears SIGTERM and SIGINT from now on. The admin API's server hears them only once it runs, and a process that is told
/// to end before that would just die.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}

/// The server ends by itself when told, unless it was told before it ran.
async fn until(
    end: impl Future<Output = ()>,
    serving: impl Future<Output = Result<(), ServeError>>,
) -> Result<(), ServeError> {
    let mut serving = pin!(serving);
    tokio::select! {
        served = &mut serving => served,
        () = end => timeout(ADMIN_PATIENCE, serving).await.unwrap_or(Ok(())),
    }
}

/// Connections need descriptors, and the usual limit is for programs with few: what the system allows is taken.
fn raise_descriptor_limit(settings: &Settings) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of open files could not be raised: {error}");
    }
    // One to the client and one to an upstream.
    let needed = settings.limits.connections.saturating_mul(2);
    if let Some(most) = limit.maximum.filter(|most| *most < needed) {
        tracing::info!(
            most,
            "at most {most} files may be open, which is less than `limits.connections` may need"
        );
    }
}

fn run(file: Watched, settings: &Settings, sockets: Sockets, predecessor: Option<Predecessor>) -> Result<()> {
    // Before any client is let in, so that a facade which cannot be steered does not run.
    facade::plan::Plan::new(settings)?;
    raise_descriptor_limit(settings);
    let sockets = sockets.complete(settings)?;
    let listener = sockets.admin()?;
    actix_web::rt::System::new().block_on(async {
        let end = told_to_end()?;
        let (mut hangups, reloads) = (signal(SignalKind::hangup())?, signal(SignalKind::hangup())?);
        let facade = Facade::start_on(settings, &sockets)?;
        let watch = actix_web::rt::spawn(watch::watch(facade.reloader(), file, reloads));
        admin::announce(&listener)?;
        let offer = sockets.offer(&settings.upgrade_socket)?;
        if let Some(predecessor) = predecessor {
            predecessor.dismiss();
        }
        let reopen = async {
            while hangups.recv().await.is_some() {
                facade.reopen_logs();
            }
            std::future::pending().await
        };
        let serving = admin::serve(listener, &facade, &settings.admin_token);
        let served = tokio::select! {
            served = until(end, serving) => served,
            never = reopen => never,
        };
        watch.abort();
        // While it drains, clients are refused rather than left waiting.
        drop(offer);
        facade.stop(Duration::from_secs(settings.shutdown_timeout_s)).await;
        Ok(served?)
    })
}
