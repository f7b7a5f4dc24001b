//! Asks instances how they are, on one thread for all upstreams.
//!
//! Invariant: a worker never waits for an answer to this; it reads what came of it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Client;
use reqwest::header::HOST;
use reqwest::redirect::Policy as Redirects;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::plan::Plan;
use crate::settings::HealthSettings;
use crate::upstream::chance::jitter;
use crate::upstream::instance::{Instance, IsDown};

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Checks {
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Checks {
    /// None where nothing is to be asked.
    pub(crate) fn start(plan: &Plan) -> io::Result<Option<Self>> {
        let asked = plan.upstreams.iter().filter(|upstream| !upstream.policy.health.path.is_empty());
        let checks: Vec<_> = asked
            .flat_map(|upstream| {
                let members = upstream.shared.members();
                let asked = |one: &Arc<Instance>| (Arc::clone(one), upstream.policy.health.clone());
                members.instances().map(asked).collect::<Vec<_>>()
            })
            .collect();
        if checks.is_empty() {
            return Ok(None);
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = Client::builder().no_proxy().redirect(Redirects::none()).pool_max_idle_per_host(0);
        let client = client.build().map_err(io::Error::other)?;
        let end = watch::Sender::new(false);
        let mut ended = end.subscribe();
        let thread = thread::Builder::new().name("health".to_owned()).spawn(move || {
            runtime.block_on(async {
                let all =
                    join_all(checks.iter().map(|(instance, settings)| ask(&client, instance, settings)));
                tokio::select! {
                    _ = all => {}
                    _ = ended.wait_for(|ended| *ended) => {}
                }
            });
        })?;
        Ok(Some(Self { end, thread: Some(thread) }))
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of health checks ended with an error");
        }
    }
}

async fn ask(client: &Client, instance: &Instance, settings: &HealthSettings) {
    let url = format!("http://{}{}", instance.address, settings.path);
    loop {
        let request = client.get(&url).header(HOST, instance.authority.as_str());
        let answer = request.timeout(Duration::from_millis(settings.timeout_ms)).send().await;
        let is_well = answer.is_ok_and(|answer| settings.statuses.contains(&answer.status().as_u16()));
        let (well, ill) = instance.asked(if is_well { IsDown::No } else { IsDown::Yes });
        if instance.is_down() && well >= settings.healthy_after {
            instance.set_down(IsDown::No);
            tracing::info!(instance = %instance.address, "in good health again: {}", instance.address);
        } else if !instance.is_down() && ill >= settings.unhealthy_after {
            instance.set_down(IsDown::Yes);
            tracing::warn!(instance = %instance.address, "fails its health check: {}", instance.address);
        }
        // A tenth at random, so that many facades do not ask at the same moment.
        sleep(Duration::from_millis(settings.interval_ms + jitter(settings.interval_ms / 10))).await;
    }
}
