//! Following the control store: what a process that serves one side of a context does all the time.
//!
//! Invariant: a token is acknowledged after its flag is in force here; a control store that cannot be read leaves the
//! last flag in force, since the fence in the database guards every write anyway.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use contracts::replication::IntentLog;
use control::{ControlStore, InstanceKind, Side, Watcher};
use tokio::task::JoinHandle;

use crate::flags::Flags;
use crate::ownership::Ownership;

/// How often the lag is reported and the fence looked at, also when no flag changes.
const PULSE: Duration = Duration::from_millis(500);
/// How often a hold in force is acknowledged again; several times within the second that a switch may take.
const ACKNOWLEDGE: Duration = Duration::from_millis(50);

/// A process that follows; dropping it stops that and retires the instance.
pub struct Following {
    tasks: Vec<JoinHandle<()>>,
    _watcher: Arc<Watcher>,
}

impl Drop for Following {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Starts following `control` on the present runtime: publishes the context's flag to `flags`, acknowledges it,
/// keeps the fence in line, and reports what waits in `log` while this side owns the context.
pub fn follow(
    control: ControlStore,
    instance: String,
    ownership: Arc<Ownership>,
    flags: Flags,
    log: Arc<dyn IntentLog>,
) -> io::Result<Following> {
    let kind = match ownership.side() {
        Side::Monolith => InstanceKind::Monolith,
        Side::Service => InstanceKind::Service,
    };
    let (context, published) = (ownership.context(), flags.clone());
    let watcher = Watcher::spawn(control.clone(), instance, kind, move |seen| {
        match seen {
            Ok(all) => {
                if let Some(flag) = all.iter().find(|flag| flag.context == context) {
                    published.publish(flag.clone());
                }
            }
            Err(error) => {
                tracing::warn!("the control store cannot be read, the last flag stays in force: {error}")
            }
        }
        vec![published.ack()]
    })?;
    let watcher = Arc::new(watcher);
    let tasks = vec![
        tokio::spawn(acknowledge(flags.clone(), Arc::clone(&watcher))),
        tokio::spawn(pulse(control, ownership, flags, log)),
    ];
    Ok(Following { tasks, _watcher: watcher })
}

/// Says so when the last write in flight under a hold has ended; and again while the hold lasts, because the watcher
/// may be about to report what was so a moment before.
async fn acknowledge(flags: Flags, watcher: Arc<Watcher>) {
    loop {
        let _ = tokio::time::timeout(ACKNOWLEDGE, flags.drained()).await;
        let ack = flags.ack();
        if ack.held {
            watcher.set_acks(vec![ack]);
        }
    }
}

async fn pulse(control: ControlStore, ownership: Arc<Ownership>, flags: Flags, log: Arc<dyn IntentLog>) {
    let mut published = flags.subscribe();
    loop {
        if let Err(error) = ownership.reconcile().await {
            tracing::warn!("the fence of {} could not be looked at: {error}", ownership.context());
        }
        if flags.current().writes == ownership.side() {
            report_lag(&control, ownership.context(), log.as_ref()).await;
        }
        let _ = tokio::time::timeout(PULSE, published.changed()).await;
    }
}

async fn report_lag(control: &ControlStore, context: &'static str, log: &dyn IntentLog) {
    let Ok(backlog) = log.backlog().await else {
        // The health check says so already; an old report is itself a sign that gates see.
        return;
    };
    let control = control.clone();
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let reported = tokio::task::spawn_blocking(move || {
        control.record_lag(context, signed(backlog.pending), signed(backlog.oldest_ms))
    });
    if let Ok(Err(error)) = reported.await {
        tracing::warn!("the lag of {context} could not be reported: {error}");
    }
}
