//! New settings while the facade runs: checked as a whole, then taken over by all workers for new requests at once.
//!
//! Invariant: settings that are refused change nothing; the facade goes on under those it had, and says so in its log,
//! its metrics and its admin API.

mod live;

use std::sync::Arc;

use control::{ControlError, Flag, Side};
use platform::error::chain;
use serde_json::Value;

use crate::plan::{Plan, PlanError};
use crate::server::Shared;
use crate::settings::Settings;
use crate::upstream::names::Changes;

pub(crate) use live::Live;
pub use live::{ConfigError, ConfigView};

/// Settings that only a start reads, as JSON pointers.
const NEED_A_RESTART: [&str; 13] = [
    "/flags_copy",
    "/access_log",
    "/trace",
    "/upgrade_socket",
    "/listen",
    "/tls",
    "/limits",
    "/admin_listen",
    "/admin_token",
    "/workers",
    "/shutdown_timeout_s",
    "/control",
    "/timeouts/client_header_ms",
];

/// Why new settings are refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// They cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// They do not fit together.
    #[error(transparent)]
    Settings(#[from] PlanError),
    /// Something changed that is read at the start only.
    #[error("these settings need a restart: {}; the rest was not applied either", .0.join(", "))]
    NeedsRestart(Vec<String>),
    /// A context cannot be taken away, or added, now.
    #[error("context `{context}` {reason}")]
    Context {
        /// Its name.
        context: String,
        /// What is in the way, and what helps.
        reason: String,
    },
    /// Contexts came, went or changed, and the control store does not answer.
    #[error("contexts can only be changed while the control store answers")]
    Control(#[from] ControlError),
}

/// Changes the settings of a running facade; clones change the same one.
#[derive(Clone)]
pub struct Reloader(Arc<Shared>);

impl Reloader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Reads settings with `load` and takes them over, or refuses them and says why. Calls come one after the other.
    /// It blocks.
    pub fn reload(&self, load: impl FnOnce() -> Result<Settings, String>) -> Result<(), ReloadError> {
        let _turn = self.0.live.turn();
        let done = load().map_err(ReloadError::Unreadable).and_then(|settings| self.take(settings));
        match &done {
            Ok(()) => tracing::info!(version = self.view().version, "new settings are in force"),
            Err(error) => {
                let reason = chain(error);
                self.0.live.failed(&reason);
                tracing::error!(reason, "new settings are refused, the old ones go on: {reason}");
            }
        }
        done
    }

    /// Whether the settings in force ask for the file to be watched.
    pub fn is_watching(&self) -> bool {
        self.0.live.settings().reload.watch
    }

    /// Which settings are in force, and what came of the last attempt to change them.
    pub fn view(&self) -> ConfigView {
        self.0.live.view()
    }

    fn take(&self, settings: Settings) -> Result<(), ReloadError> {
        let changed = need_a_restart(&self.0.live.settings(), &settings);
        if !changed.is_empty() {
            return Err(ReloadError::NeedsRestart(changed));
        }
        let before = self.0.plan();
        let after = before.after(&settings)?;
        self.contexts(&before, &after)?;
        let changes = self.0.names.settle(&after);
        self.0.live.replace(settings, after);
        // Workers without requests let go of what is gone, too.
        self.0.took_over(Changes { any: true, ..changes });
        if let Err(error) = self.0.check_instances() {
            tracing::error!(%error, "the health checks go on under the settings before: {error}");
        }
        if let Err(error) = self.0.keep_protection() {
            tracing::error!(%error, "no keys of issuers are fetched: {error}");
        }
        // What has just been declared is seen by the watcher at once.
        self.0.poke.poke();
        Ok(())
    }

    /// Lets contexts go and come. Everything is checked before anything is done.
    fn contexts(&self, before: &Plan, after: &Plan) -> Result<(), ReloadError> {
        let (gone, to_declare) = changes(before, after);
        let unrouted = unrouted(before, after);
        if gone.is_empty() && to_declare.is_empty() && unrouted.is_empty() {
            return Ok(());
        }
        let store = &self.0.store;
        let flags = store.flags()?;
        let flag_of = |name: &str| flags.iter().find(|flag| flag.context == name);
        for context in gone {
            flag_of(context).map_or(Ok(()), |flag| may_go(flag, "cannot be removed"))?;
        }
        for context in unrouted {
            flag_of(context).map_or(Ok(()), |flag| may_go(flag, "cannot lose its last route"))?;
        }
        for (name, _) in &to_declare {
            flag_of(name).map_or(Ok(()), is_at_rest)?;
        }
        for (name, data) in &to_declare {
            store.declare(name, *data)?;
        }
        // First the places, then the flags: a change in between finds its place.
        self.0.flags.extend(after);
        for flag in store.flags()? {
            if to_declare.iter().any(|(name, _)| *name == flag.context) {
                is_at_rest(&flag)?;
                self.0.flags.adopt(&flag);
            }
        }
        Ok(())
    }
}

type Declared<'p> = Vec<(&'p str, control::DataMode)>;

/// Contexts that go, and those that are new or whose data is held in another way.
fn changes<'p>(before: &'p Plan, after: &'p Plan) -> (Vec<&'p str>, Declared<'p>) {
    let live = |plan: &'p Plan| plan.contexts.iter().filter(|context| !context.is_retired);
    let gone = live(before).filter(|old| !live(after).any(|new| new.name == old.name));
    let is_known =
        |new: &crate::plan::ContextPlan| live(before).any(|old| old.name == new.name && old.data == new.data);
    let new = live(after).filter(|new| !is_known(new)).map(|new| (new.name.as_str(), new.data));
    (gone.map(|context| context.name.as_str()).collect(), new.collect())
}

/// Contexts that are left without a route.
fn unrouted<'p>(before: &'p Plan, after: &'p Plan) -> Vec<&'p str> {
    let stays = after.contexts.iter().filter(|context| !context.is_retired).map(|context| &*context.name);
    stays.filter(|name| before.is_routed(name) && !after.is_routed(name)).collect()
}

/// How a context comes home to the monolith.
pub(crate) fn way_home(context: &str) -> String {
    format!(
        "bring it home first: `migrate switch {context} --to monolith`, or, where both sides share one database, \
         `facade flag set {context} --writes monolith`"
    )
}

/// Under the new settings its requests go to the monolith, which must own what they write.
fn may_go(flag: &Flag, what: &str) -> Result<(), ReloadError> {
    is_at_rest(flag)?;
    if flag.writes == Side::Monolith {
        return Ok(());
    }
    let context = flag.context.clone();
    let reason = format!(
        "{what} while the service owns it, since its requests would go to the monolith, whose data is behind; {}",
        way_home(&context)
    );
    Err(ReloadError::Context { context, reason })
}

fn is_at_rest(flag: &Flag) -> Result<(), ReloadError> {
    match flag.hold {
        None => Ok(()),
        Some(hold) => Err(ReloadError::Context {
            context: flag.context.clone(),
            reason: format!("is being switched to the {}; reload again when that has ended", hold.to),
        }),
    }
}

/// The names of what differs and is read at the start only.
fn need_a_restart(before: &Settings, after: &Settings) -> Vec<String> {
    let json = |settings: &Settings| serde_json::to_value(settings).unwrap_or(Value::Null);
    let (were, are) = (json(before), json(after));
    let differs = |pointer: &&&str| were.pointer(pointer) != are.pointer(pointer);
    let name = |pointer: &&str| pointer.trim_start_matches('/').replace('/', ".");
    NEED_A_RESTART.iter().filter(differs).map(name).collect()
}
