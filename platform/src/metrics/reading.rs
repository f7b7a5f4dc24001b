//! Values that are read when somebody scrapes.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Labels;

/// One value with its name and labels.
#[derive(Debug, Clone)]
pub struct Reading {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    labels: Labels,
    value: f64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

impl Reading {
    /// A value that goes up and down.
    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, kind: Kind::Gauge, labels: Labels::new(), value }
    }

    /// A value that only grows; its name ends in `_total`.
    pub fn counter(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { kind: Kind::Counter, ..Self::gauge(name, help, value) }
    }

    /// Adds a label.
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into().into()));
        self
    }
}

/// The readings of one scrape, each name once with all its series.
pub(super) fn registry(readings: Vec<Reading>) -> Registry {
    let mut by_name: BTreeMap<&'static str, Vec<Reading>> = BTreeMap::new();
    for reading in readings {
        by_name.entry(reading.name).or_default().push(reading);
    }
    let mut registry = Registry::default();
    for (name, readings) in by_name {
        let Some(Reading { kind, help, .. }) = readings.first() else { continue };
        let help = help.strip_suffix('.').unwrap_or(help);
        match kind {
            Kind::Gauge => {
                let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
                for reading in &readings {
                    family.get_or_create(&reading.labels).set(reading.value);
                }
                registry.register(name, help, family);
            }
            Kind::Counter => {
                let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
                for reading in &readings {
                    family.get_or_create(&reading.labels).inc_by(reading.value);
                }
                registry.register(name.strip_suffix("_total").unwrap_or(name), help, family);
            }
        }
    }
    registry
}
