//! A histogram of durations that threads share without a lock.
//!
//! Invariant: the bounds are the same everywhere, so that any two histograms can be compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets in microseconds; what is longer falls into the last, which has none.
const BOUNDS_US: [u32; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How often which duration was observed; clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct Durations {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    bounded: [AtomicU64; BOUNDS_US.len()],
    longer: AtomicU64,
    sum_ns: AtomicU64,
}

impl Durations {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let counts = &self.counts;
        let micros = duration.as_nanos().div_ceil(1_000);
        let found = BOUNDS_US.iter().zip(&counts.bounded).find(|(bound, _)| micros <= u128::from(**bound));
        let count = found.map_or(&counts.longer, |(_, count)| count);
        count.fetch_add(1, Ordering::Relaxed);
        counts.sum_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let bounds = BOUNDS_US.iter().map(|bound| f64::from(*bound) / 1e6).chain([f64::INFINITY]);
        let counts = self.counts.bounded.iter().chain([&self.counts.longer]).map(read);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(read(&self.counts.sum_ns)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
