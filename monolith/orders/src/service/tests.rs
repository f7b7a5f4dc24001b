//! The port, over a real database and over users and a catalog that are held in memory.

use std::time::Duration;

use contracts::catalog::{Product, ProductDetails};
use contracts::orders::{OrderLine, OrderStatus};
use contracts::users::{Ensured, User, UserDetails};
use contracts::{FixedClock, Money, ProductId, Timestamp};
use db::{DatabaseSettings, schema};

use super::*;
use crate::SCHEMA;

const NOW: Timestamp = Timestamp::from_millis(1_291_191_960_000);

/// Knows users 1 to 3; user 4 cannot be asked for.
struct FewUsers;

#[async_trait]
impl Users for FewUsers {
    async fn get(&self, _: &CallContext, id: UserId) -> Result<User, UsersError> {
        match id.get() {
            1..=3 => Ok(User {
                id,
                details: UserDetails {
                    name: "Ann".to_owned(),
                    email: format!("{id}@example.com"),
                    phone: None,
                    addresses: Vec::new(),
                },
                created_at: NOW,
                updated_at: NOW,
                version: 1,
            }),
            4 => {
                let reason = "it sleeps".to_owned();
                Err(Unavailable { context: "users".to_owned(), reason, maybe_done: true }.into())
            }
            _ => Err(UsersError::NotFound { id }),
        }
    }

    async fn create(&self, _: &CallContext, _: UserDetails) -> Result<User, UsersError> {
        Err(UsersError::NotOwner)
    }

    async fn update(&self, _: &CallContext, _: UserId, _: UserDetails) -> Result<User, UsersError> {
        Err(UsersError::NotOwner)
    }

    async fn delete(&self, _: &CallContext, _: UserId) -> Result<i64, UsersError> {
        Err(UsersError::NotOwner)
    }

    async fn list(&self, _: &CallContext, _: Option<UserId>, _: u32) -> Result<Page<User>, UsersError> {
        Err(UsersError::NotOwner)
    }

    async fn ensure(&self, _: &CallContext, _: Vec<UserDetails>) -> Result<Vec<Ensured<UserId>>, UsersError> {
        Err(UsersError::NotOwner)
    }
}

/// Knows products 1 to 9; number n costs n pounds.
struct NinePounds;

#[async_trait]
impl Catalog for NinePounds {
    async fn get_many(&self, _: &CallContext, ids: Vec<ProductId>) -> Result<Vec<Product>, CatalogError> {
        let known = ids.into_iter().filter(|id| id.get() <= 9);
        Ok(known
            .map(|id| Product {
                id,
                details: ProductDetails {
                    sku: id.to_string(),
                    name: "Mug".to_owned(),
                    price: Money::gbp(id.get() * 100),
                },
                created_at: NOW,
                updated_at: NOW,
            })
            .collect())
    }

    async fn get(&self, _: &CallContext, id: ProductId) -> Result<Product, CatalogError> {
        Err(CatalogError::NotFound { id })
    }

    async fn create(&self, _: &CallContext, details: ProductDetails) -> Result<Product, CatalogError> {
        Err(CatalogError::SkuTaken { sku: details.sku })
    }

    async fn update(
        &self,
        _: &CallContext,
        id: ProductId,
        _: ProductDetails,
    ) -> Result<Product, CatalogError> {
        Err(CatalogError::NotFound { id })
    }

    async fn delete(&self, _: &CallContext, id: ProductId) -> Result<(), CatalogError> {
        Err(CatalogError::NotFound { id })
    }

    async fn list(
        &self,
        _: &CallContext,
        _: Option<ProductId>,
        _: u32,
    ) -> Result<Page<Product>, CatalogError> {
        Ok(Page { items: Vec::new(), more: false })
    }

    async fn ensure(
        &self,
        _: &CallContext,
        _: Vec<ProductDetails>,
    ) -> Result<Vec<Ensured<ProductId>>, CatalogError> {
        Ok(Vec::new())
    }
}

