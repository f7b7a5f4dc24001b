//! The relay against a log and a sink in memory, with the clock in the test's hand.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use contracts::replication::{Applied, Backlog, Image};
use serde_json::json;

use super::*;

#[derive(Default)]
struct Log(Mutex<BTreeMap<i64, Image>>);

impl Log {
    fn write(&self, version: i64) {
        let image = Image { version, id: version.to_string(), state: Some(json!({})) };
        self.0.lock().unwrap().insert(version, image);
    }
}

#[async_trait]
impl IntentLog for Log {
    async fn pending(&self, limit: u32) -> Result<Vec<Image>, Unavailable> {
        Ok(self.0.lock().unwrap().values().take(limit as usize).cloned().collect())
    }

    async fn delivered(&self, up_to: i64) -> Result<(), Unavailable> {
        self.0.lock().unwrap().retain(|version, _| *version > up_to);
        Ok(())
    }

    async fn backlog(&self) -> Result<Backlog, Unavailable> {
        Ok(Backlog { pending: self.0.lock().unwrap().len() as u64, oldest_ms: 0 })
    }
}

/// What the other side took, and how it answers now.
#[derive(Default)]
struct Side {
    taken: Mutex<Vec<i64>>,
    attempts: Mutex<Vec<Instant>>,
    mood: Mutex<Mood>,
}

#[derive(Default, Clone)]
enum Mood {
    #[default]
    Takes,
    TakesAfter(Duration),
    Refuses(ReplicaError),
}

