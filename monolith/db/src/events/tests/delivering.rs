//! What the relay delivers, when, and how often.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use contracts::events::EventBus;
use pg_harness::{Cluster, Mode};
use platform::settings::Secret;

use super::*;
use crate::{DatabaseSettings, on_both};

on_both!(fixture => [
    every_consumer_hears_an_event_once,
    what_is_rolled_back_or_unheard_is_not_published,
    an_event_wakes_the_relay,
    a_delivery_that_fails_is_repeated_before_the_next_of_its_aggregate,
    a_repeat_has_no_second_effect,
    what_cannot_be_handled_is_dead_and_holds_up_only_its_aggregate,
    an_event_that_fails_too_often_is_dead,
    a_handler_that_panics_or_hangs_has_failed,
    two_relays_never_deliver_the_same_row,
    rows_of_a_relay_that_died_are_taken_when_its_lease_ends,
    a_stopped_relay_gives_back_what_it_has_not_delivered,
    a_lease_outlives_a_slow_batch,
    only_old_inbox_rows_are_purged,
]);

async fn every_consumer_hears_an_event_once(world: World) {
    for number in 0..50 {
        world.lay(&(number % 7).to_string(), number).await;
    }
    let relay = world.start(RelaySettings { batch: 3, ..hasty() }, content);
    world.drained().await;
    for consumer in CONSUMERS {
        assert_eq!(world.heard(consumer).await.len(), 50);
        for nest in 0..7 {
            let numbers = world.numbers(consumer, &nest.to_string()).await;
            assert_eq!(numbers, (0..50).filter(|number| number % 7 == nest).collect::<Vec<_>>());
        }
    }
    assert_eq!(world.heard("magpie").await[0].request_id.as_bytes()[0], b'r');
    assert!(relay.stats().iter().all(|stats| (stats.delivered, stats.failed, stats.dead) == (50, 0, 0)));
}

async fn what_is_rolled_back_or_unheard_is_not_published(world: World) {
    let origin = Origin { request_id: "r".to_owned(), traceparent: None };
    let egg = || EggLaid { nest: "1".to_owned(), number: 1 };
    let (outbox, same) = (world.outbox.clone(), origin.clone());
    let rolled_back = world.db.write(move |conn| {
        outbox.publish(conn, &same, &egg(), SystemClock.now())?;
        Err::<(), _>(DbError::Stopping)
    });
    assert!(rolled_back.await.is_err());
    let unheard = Outbox::new(&[("nests.Other", "cuckoo")]);
    world.db.write(move |conn| unheard.publish(conn, &origin, &egg(), SystemClock.now())).await.unwrap();
    assert_eq!(world.all().await, []);
}

async fn an_event_wakes_the_relay(world: World) {
    let _relay = world.start(RelaySettings { poll: Duration::from_secs(3600), ..hasty() }, content);
    for number in 0..5 {
        world.lay("1", number).await;
        world.drained().await;
    }
    assert_eq!(world.numbers("cuckoo", "1").await, [0, 1, 2, 3, 4]);
}

async fn a_delivery_that_fails_is_repeated_before_the_next_of_its_aggregate(world: World) {
    for number in 0..4 {
        world.lay("1", number).await;
    }
    let attempts = AtomicU32::new(0);
    let _relay = world.start(RelaySettings { max_attempts: 100, ..hasty() }, move |_| {
        match attempts.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Ok(()),
            _ => away(),
        }
    });
    world.drained().await;
    assert_eq!(world.numbers("cuckoo", "1").await, [0, 1, 2, 3]);
}

async fn a_repeat_has_no_second_effect(world: World) {
    world.lay("1", 1).await;
    let event = &world.all().await[0];
    let envelope = Envelope {
        id: event.event_id.clone(),
        kind: event.kind.clone(),
        aggregate: event.aggregate.clone(),
        payload: event.payload.clone(),
        request_id: event.request_id.clone(),
        traceparent: event.traceparent.clone(),
        occurred_at: event.occurred_at,
    };
    let bus = World::bus(&world.db, content);
    let ctx = CallContext::new("r", Duration::from_secs(5));
    for _ in 0..2 {
        bus.deliver(&ctx, "cuckoo", &envelope).await.unwrap();
    }
    assert_eq!(world.numbers("cuckoo", "1").await, [1]);
}