struct Fixture {
    _folder: tempfile::TempDir,
    orders: OrdersService,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("monolith.db");
    let db = Db::open(&DatabaseSettings { path, readers: 1, ..DatabaseSettings::default() }).unwrap();
    schema::apply(&db, &[SCHEMA]).unwrap();
    let clock = Arc::new(FixedClock(NOW));
    Fixture {
        orders: OrdersService::new(db, clock, Arc::new(FewUsers), Arc::new(NinePounds)),
        _folder: folder,
    }
}

fn call() -> CallContext {
    CallContext::new("test", Duration::from_secs(60))
}

fn user(id: i64) -> UserId {
    UserId::try_from(id).unwrap()
}

fn product(id: i64) -> ProductId {
    ProductId::try_from(id).unwrap()
}

fn wish(user_id: i64, lines: &[(i64, u32)]) -> PlaceOrder {
    let lines = lines.iter().map(|(id, quantity)| (product(*id), *quantity)).collect();
    PlaceOrder { user_id: user(user_id), lines }
}

fn invoice(reference: &str, quantity: u32) -> ImportOrder {
    ImportOrder {
        reference: reference.to_owned(),
        user_id: user(77),
        kind: OrderKind::Sale,
        lines: vec![
            OrderLine { product_id: product(5), quantity, unit_price: Money::gbp(255) },
            OrderLine { product_id: product(5), quantity: 1, unit_price: Money::gbp(199) },
        ],
        placed_at: Timestamp::from_millis(1_000),
    }
}

#[tokio::test]
async fn a_placed_order_keeps_the_prices_of_the_moment() {
    let fixture = fixture();
    let order = fixture.orders.place(&call(), wish(1, &[(3, 2), (1, 1), (3, 1)])).await.unwrap();
    assert_eq!(order.total, Money::gbp(1000));
    assert_eq!((order.kind, order.status), (OrderKind::Sale, OrderStatus::Placed));
    assert_eq!((order.placed_at, order.cancelled_at), (NOW, None));
    let prices: Vec<(i64, u32, i64)> = order
        .lines
        .iter()
        .map(|line| (line.product_id.get(), line.quantity, line.unit_price.minor))
        .collect();
    assert_eq!(prices, [(3, 2, 300), (1, 1, 100), (3, 1, 300)]);
    assert_eq!(fixture.orders.get(&call(), order.id).await, Ok(order));
}

#[tokio::test]
async fn an_order_of_a_user_or_product_that_is_not_there_is_refused_and_not_stored() {
    let fixture = fixture();
    let no_user = fixture.orders.place(&call(), wish(9, &[(1, 1)])).await;
    assert_eq!(no_user, Err(OrdersError::NoSuchUser { id: user(9) }));
    let no_product = fixture.orders.place(&call(), wish(1, &[(1, 1), (10, 1)])).await;
    assert_eq!(no_product, Err(OrdersError::NoSuchProduct { id: product(10), line: 1 }));
    assert_eq!(fixture.orders.list(&call(), user(1), None, 9).await.unwrap().items, []);
}

#[tokio::test]
async fn users_that_cannot_be_asked_make_placing_unavailable_with_nothing_done() {
    let fixture = fixture();
    let refused = fixture.orders.place(&call(), wish(4, &[(1, 1)])).await;
    let Err(OrdersError::Unavailable(unavailable)) = refused else { panic!("{refused:?}") };
    assert_eq!((unavailable.context.as_str(), unavailable.maybe_done), ("users", false));
}

#[tokio::test]
async fn cancelling_twice_succeeds_and_an_unknown_order_is_not_found() {
    let fixture = fixture();
    let order = fixture.orders.place(&call(), wish(1, &[(1, 1)])).await.unwrap();
    let cancelled = fixture.orders.cancel(&call(), order.id).await.unwrap();
    assert_eq!((cancelled.status, cancelled.cancelled_at), (OrderStatus::Cancelled, Some(NOW)));
    assert_eq!(fixture.orders.cancel(&call(), order.id).await, Ok(cancelled));
    let id = OrderId::try_from(99).unwrap();
    assert_eq!(fixture.orders.cancel(&call(), id).await, Err(OrdersError::NotFound { id }));
}

