//! Any sequence of commands, on the store and on the fake.
//!
//! Invariant: both give the same answers, and once everything is released the stock is what it was.

use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};
use proptest::prop_oneof;

use super::*;

/// One command; orders are few, so that commands meet.
#[derive(Debug, Clone)]
enum Step {
    Reserve { order: i64, lines: Vec<(i64, u32)>, expired: bool },
    Confirm { order: i64 },
    Release { order: i64 },
    Expire { limit: u32 },
}

const ORDERS: std::ops::RangeInclusive<i64> = 1..=5;
const STOCK: [&[i64]; 2] = [&[6, 3, 0], &[2, 4, 5]];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lines = || prop::collection::vec((1..4_i64, 0..5_u32), 0..4);
    let step = prop_oneof![
        4 => (ORDERS, lines(), any::<bool>())
            .prop_map(|(order, lines, expired)| Step::Reserve { order, lines, expired }),
        2 => ORDERS.prop_map(|order| Step::Confirm { order }),
        1 => ORDERS.prop_map(|order| Step::Release { order }),
        1 => (0..3_u32).prop_map(|limit| Step::Expire { limit }),
    ];
    prop::collection::vec(step, 1..25)
}

/// Takes one step and returns what can be seen of it.
async fn take(inventory: &dyn Inventory, step: &Step) -> String {
    match step {
        Step::Reserve { order, lines, expired } => {
            // Each order has an instant of its own: which of two expires first must not be open.
            let millis = if *expired { -*order } else { *order };
            let expires_at = Timestamp::from_millis(NOW.as_millis() + millis);
            let wish = Reserve { expires_at, ..wish(*order, lines) };
            format!("{:?}", inventory.reserve(&call(), wish).await)
        }
        Step::Confirm { order: id } => format!("{:?}", inventory.confirm(&call(), order(*id)).await),
        Step::Release { order: id } => format!("{:?}", inventory.release(&call(), order(*id)).await),
        Step::Expire { limit } => format!("{:?}", inventory.expire(&call(), *limit).await),
    }
}

async fn all_levels(inventory: &dyn Inventory) -> Vec<Vec<(i64, i64)>> {
    let mut all = Vec::new();
    for of in 1..=3 {
        all.push(levels(inventory, of).await);
    }
    all
}

async fn run(backend: Backend, steps: &[Step]) {
    let (Fixture { db, inventory }, fake) = (fixture(backend), FakeInventory::default());
    fill(&inventory, &STOCK).await;
    fill(&fake, &STOCK).await;
    let before = all_levels(&inventory).await;
    for step in steps {
        assert_eq!(take(&inventory, step).await, take(&fake, step).await, "{step:?}");
        assert_eq!(all_levels(&inventory).await, all_levels(&fake).await, "{step:?}");
        check_books(&db).await;
    }
    for id in ORDERS {
        inventory.release(&call(), order(id)).await.unwrap();
        let reservation = inventory.reservation(&call(), order(id)).await.unwrap();
        assert_eq!(reservation.status, ReservationStatus::Released);
    }
    assert_eq!(all_levels(&inventory).await, before);
    check_books(&db).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn sqlite_answers_as_the_fake_and_returns_to_the_start(steps in steps()) {
        db::testing::run(run(Backend::Sqlite, &steps));
    }
}

proptest! {
    // Each case takes a database of its own, which PostgreSQL makes slowly.
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn postgres_answers_as_the_fake_and_returns_to_the_start(steps in steps()) {
        db::testing::run(run(Backend::Postgres, &steps));
    }
}