async fn what_cannot_be_handled_is_dead_and_holds_up_only_its_aggregate(world: World) {
    world.lay("1", 1).await;
    world.lay("1", 2).await;
    world.lay("2", 3).await;
    let relay = world.start(hasty(), |egg| if egg.number == 1 { rejected() } else { Ok(()) });
    until(async || (world.all().await.len() == 4).then_some(())).await;
    let dead = until(async || Some(world.dead().await).filter(|dead| dead.len() == 2)).await;
    assert!(dead.iter().all(|event| event.attempts == 1));
    assert_eq!(dead[0].last_error.as_deref(), Some("the event cannot be handled: no egg"));
    assert_eq!(world.numbers("cuckoo", "2").await, [3]);
    assert_eq!(world.numbers("cuckoo", "1").await, Vec::<i64>::new());
    assert!(relay.stats().iter().all(|stats| (stats.delivered, stats.failed, stats.dead) == (1, 0, 1)));
}

async fn an_event_that_fails_too_often_is_dead(world: World) {
    world.lay("1", 1).await;
    let _relay = world.start(hasty(), |_| away());
    let dead = until(async || Some(world.dead().await).filter(|dead| dead.len() == 2)).await;
    assert!(dead.iter().all(|event| event.attempts == 3 && event.claimed_by.is_none()));
}

async fn a_handler_that_panics_or_hangs_has_failed(world: World) {
    struct Odd(Mutex<u32>);

    #[async_trait]
    impl EventBus for Odd {
        async fn deliver(&self, _: &CallContext, _: &str, _: &Envelope) -> Result<(), HandleError> {
            let attempt = {
                let mut attempts = self.0.lock().unwrap();
                *attempts += 1;
                *attempts
            };
            match attempt {
                1 => panic!("the test panics here"),
                2 => std::future::pending().await,
                _ => Ok(()),
            }
        }
    }

    world.lay("1", 1).await;
    let settings = RelaySettings { deadline: Duration::from_millis(20), ..hasty() };
    let bus = Arc::new(Odd(Mutex::new(0)));
    let relay = Relay::spawn(world.db.clone(), bus, &["cuckoo"], Arc::new(SystemClock), settings);
    until(async || (world.all().await.len() == 1).then_some(())).await;
    assert_eq!(relay.stats(), [RelayStats { consumer: "cuckoo", delivered: 1, failed: 2, dead: 0 }]);
}

