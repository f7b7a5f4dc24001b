//! How large and how fast a request's body is, as it comes.
//!
//! Invariant: only the time in which the client was waited for is held against it; an upstream that reads slowly is
//! not its fault.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;

use crate::body::BodyFault;
use crate::client::plan::BodyLimits;

/// What has come of a body.
#[derive(Debug)]
pub(crate) struct Measure {
    limits: BodyLimits,
    bytes: u64,
    waited: Duration,
    /// Set while it is waited for.
    since: Option<Instant>,
}

impl Measure {
    pub(crate) fn new(limits: BodyLimits) -> Self {
        Self { limits, bytes: 0, waited: Duration::ZERO, since: None }
    }

    /// Nothing is there at the moment. How long that may go on, from when it began, and what it is called then.
    pub(crate) fn wait(&mut self) -> (Duration, BodyFault) {
        self.since.get_or_insert_with(Instant::now);
        let stalled = (self.limits.idle, BodyFault::Stalled);
        let slow = (self.lasts().saturating_sub(self.waited), BodyFault::Slow);
        if self.limits.bytes_per_s > 0 && slow.0 < stalled.0 { slow } else { stalled }
    }

    /// The wait that what has come is enough for.
    fn lasts(&self) -> Duration {
        let ms = self.bytes.saturating_mul(1000).checked_div(self.limits.bytes_per_s).unwrap_or(u64::MAX);
        self.limits.grace.max(Duration::from_millis(ms))
    }

    /// A piece came.
    pub(crate) fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyFault> {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.bytes = self.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if self.bytes > self.limits.most {
            return Err(BodyFault::TooLarge);
        }
        let least = u128::from(self.limits.bytes_per_s) * self.waited.as_millis() / 1000;
        if self.waited > self.limits.grace && u128::from(self.bytes) < least {
            return Err(BodyFault::Slow);
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BodyLimits {
        let none = Duration::ZERO;
        BodyLimits { most: 10, idle: none, bytes_per_s: 2, grace: Duration::from_secs(3), wait: none }
    }

    fn piece(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![0; length]))
    }

    #[test]
    fn a_body_may_be_as_large_as_the_limit() {
        let mut measure = Measure::new(limits());
        assert!(measure.take(piece(10)).is_ok());
        assert_eq!(measure.take(piece(1)).unwrap_err(), BodyFault::TooLarge);
    }

    #[test]
    fn silence_lasts_as_long_as_what_came_before_is_enough_for() {
        let long = BodyLimits { idle: Duration::from_secs(60), most: 1000, ..limits() };
        let mut measure = Measure::new(long);
        assert_eq!(measure.wait(), (Duration::from_secs(3), BodyFault::Slow));
        assert!(measure.take(piece(100)).is_ok());
        measure.waited = Duration::from_secs(10);
        assert_eq!(measure.wait(), (Duration::from_secs(40), BodyFault::Slow));
        assert!(measure.take(piece(100)).is_ok());
        assert_eq!(measure.wait().1, BodyFault::Stalled);
        let mut unmeasured = Measure::new(BodyLimits { bytes_per_s: 0, ..long });
        assert_eq!(unmeasured.wait(), (long.idle, BodyFault::Stalled));
    }

    #[test]
    fn a_body_must_keep_up_once_the_grace_is_over() {
        let mut measure = Measure::new(limits());
        measure.waited = Duration::from_secs(3);
        assert!(measure.take(piece(1)).is_ok());
        measure.waited = Duration::from_secs(4);
        assert!(measure.take(piece(7)).is_ok());
        measure.waited = Duration::from_secs(5);
        assert_eq!(measure.take(piece(1)).unwrap_err(), BodyFault::Slow);
    }
}