impl Side {
    fn feels(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn taken(&self) -> Vec<i64> {
        self.taken.lock().unwrap().clone()
    }
}

#[async_trait]
impl ReplicaSink for Side {
    async fn apply(&self, image: Image) -> Result<Applied, ReplicaError> {
        self.attempts.lock().unwrap().push(Instant::now());
        let mood = self.mood.lock().unwrap().clone();
        match mood {
            Mood::Takes => {}
            Mood::TakesAfter(pause) => tokio::time::sleep(pause).await,
            Mood::Refuses(error) => return Err(error),
        }
        let mut taken = self.taken.lock().unwrap();
        let is_stale = taken.contains(&image.version);
        taken.push(image.version);
        Ok(if is_stale { Applied::Stale } else { Applied::Stored })
    }
}

fn down() -> Mood {
    let cause = Unavailable { context: "users".into(), reason: "refused".into(), maybe_done: false };
    Mood::Refuses(cause.into())
}

fn start() -> (Arc<Log>, Arc<Side>, RelayHandle) {
    let (log, side) = (Arc::new(Log::default()), Arc::new(Side::default()));
    let relay =
        Relay::spawn(log.clone(), side.clone(), RelaySettings { batch: 3, ..RelaySettings::default() });
    (log, side, relay)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(250)
}

#[tokio::test(start_paused = true)]
async fn images_go_in_order_and_leave_the_log() {
    let (log, side, relay) = start();
    for version in 1..=10 {
        log.write(version);
    }
    assert_eq!(relay.wait_passed(10, soon()).await, Delivery::Passed);
    assert_eq!(side.taken(), (1..=10).collect::<Vec<_>>());
    relay.wait_passed(11, soon()).await;
    let stats = relay.stats().await.unwrap();
    assert_eq!((stats.pending, stats.delivered, stats.late, stats.healed), (0, 10, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_image_does_not_wait() {
    let (_log, _side, relay) = start();
    let before = Instant::now();
    assert_eq!(relay.wait_passed(7, soon()).await, Delivery::Passed);
    assert_eq!(Instant::now(), before);
}

#[tokio::test(start_paused = true)]
async fn intents_of_other_processes_are_found_without_a_poke() {
    let (log, side, _relay) = start();
    tokio::time::sleep(Duration::from_millis(10)).await;
    log.write(1);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(side.taken(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_side_makes_a_write_late_and_then_heals_it() {
    let (log, side, relay) = start();
    side.feels(Mood::TakesAfter(Duration::from_millis(400)));
    log.write(1);
    assert_eq!(relay.wait_passed(1, soon()).await, Delivery::Late);
    let stats = relay.stats().await.unwrap();
    assert_eq!((stats.late, stats.healed, stats.pending), (1, 0, 1));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stats = relay.stats().await.unwrap();
    assert_eq!((stats.late, stats.healed, stats.pending), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn writes_do_not_wait_for_a_side_known_to_be_down() {
    let (log, side, relay) = start();
    side.feels(down());
    log.write(1);
    assert_eq!(relay.wait_passed(1, soon()).await, Delivery::Failing);
    let before = Instant::now();
    log.write(2);
    assert_eq!(relay.wait_passed(2, soon()).await, Delivery::Failing);
    assert_eq!(Instant::now(), before);
    let stats = relay.stats().await.unwrap();
    assert!(stats.failing_since_ms.is_some() && !stats.stuck, "{stats:?}");
    side.feels(Mood::Takes);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(side.taken(), [1, 2]);
    let stats = relay.stats().await.unwrap();
    assert_eq!((stats.late, stats.healed, stats.failing_since_ms), (2, 2, None));
}

#[tokio::test(start_paused = true)]
async fn pokes_do_not_shorten_the_pause_while_failing() {
    let (log, side, relay) = start();
    side.feels(down());
    log.write(1);
    for _ in 0..1_000 {
        relay.poke();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let attempts = side.attempts.lock().unwrap().len();
    assert!((8..20).contains(&attempts), "{attempts} attempts in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_refused_image_is_kept_and_holds_the_later_ones_back() {
    let (log, side, relay) = start();
    let conflict = ReplicaError::Conflict { version: 1, id: "1".into(), holder: "9".into() };
    side.feels(Mood::Refuses(conflict));
    log.write(1);
    log.write(2);
    assert_eq!(relay.wait_passed(2, soon()).await, Delivery::Failing);
    let stats = relay.stats().await.unwrap();
    assert!(stats.stuck && stats.failure.unwrap().contains("collides with 9"));
    assert_eq!((stats.pending, side.taken().len()), (2, 0));
    side.feels(Mood::Takes);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(side.taken(), [1, 2]);
    assert!(!relay.stats().await.unwrap().stuck);
}

#[tokio::test(start_paused = true)]
async fn a_write_does_not_wait_behind_a_backlog() {
    let (log, side, relay) = start();
    side.feels(Mood::TakesAfter(Duration::from_millis(5)));
    for version in 1..=1_000 {
        log.write(version);
    }
    relay.poke();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    assert_eq!(relay.wait_passed(1_000, soon()).await, Delivery::Failing);
    assert_eq!(before.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(10)).await;
    log.write(1_001);
    assert_eq!(relay.wait_passed(1_001, soon()).await, Delivery::Passed);
}

#[tokio::test(start_paused = true)]
async fn two_relays_on_one_log_deliver_everything_in_order() {
    let (log, side, first) = start();
    let second = Relay::spawn(log.clone(), side.clone(), RelaySettings::default());
    side.feels(Mood::TakesAfter(Duration::from_millis(1)));
    for version in 1..=50 {
        log.write(version);
        first.poke();
        second.poke();
    }
    let later = Instant::now() + Duration::from_secs(5);
    for relay in [&first, &second] {
        // A backlog of this length is not waited for at once.
        while relay.wait_passed(50, later).await != Delivery::Passed {
            assert!(Instant::now() < later, "not delivered in five seconds");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut first_times = Vec::new();
    for version in side.taken() {
        if !first_times.contains(&version) {
            first_times.push(version);
        }
    }
    assert_eq!(first_times, (1..=50).collect::<Vec<_>>());
    assert_eq!(first.stats().await.unwrap().pending, 0);
}