#[tokio::test]
async fn a_listing_holds_one_users_orders_page_by_page() {
    let fixture = fixture();
    let mut mine = Vec::new();
    for number in 0..5 {
        mine.push(fixture.orders.place(&call(), wish(1, &[(1, number + 1)])).await.unwrap());
        fixture.orders.place(&call(), wish(2, &[(2, 1)])).await.unwrap();
    }
    let first = fixture.orders.list(&call(), user(1), None, 3).await.unwrap();
    let rest = fixture.orders.list(&call(), user(1), Some(first.items[2].id), 3).await.unwrap();
    assert_eq!((first.more, rest.more), (true, false));
    assert_eq!([first.items, rest.items].concat(), mine);
}

#[tokio::test]
async fn importing_twice_changes_nothing() {
    let fixture = fixture();
    let batch = vec![invoice("536365", 6), invoice("536366", 1)];
    let first = fixture.orders.import(&call(), batch.clone()).await;
    assert_eq!(first, Ok(vec![Imported::Added, Imported::Added]));
    let stored = fixture.orders.list(&call(), user(77), None, 9).await.unwrap();
    assert_eq!(stored.items[0].reference.as_deref(), Some("536365"));
    assert_eq!(stored.items[0].lines, batch[0].lines);
    assert_eq!(stored.items[0].total, Money::gbp(6 * 255 + 199));
    let second = fixture.orders.import(&call(), batch).await;
    assert_eq!(second, Ok(vec![Imported::Unchanged, Imported::Unchanged]));
    assert_eq!(fixture.orders.list(&call(), user(77), None, 9).await.unwrap(), stored);
}

#[tokio::test]
async fn a_document_that_came_with_other_lines_before_is_conflicting_and_left_as_it_was() {
    let fixture = fixture();
    fixture.orders.import(&call(), vec![invoice("536365", 6)]).await.unwrap();
    let stored = fixture.orders.list(&call(), user(77), None, 9).await.unwrap();
    let other_user = ImportOrder { user_id: user(78), ..invoice("536365", 6) };
    let again = vec![invoice("536365", 7), other_user, invoice("536366", 1), invoice("536366", 2)];
    let outcome = fixture.orders.import(&call(), again).await.unwrap();
    use Imported::{Added, Conflicting};
    assert_eq!(outcome, [Conflicting, Conflicting, Added, Conflicting]);
    let left = fixture.orders.get(&call(), stored.items[0].id).await.unwrap();
    assert_eq!(left, stored.items[0]);
}

#[tokio::test]
async fn an_imported_order_that_was_cancelled_since_is_unchanged() {
    let fixture = fixture();
    fixture.orders.import(&call(), vec![invoice("536365", 6)]).await.unwrap();
    let stored = fixture.orders.list(&call(), user(77), None, 9).await.unwrap();
    fixture.orders.cancel(&call(), stored.items[0].id).await.unwrap();
    let again = fixture.orders.import(&call(), vec![invoice("536365", 6)]).await;
    assert_eq!(again, Ok(vec![Imported::Unchanged]));
}

#[tokio::test]
async fn one_order_without_a_total_stores_none_of_its_batch() {
    let fixture = fixture();
    let empty = ImportOrder { lines: Vec::new(), ..invoice("536366", 1) };
    let refused = fixture.orders.import(&call(), vec![invoice("536365", 6), empty]).await;
    assert!(matches!(refused, Err(OrdersError::NoTotal { .. })), "{refused:?}");
    assert_eq!(fixture.orders.list(&call(), user(77), None, 9).await.unwrap().items, []);
}

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
