//! Metrics for Prometheus: what the process counts as it goes, and what it asks for when it is scraped.
//!
//! Invariant: a scrape ends in bounded time whatever hangs, and a source that fails is itself a metric.

mod durations;
mod process;
mod reading;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::{Metric, Registry};

use crate::question::Question;

pub use durations::Durations;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use reading::Reading;

/// Media type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long one source of readings may take at a scrape.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The labels of one series, always in the same order: `vec![("port", "users".into())]`.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

type Source = (&'static str, Question<Result<Vec<Reading>, String>>);

/// The metrics of one process; clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    registry: Mutex<Registry>,
    sources: Mutex<Vec<Source>>,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter per set of labels. The name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Family<Labels, Counter> {
        // The encoder appends the suffix itself.
        self.register(name.strip_suffix("_total").unwrap_or(name), help, Family::default())
    }

    /// A gauge per set of labels.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Family<Labels, Gauge> {
        self.register(name, help, Family::default())
    }

    /// A histogram of durations per set of labels. The name ends in `_seconds`.
    pub fn durations(&self, name: &'static str, help: &'static str) -> Family<Labels, Durations> {
        self.register(name, help, Family::default())
    }

    /// Adds a source of readings that is asked at every scrape. It may block: it runs off the event loop, on one thread
    /// at most, and is given up after two seconds. `banyan_metrics_source_up{source}` says whether it answered.
    pub fn source(
        &self,
        name: &'static str,
        read: impl Fn() -> Result<Vec<Reading>, String> + Send + Sync + 'static,
    ) {
        locked(&self.inner.sources).push((name, Question::new(TIMEOUT, read)));
    }

    /// Everything in the text format of OpenMetrics 1.0, which Prometheus reads.
    pub async fn render(&self) -> String {
        let sources = locked(&self.inner.sources).clone();
        let answers = join_all(sources.iter().map(|(name, question)| async move {
            (*name, question.answer().await.unwrap_or_else(|error| Err(error.to_string())))
        }));
        let mut readings = process::readings();
        for (name, answer) in answers.await {
            let up = if answer.is_ok() { 1.0 } else { 0.0 };
            let help = "Whether a source of metrics answered this scrape.";
            readings.push(Reading::gauge("banyan_metrics_source_up", help, up).label("source", name));
            match answer {
                Ok(answered) => readings.extend(answered),
                Err(reason) => tracing::warn!(source = name, reason, "no metrics from {name}: {reason}"),
            }
        }
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &locked(&self.inner.registry));
        let _ = encode_registry(&mut text, &reading::registry(readings));
        let _ = encode_eof(&mut text);
        // The encoder writes braces where there are no labels, too; a line without them is what people search for. No
        // value of ours ends in braces and a space.
        text.replace("{} ", " ")
    }

    fn register<M: Metric + Clone + Debug>(&self, name: &'static str, help: &'static str, metric: M) -> M {
        // The encoder ends the help with a full stop of its own.
        let help = help.strip_suffix('.').unwrap_or(help);
        locked(&self.inner.registry).register(name, help, metric.clone());
        metric
    }
}

/// A panic elsewhere while the lock was held leaves nothing half done here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn counters_gauges_and_durations_are_rendered_with_their_labels() {
        let metrics = Metrics::new();
        let calls = metrics.counter("sample_calls_total", "Calls.");
        calls.get_or_create(&vec![("port", "users".into())]).inc_by(3);
        metrics.gauge("sample_open", "Open.").get_or_create(&vec![]).set(-2);
        let times = metrics.durations("sample_duration_seconds", "Times.");
        times.get_or_create(&vec![]).observe(Duration::from_millis(3));
        let text = metrics.render().await;
        for line in [
            "# TYPE sample_calls counter\n",
            "sample_calls_total{port=\"users\"} 3\n",
            "sample_open -2\n",
            "sample_duration_seconds_bucket{le=\"0.0025\"} 0\n",
            "sample_duration_seconds_bucket{le=\"0.005\"} 1\n",
            "sample_duration_seconds_bucket{le=\"+Inf\"} 1\n",
            "sample_duration_seconds_sum 0.003\n",
            "\nprocess_open_fds ",
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "process_start_time_seconds ",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains(".."), "{text}");
    }

    #[actix_web::test]
    async fn a_source_that_fails_is_reported_and_hides_nothing_else() {
        let metrics = Metrics::new();
        metrics.source("database", || Err("gone".to_owned()));
        metrics.source("pool", || {
            let idle =
                |pool: &'static str, value| Reading::gauge("sample_idle", "Idle.", value).label("pool", pool);
            Ok(vec![idle("a", 1.0), idle("b", 2.0)])
        });
        let text = metrics.render().await;
        for line in [
            "banyan_metrics_source_up{source=\"database\"} 0.0\n",
            "banyan_metrics_source_up{source=\"pool\"} 1.0\n",
            "sample_idle{pool=\"a\"} 1.0\n",
            "sample_idle{pool=\"b\"} 2.0\n",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert_eq!(text.matches("# TYPE sample_idle gauge").count(), 1, "{text}");
    }
}
