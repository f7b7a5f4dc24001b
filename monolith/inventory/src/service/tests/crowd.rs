//! Many callers at once.
//!
//! Invariant: whatever they do, no call fails for another reason than those that the port names, and the books balance.

use db::DatabaseSettings;
use tokio::task::JoinSet;

use super::*;

/// Callers that run beside each other, on as many connections as a busy process has.
fn crowd(backend: Backend) -> Fixture {
    let Fixture { db, .. } = fixture(backend);
    let settings = DatabaseSettings { connections: 16, ..db.settings().clone() };
    Fixture { inventory: service(Db::open(&settings).unwrap()), db }
}

/// Calls the port once for each number, all at once, and returns what came of it.
async fn all<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    inventory: &InventoryService,
    numbers: impl Iterator<Item = i64>,
    work: impl Fn(InventoryService, i64) -> F,
) -> Vec<T> {
    let tasks: JoinSet<T> = numbers.map(|number| work(inventory.clone(), number)).collect();
    tasks.join_all().await
}

async fn buyers_at_once_get_every_unit_and_no_more(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[7], &[0], &[13]]).await;
    let answers = all(&inventory, 1..=60, |inventory, number| async move {
        inventory.reserve(&call(), wish(number, &[(1, 1)])).await
    });
    let (granted, refused): (Vec<_>, Vec<_>) = answers.await.into_iter().partition(Result::is_ok);
    assert_eq!(granted.len(), 20);
    let empty = InventoryError::OutOfStock { product_id: product(1), wanted: 1, available: 0 };
    assert!(refused.into_iter().all(|answer| answer == Err(empty.clone())));
    assert_eq!(levels(&inventory, 1).await, [(7, 7), (13, 13)]);
    check_books(&db).await;
}

async fn orders_with_the_same_products_do_not_lock_each_other_out(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[9, 20, 3, 11], &[9, 1, 30, 11]]).await;
    let answers = all(&inventory, 1..=80, |inventory, number| async move {
        // In every order of the products, and more of them than there is.
        let lines: Vec<_> = (0..3).map(|line| ((number * (line + 1) + line) % 4 + 1, 2)).collect();
        let reserved = inventory.reserve(&call(), wish(number, &lines)).await;
        let Ok(_) = reserved else { return reserved.map(drop) };
        match number % 4 {
            0 => inventory.release(&call(), order(number)).await,
            1 => inventory.confirm(&call(), order(number)).await.map(drop),
            _ => Ok(()),
        }
    });
    for answer in answers.await {
        assert!(matches!(answer, Ok(()) | Err(InventoryError::OutOfStock { .. })), "{answer:?}");
    }
    check_books(&db).await;
}

async fn a_release_that_meets_its_reservation_leaves_nothing_promised(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[50], &[50]]).await;
    let answers = all(&inventory, 0..60, |inventory, number| async move {
        let order_id = number / 3 + 1;
        match number % 3 {
            0 => inventory.reserve(&call(), wish(order_id, &[(1, 3)])).await.map(drop),
            1 => inventory.confirm(&call(), order(order_id)).await.map(drop),
            _ => inventory.release(&call(), order(order_id)).await,
        }
    });
    for answer in answers.await {
        let undone = matches!(
            answer,
            Ok(()) | Err(InventoryError::Released { .. } | InventoryError::NoReservation { .. })
        );
        assert!(undone, "{answer:?}");
    }
    assert_eq!(levels(&inventory, 1).await, [(50, 0), (50, 0)]);
    check_books(&db).await;
}

async fn an_order_that_reserves_from_many_sides_has_one_reservation(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[50]]).await;
    let answers = all(&inventory, 0..20, |inventory, _| async move {
        inventory.reserve(&call(), wish(1, &[(1, 3)])).await.map(|reservation| reservation.lines.len())
    });
    assert_eq!(answers.await, [const { Ok(1) }; 20]);
    assert_eq!(levels(&inventory, 1).await, [(50, 3)]);
    check_books(&db).await;
}

async fn sweepers_at_once_count_each_expiry_once(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[50]]).await;
    for number in 1..=20 {
        inventory.reserve(&call(), wish(number, &[(1, 2)])).await.unwrap();
    }
    let answers =
        all(&inventory, 0..4, |inventory, _| async move { inventory.expire(&call(), 100).await.unwrap() });
    assert_eq!(answers.await.into_iter().sum::<u64>(), 20);
    assert_eq!(levels(&inventory, 1).await, [(50, 0)]);
    check_books(&db).await;
}

async fn opening_stock_from_many_sides_comes_once(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    let answers = all(&inventory, 0..8, |inventory, _| async move {
        let products = (1..=20).rev().map(product).collect();
        inventory.ensure_stock(&call(), products, 10).await.unwrap()
    });
    assert_eq!(answers.await.into_iter().sum::<u64>(), 20);
    assert_eq!(inventory.warehouses(&call(), None, 9).await.unwrap().items.len(), 1);
    check_books(&db).await;
}

async fn adjustments_at_once_add_up(fixture: Fixture) {
    let Fixture { db, inventory } = fixture;
    fill(&inventory, &[&[5]]).await;
    let warehouse_id = inventory.stock(&call(), product(1)).await.unwrap()[0].warehouse_id;
    let answers = all(&inventory, 1..=40, |inventory, number| async move {
        let (delta, reason) = (if number % 2 == 0 { 3 } else { -2 }, "count".to_owned());
        inventory.adjust(&call(), Adjustment { warehouse_id, product_id: product(1), delta, reason }).await
    });
    for answer in answers.await {
        assert!(matches!(answer, Ok(_) | Err(InventoryError::Impossible { .. })), "{answer:?}");
    }
    check_books(&db).await;
}

db::on_both!(crowd => [
    a_release_that_meets_its_reservation_leaves_nothing_promised,
    adjustments_at_once_add_up,
    an_order_that_reserves_from_many_sides_has_one_reservation,
    buyers_at_once_get_every_unit_and_no_more,
    opening_stock_from_many_sides_comes_once,
    orders_with_the_same_products_do_not_lock_each_other_out,
    sweepers_at_once_count_each_expiry_once,
]);
