//! What an operator sees, and what he may do.

use super::*;
use crate::on_both;

on_both!(fixture => [
    a_dead_event_is_retried_as_if_it_had_never_failed,
    discarding_a_dead_event_lets_the_next_one_go_on,
    an_event_in_flight_or_unknown_is_refused,
    events_are_listed_page_by_page_and_by_consumer,
    lag_counts_what_waits_what_is_dead_and_the_oldest,
]);

async fn a_dead_event(world: &World) -> WaitingEvent {
    world.lay("1", 1).await;
    world.lay("1", 2).await;
    let relay = world.start(hasty(), |egg| if egg.number == 1 { rejected() } else { Ok(()) });
    let mut dead = until(async || Some(world.dead().await).filter(|dead| dead.len() == 2)).await;
    relay.stop().await;
    dead.remove(0)
}

async fn a_dead_event_is_retried_as_if_it_had_never_failed(world: World) {
    for id in [a_dead_event(&world).await.id, world.dead().await[1].id] {
        let retried = world.db.write(move |conn| retry(conn, id, SystemClock.now())).await.unwrap();
        assert_eq!((retried.attempts, retried.dead_at), (0, None));
    }
    let _relay = world.start(hasty(), content);
    world.drained().await;
    assert_eq!(world.numbers("magpie", "1").await, [1, 2]);
}

async fn discarding_a_dead_event_lets_the_next_one_go_on(world: World) {
    for id in [a_dead_event(&world).await.id, world.dead().await[1].id] {
        let gone = world.db.write(move |conn| discard(conn, id, SystemClock.now())).await.unwrap();
        assert_eq!(gone.payload, serde_json::json!({ "nest": "1", "number": 1 }));
    }
    let _relay = world.start(hasty(), content);
    world.drained().await;
    assert_eq!(world.numbers("magpie", "1").await, [2]);
}

async fn an_event_in_flight_or_unknown_is_refused(world: World) {
    world.lay("1", 1).await;
    let id = world.all().await[0].id;
    let claim = format!("UPDATE banyan_outbox SET claimed_by = 'r', claimed_until_ms = {}", i64::MAX / 2);
    world.db.write(move |conn| Ok::<_, DbError>(conn.batch_execute(&claim)?)).await.unwrap();
    let now = SystemClock.now();
    let refused = world.db.write(move |conn| discard(conn, id, now)).await.unwrap_err();
    assert!(matches!(refused, OperatorError::InFlight { .. }), "{refused}");
    let refused = world.db.write(move |conn| retry(conn, id, now)).await.unwrap_err();
    assert!(matches!(refused, OperatorError::InFlight { .. }), "{refused}");
    let unknown = world.db.write(move |conn| discard(conn, 77, now)).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no event 77; it may have ended meanwhile");
    assert_eq!(world.all().await.len(), 2);
}

async fn events_are_listed_page_by_page_and_by_consumer(world: World) {
    for number in 0..5 {
        world.lay("1", number).await;
    }
    let page =
        |after| EventFilter { consumer: Some("magpie".to_owned()), which: Which::All, after, limit: 3 };
    let first = page(None);
    let first = world.db.read(move |conn| list(conn, &first)).await.unwrap();
    let second = page(first.last().map(|event| event.id));
    let second = world.db.read(move |conn| list(conn, &second)).await.unwrap();
    assert_eq!((first.len(), second.len()), (3, 2));
    assert!(first.iter().chain(&second).all(|event| event.consumer == "magpie"));
    let id = first[0].id;
    assert_eq!(world.db.read(move |conn| show(conn, id)).await.unwrap(), first[0]);
}

async fn lag_counts_what_waits_what_is_dead_and_the_oldest(world: World) {
    a_dead_event(&world).await;
    let oldest = world.all().await.into_iter().find(|event| event.dead_at.is_none()).unwrap().occurred_at;
    let now = contracts::Timestamp::from_millis(oldest.as_millis() + 700);
    let told = world.db.read(move |conn| lag(conn, now)).await.unwrap();
    assert_eq!(told.iter().map(|lag| lag.consumer.as_str()).collect::<Vec<_>>(), CONSUMERS);
    assert!(told.iter().all(|lag| (lag.pending, lag.dead) == (1, 1)), "{told:?}");
    assert!(told.iter().any(|lag| lag.oldest_ms == 700), "{told:?}");
}
