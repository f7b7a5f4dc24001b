//! What a load counts: answers by side, faults with samples, and how long answers took.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Samples kept of each kind of fault.
const SAMPLES: usize = 12;
/// Buckets of a histogram for each doubling of the time: a reading is at most 1/32 too high.
const STEPS: u64 = 32;

/// Times in microseconds, in buckets that grow with the time.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: BTreeMap<u64, u64>,
    total: u64,
    max: Duration,
}

impl Histogram {
    /// Adds one time.
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        *self.counts.entry(upper_bound(micros)).or_default() += 1;
        self.total += 1;
        self.max = self.max.max(time);
    }

    /// Adds all times of another.
    pub fn add(&mut self, other: &Self) {
        for (bound, count) in &other.counts {
            *self.counts.entry(*bound).or_default() += count;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The time that this share of all times does not exceed; zero if there is none.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut left = (share * self.total as f64).ceil() as u64;
        for (bound, count) in &self.counts {
            if *count >= left {
                return Duration::from_micros(*bound).min(self.max);
            }
            left -= count;
        }
        self.max
    }

    /// The longest time.
    pub fn max(&self) -> Duration {
        self.max
    }
}

/// The upper end of the bucket that holds the time.
fn upper_bound(micros: u64) -> u64 {
    if micros < STEPS {
        return micros;
    }
    let width = (micros / STEPS).ilog2() + 1;
    ((micros >> width) + 1).saturating_mul(1 << width).saturating_sub(1)
}

/// Counts of one lap, or of all.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Requests answered or failed.
    pub requests: u64,
    /// Those that wrote.
    pub writes: u64,
    /// Requests without the answer that was due: another status, or none.
    pub failures: u64,
    /// Reads that showed an older state than the last acknowledged one.
    pub stale: u64,
    /// The same by the side that answered.
    pub stale_on: BTreeMap<String, u64>,
    /// Reads that showed a state that was never written.
    pub wrong: u64,
    /// Answers by the side that gave them, as the facade says.
    pub sides: BTreeMap<String, u64>,
    /// Answers that the monolith gave in place of a failed service.
    pub fallbacks: u64,
    /// How long reads took.
    pub read_time: Histogram,
    /// How long writes took.
    pub write_time: Histogram,
    /// Some of the faults, in words.
    pub samples: Vec<String>,
}

impl Stats {
    /// Failures, and reads that showed what was never written. Stale reads are counted apart: they are no failures,
    /// but on the owner there are none.
    pub fn faults(&self) -> u64 {
        self.failures + self.wrong
    }

    /// All times together.
    pub fn time(&self) -> Histogram {
        let mut all = self.read_time.clone();
        all.add(&self.write_time);
        all
    }

    /// Keeps a sample, unless there are enough.
    pub fn sample(&mut self, text: String) {
        if self.samples.len() < SAMPLES {
            self.samples.push(text);
        }
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.writes += other.writes;
        self.failures += other.failures;
        self.stale += other.stale;
        self.wrong += other.wrong;
        for (mine, theirs) in [(&mut self.sides, &other.sides), (&mut self.stale_on, &other.stale_on)] {
            for (side, count) in theirs {
                *mine.entry(side.clone()).or_default() += count;
            }
        }
        self.fallbacks += other.fallbacks;
        self.read_time.add(&other.read_time);
        self.write_time.add(&other.write_time);
        for sample in &other.samples {
            self.sample(sample.clone());
        }
    }

    /// The samples, one a line.
    pub fn faults_in_words(&self) -> String {
        let mut text =
            format!("{} failures, {} wrong reads, {} stale reads", self.failures, self.wrong, self.stale);
        for sample in &self.samples {
            // Writing into a text cannot fail.
            let _ = write!(text, "\n  {sample}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_thirty_second_too_high() {
        let mut times = Histogram::default();
        for micros in 1..=10_000_u64 {
            times.record(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 5_000_u64), (0.99, 9_900), (1.0, 10_000)] {
            let found = u64::try_from(times.quantile(share).as_micros()).unwrap();
            assert!((exact..=exact + exact / 32 + 1).contains(&found), "{share}: {found} for {exact}");
        }
        assert_eq!(times.max(), Duration::from_micros(10_000));
    }

    #[test]
    fn an_empty_histogram_reads_zero() {
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }
}
