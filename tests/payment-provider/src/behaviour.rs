//! How the provider misbehaves: which share of the requests that move money meets which fate.
//!
//! Invariant: the same seed and the same rates give the same sequence of fates.

use std::time::Duration;

use platform::settings::within;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// What is set from outside. Every rate is a share of the POSTs, from 0 to 1; together they are at most 1, and the
/// rest is answered as it should be. A POST that is refused for its form alone draws nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Milliseconds by which every answer under `/v1` is delayed, after the work. More than the shop's timeout, and
    /// every payment looks as if it had failed.
    #[serde(deserialize_with = "within::<0, 600_000, _, _>")]
    pub latency_ms: u64,
    /// The share of POSTs that are answered 500, nothing done.
    #[serde(deserialize_with = "rate")]
    pub fail_rate: f64,
    /// The share of POSTs that are done, then answered 500.
    #[serde(deserialize_with = "rate")]
    pub charge_then_fail_rate: f64,
    /// The share of POSTs that are not done and never answered.
    #[serde(deserialize_with = "rate")]
    pub hang_rate: f64,
    /// The share of POSTs that are done and never answered.
    #[serde(deserialize_with = "rate")]
    pub charge_then_hang_rate: f64,
    /// Milliseconds after which a connection that gets no answer is closed. Shorter than the shop's timeout, and
    /// hanging looks like a broken connection.
    #[serde(deserialize_with = "within::<0, 3_600_000, _, _>")]
    pub hang_ms: u64,
    /// The share of POSTs that are cut off at once without an answer; one half of these is done.
    #[serde(deserialize_with = "rate")]
    pub drop_rate: f64,
    /// The share of POSTs that are answered 504 at once, and done later.
    #[serde(deserialize_with = "rate")]
    pub late_rate: f64,
    /// How much later that is, in milliseconds.
    #[serde(deserialize_with = "within::<0, 3_600_000, _, _>")]
    pub late_ms: u64,
    /// Where the draws begin: the same seed and rates give the same sequence of fates.
    #[serde(deserialize_with = "within::<0, 9_223_372_036_854_775_807, _, _>")]
    pub seed: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            fail_rate: 0.0,
            charge_then_fail_rate: 0.0,
            hang_rate: 0.0,
            charge_then_hang_rate: 0.0,
            hang_ms: 30_000,
            drop_rate: 0.0,
            late_rate: 0.0,
            late_ms: 1_000,
            seed: 1,
        }
    }
}

/// Rates that cannot all be had.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the rates add up to {sum}; together they may be at most 1")]
pub struct TooMuch {
    sum: f64,
}

impl Behaviour {
    /// Whether the rates can be kept together.
    pub fn check(&self) -> Result<(), TooMuch> {
        let sum = self.shares().iter().map(|(rate, _)| rate).sum::<f64>();
        // Ten rates of 0.1 are a little more than 1 in binary.
        if sum > 1.0 + 1e-9 { Err(TooMuch { sum }) } else { Ok(()) }
    }

    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms)
    }

    fn shares(&self) -> [(f64, Ending); 6] {
        let hang = Duration::from_millis(self.hang_ms);
        [
            (self.fail_rate, Ending::Fail(Work::Never)),
            (self.charge_then_fail_rate, Ending::Fail(Work::Now)),
            (self.hang_rate, Ending::Cut(Work::Never, hang)),
            (self.charge_then_hang_rate, Ending::Cut(Work::Now, hang)),
            (self.drop_rate, Ending::Cut(Work::Now, Duration::ZERO)),
            (self.late_rate, Ending::Late(Duration::from_millis(self.late_ms))),
        ]
    }
}

/// How a request that moves money ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should.
    Answer,
    /// With 500.
    Fail(Work),
    /// Without an answer, its connection closed after this time.
    Cut(Work, Duration),
    /// With 504, its work done after this time.
    Late(Duration),
}

/// Whether a request that ends badly is carried out all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Now,
    Never,
}

/// Draws endings.
#[derive(Debug)]
pub(crate) struct Dice {
    pub(crate) behaviour: Behaviour,
    random: ChaCha8Rng,
}

impl Dice {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let random = ChaCha8Rng::seed_from_u64(behaviour.seed);
        Self { behaviour, random }
    }

    pub(crate) fn draw(&mut self) -> Ending {
        let mut rest = self.uniform();
        for (rate, ending) in self.behaviour.shares() {
            if rest >= rate {
                rest -= rate;
                continue;
            }
            return match ending {
                Ending::Cut(Work::Now, Duration::ZERO) if self.uniform() < 0.5 => {
                    Ending::Cut(Work::Never, Duration::ZERO)
                }
                ending => ending,
            };
        }
        Ending::Answer
    }

    /// At least 0 and less than 1.
    fn uniform(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let rate = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&rate) {
        return Ok(rate);
    }
    Err(de::Error::custom(format!("{rate} is out of bounds: from 0 to 1 is allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(behaviour: &Behaviour) -> Vec<Ending> {
        let mut dice = Dice::new(behaviour.clone());
        (0..10_000).map(|_| dice.draw()).collect()
    }

    fn count(drawn: &[Ending], ending: Ending) -> usize {
        drawn.iter().filter(|drawn| **drawn == ending).count()
    }

    #[test]
    fn every_ending_is_drawn_as_often_as_its_rate_says() {
        let behaviour = Behaviour { fail_rate: 0.1, drop_rate: 0.2, late_rate: 0.3, ..Behaviour::default() };
        let drawn = draws(&behaviour);
        for (ending, expected) in [
            (Ending::Fail(Work::Never), 1_000),
            (Ending::Cut(Work::Now, Duration::ZERO), 1_000),
            (Ending::Cut(Work::Never, Duration::ZERO), 1_000),
            (Ending::Late(Duration::from_secs(1)), 3_000),
            (Ending::Answer, 4_000),
        ] {
            assert!(count(&drawn, ending).abs_diff(expected) < 200, "{ending:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_endings_and_another_seed_others() {
        let behaviour = Behaviour { fail_rate: 0.5, ..Behaviour::default() };
        assert_eq!(draws(&behaviour), draws(&behaviour));
        assert_ne!(draws(&behaviour), draws(&Behaviour { seed: 2, ..behaviour.clone() }));
    }

    #[test]
    fn a_rate_of_one_leaves_no_other_ending() {
        let behaviour = Behaviour { charge_then_fail_rate: 1.0, ..Behaviour::default() };
        assert_eq!(count(&draws(&behaviour), Ending::Fail(Work::Now)), 10_000);
    }

    #[test]
    fn rates_out_of_bounds_are_refused_alone_and_together() {
        assert!(serde_json::from_str::<Behaviour>(r#"{"fail_rate":1.1}"#).is_err());
        let both = Behaviour { fail_rate: 0.6, late_rate: 0.6, ..Behaviour::default() };
        assert!(both.check().is_err() && Behaviour::default().check().is_ok());
    }
}
