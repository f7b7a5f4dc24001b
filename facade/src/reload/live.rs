//! The settings in force, and what came of attempts to change them.
//!
//! Invariant: plan and settings change together, under one lock; workers see the plan without it.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use control::now_ms;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::plan::Plan;
use crate::settings::Settings;

/// Bits of a version: as many as a floating-point metric holds exactly.
const VERSION_BITS: u32 = 48;

/// The settings in force.
#[derive(Debug)]
pub(crate) struct Live {
    plan: Arc<ArcSwap<Plan>>,
    state: Mutex<State>,
    turn: Mutex<()>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    version: u64,
    loaded_ms: i64,
    reloads: u64,
    failures: u64,
    last_error: Option<(i64, String)>,
}

/// Which settings are in force, and what came of the last attempt to change them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigView {
    /// Follows from the values of all settings, wherever they come from; equal settings have equal versions.
    pub version: String,
    /// Since when they are in force.
    pub loaded_at: String,
    /// Changes taken over since the start.
    pub reloads: u64,
    /// Changes refused since the start.
    pub failures: u64,
    /// Why the last change was refused; null once one was taken over.
    pub last_error: Option<ConfigError>,
}

/// A change of settings that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigError {
    /// When.
    pub at: String,
    /// Why.
    pub message: String,
}

impl Live {
    pub(crate) fn new(settings: &Settings, plan: Plan) -> Self {
        let state = State {
            version: version(settings),
            settings: settings.clone(),
            loaded_ms: now_ms(),
            reloads: 0,
            failures: 0,
            last_error: None,
        };
        Self { plan: Arc::new(ArcSwap::from_pointee(plan)), state: Mutex::new(state), turn: Mutex::new(()) }
    }

    /// The plan, to be cached by each worker.
    pub(crate) fn plan(&self) -> &Arc<ArcSwap<Plan>> {
        &self.plan
    }

    pub(crate) fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// Held by the one who changes settings.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn replace(&self, settings: Settings, plan: Plan) {
        let mut state = self.state();
        self.plan.store(Arc::new(plan));
        state.version = version(&settings);
        state.settings = settings;
        state.loaded_ms = now_ms();
        state.reloads += 1;
        state.last_error = None;
    }

    pub(crate) fn failed(&self, reason: &str) {
        let mut state = self.state();
        state.failures += 1;
        state.last_error = Some((now_ms(), reason.to_owned()));
    }

    pub(crate) fn view(&self) -> ConfigView {
        let state = self.state();
        let error =
            |(at, message): &(i64, String)| ConfigError { at: instant(*at), message: message.clone() };
        ConfigView {
            version: format!("{:012x}", state.version),
            loaded_at: instant(state.loaded_ms),
            reloads: state.reloads,
            failures: state.failures,
            last_error: state.last_error.as_ref().map(error),
        }
    }

    /// In Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let state = self.state();
        let loaded = format!("{}.{:03}", state.loaded_ms / 1000, state.loaded_ms % 1000);
        let mut out = String::new();
        for (name, kind, help, value) in [
            ("reloads_total", "counter", "Changes of the settings taken over.", state.reloads.to_string()),
            (
                "reload_failures_total",
                "counter",
                "Changes of the settings refused.",
                state.failures.to_string(),
            ),
            (
                "last_reload_success_timestamp_seconds",
                "gauge",
                "When the settings in force were read.",
                loaded,
            ),
            ("hash", "gauge", "Version of the settings in force, as a number.", state.version.to_string()),
        ] {
            let name = format!("banyan_facade_config_{name}");
            // Writing into a String cannot fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(settings: &Settings) -> u64 {
    let text = serde_json::to_vec(settings).unwrap_or_default();
    XxHash3_64::oneshot(&text) >> (u64::BITS - VERSION_BITS)
}

fn instant(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|instant| format!("{instant:.3}")).unwrap_or_default()
}