async fn two_relays_never_deliver_the_same_row(world: World) {
    for number in 0..120 {
        world.lay(&(number % 40).to_string(), number).await;
    }
    let other = Db::open(world.db.settings()).unwrap();
    let deliveries = Arc::new(AtomicU32::new(0));
    let counting = || {
        let deliveries = Arc::clone(&deliveries);
        move |_: &EggLaid| {
            deliveries.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    };
    let few = RelaySettings { batch: 5, ..hasty() };
    let (_one, _two) = (relay(&world.db, few, counting()), relay(&other, few, counting()));
    world.drained().await;
    assert_eq!(deliveries.load(Ordering::Relaxed), 240);
    assert_eq!(world.heard("cuckoo").await.len(), 120);
}

async fn rows_of_a_relay_that_died_are_taken_when_its_lease_ends(world: World) {
    struct Deaf;

    #[async_trait]
    impl EventBus for Deaf {
        async fn deliver(&self, _: &CallContext, _: &str, _: &Envelope) -> Result<(), HandleError> {
            std::future::pending().await
        }
    }

    world.lay("1", 1).await;
    let short = RelaySettings { lease: Duration::from_millis(200), ..hasty() };
    let died = Relay::spawn(world.db.clone(), Arc::new(Deaf), &CONSUMERS, Arc::new(SystemClock), short);
    until(async || world.all().await.iter().all(|event| event.claimed_by.is_some()).then_some(())).await;
    drop(died);
    let _relay = world.start(short, content);
    world.drained().await;
    assert_eq!(world.numbers("cuckoo", "1").await, [1]);
}

async fn a_stopped_relay_gives_back_what_it_has_not_delivered(world: World) {
    for number in 0..40 {
        world.lay(&number.to_string(), number).await;
    }
    let relay = world.start(RelaySettings { concurrency: 1, ..hasty() }, content);
    until(async || (!world.heard("cuckoo").await.is_empty()).then_some(())).await;
    relay.stop().await;
    let left = world.all().await;
    assert!(left.iter().all(|event| event.claimed_by.is_none() && event.attempts == 0));
    for consumer in CONSUMERS {
        let left = left.iter().filter(|event| event.consumer == consumer).count();
        assert_eq!(world.heard(consumer).await.len() + left, 40);
    }
}

async fn a_lease_outlives_a_slow_batch(world: World) {
    struct Slow(AtomicU32);

    #[async_trait]
    impl EventBus for Slow {
        async fn deliver(&self, _: &CallContext, _: &str, _: &Envelope) -> Result<(), HandleError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
    }

    for number in 0..10 {
        world.lay(&number.to_string(), number).await;
    }
    let settings = RelaySettings { lease: Duration::from_millis(400), concurrency: 1, ..hasty() };
    let slow = Arc::new(Slow(AtomicU32::new(0)));
    let start = || {
        let bus: Arc<dyn EventBus> = Arc::<Slow>::clone(&slow);
        Relay::spawn(world.db.clone(), bus, &["cuckoo"], Arc::new(SystemClock), settings)
    };
    let (_one, _two) = (start(), start());
    until(async || (world.all().await.len() == 10).then_some(())).await;
    assert_eq!(slow.0.load(Ordering::Relaxed), 10);
}

async fn only_old_inbox_rows_are_purged(world: World) {
    world.lay("1", 1).await;
    let _relay = world.start(hasty(), content);
    world.drained().await;
    let now = SystemClock.now();
    assert_eq!(purge_inbox(&world.db, contracts::Timestamp::from_millis(0)).await.unwrap(), 0);
    let later = contracts::Timestamp::from_millis(now.as_millis() + 1);
    assert_eq!(purge_inbox(&world.db, later).await.unwrap(), 2);
}

#[test]
fn a_relay_goes_on_when_its_database_comes_back() {
    let cluster = Cluster::durable().unwrap();
    let database = cluster.create_database().unwrap();
    let settings = DatabaseSettings { url: Secret::new(database.url()), ..DatabaseSettings::default() };
    let db = Db::open(&settings).unwrap();
    crate::schema::apply(&db, &[SCHEMA]).unwrap();
    crate::testing::run(async {
        struct Silent;

        #[async_trait]
        impl EventBus for Silent {
            async fn deliver(&self, _: &CallContext, _: &str, _: &Envelope) -> Result<(), HandleError> {
                Ok(())
            }
        }

        let relay = Relay::spawn(db.clone(), Arc::new(Silent), &["cuckoo"], Arc::new(SystemClock), hasty());
        let outbox = Outbox::new(&[(KIND, "cuckoo")]);
        cluster.stop(Mode::Immediate).unwrap();
        until(async || db.check().is_err().then_some(())).await;
        cluster.start_again().unwrap();
        let origin = Origin { request_id: "r".to_owned(), traceparent: None };
        until(async || {
            let (outbox, origin) = (outbox.clone(), origin.clone());
            let egg = EggLaid { nest: "1".to_owned(), number: 1 };
            db.write(move |conn| outbox.publish(conn, &origin, &egg, SystemClock.now())).await.ok()
        })
        .await;
        until(async || (relay.stats()[0].delivered == 1).then_some(())).await;
    });
}

#[test]
fn a_bus_and_an_outbox_that_disagree_are_found_at_the_start() {
    let db = scratch(Backend::Sqlite, &[SCHEMA]);
    let bus = World::bus(&db, content);
    let agreed = CONSUMERS.map(|consumer| (KIND, consumer));
    assert_eq!(bus.check(&Outbox::new(&agreed)), Ok(()));
    let missing = bus.check(&Outbox::new(&[agreed[0], agreed[1], ("nests.Other", "magpie")])).unwrap_err();
    assert!(missing.contains("magpie subscribed to nests.Other"), "{missing}");
    let deaf = bus.check(&Outbox::new(&agreed[..1])).unwrap_err();
    assert!(deaf.contains("magpie has a handler for nests.EggLaid"), "{deaf}");
}
