//! The port's suite on both databases and on the fake, and what only this store can show.

use contracts::suite::cart::CartsFixture;
use contracts::suite::{FakeCarts, FakeCatalog, FakeUsers, call, mug, person};
use contracts::{FixedClock, ProductId};
use db::testing::{Scratch, scratch};
use db::{Backend, schema};

use super::*;
use crate::SCHEMA;

/// A cart context on a database of its own.
pub(crate) struct Side {
    pub(crate) service: Arc<CartService>,
    pub(crate) db: Scratch,
    users: Arc<FakeUsers>,
    catalog: Arc<FakeCatalog>,
}

pub(crate) fn side(backend: Backend) -> Side {
    let db = scratch(backend, &[idempotency::SCHEMA, db::events::SCHEMA, SCHEMA]);
    let clock = Arc::new(FixedClock(Timestamp::from_millis(1_291_191_960_000)));
    let (users, catalog) = (Arc::<FakeUsers>::default(), Arc::<FakeCatalog>::default());
    let service = Arc::new(CartService::new(db.clone(), clock, users.clone(), catalog.clone()));
    Side { service, db, users, catalog }
}

impl Side {
    pub(crate) async fn user(&self, name: &str) -> UserId {
        self.users.create(&call(), person(name, &format!("{name}@example.com"))).await.unwrap().id
    }

    pub(crate) async fn product(&self, sku: &str) -> ProductId {
        self.catalog.create(&call(), mug(sku)).await.unwrap().id
    }
}

impl CartsFixture for Side {
    fn carts(&self) -> &dyn Carts {
        &*self.service
    }

    fn users(&self) -> &dyn Users {
        &*self.users
    }

    fn catalog(&self) -> &dyn Catalog {
        &*self.catalog
    }
}

mod on_sqlite {
    async fn fixture() -> super::Side {
        super::side(db::Backend::Sqlite)
    }
    contracts::carts_suite!(fixture);
}

mod on_postgres {
    async fn fixture() -> super::Side {
        super::side(db::Backend::Postgres)
    }
    contracts::carts_suite!(fixture);
}

mod on_the_fake {
    use super::*;

    struct Fake {
        carts: FakeCarts,
        users: Arc<FakeUsers>,
        catalog: Arc<FakeCatalog>,
    }

    impl CartsFixture for Fake {
        fn carts(&self) -> &dyn Carts {
            &self.carts
        }

        fn users(&self) -> &dyn Users {
            &*self.users
        }

        fn catalog(&self) -> &dyn Catalog {
            &*self.catalog
        }
    }

    async fn fixture() -> Fake {
        let (users, catalog) = (Arc::<FakeUsers>::default(), Arc::<FakeCatalog>::default());
        Fake { carts: FakeCarts::new(users.clone(), catalog.clone()), users, catalog }
    }
    contracts::carts_suite!(fixture);
}

/// The users that stand in here are as users are.
mod the_fake_users {
    use contracts::suite::{FakeUsers, UsersFixture};
    use contracts::users::Users;

    struct Fake(FakeUsers);

    impl UsersFixture for Fake {
        fn users(&self) -> &dyn Users {
            &self.0
        }
    }

    async fn fixture() -> Fake {
        Fake(FakeUsers::default())
    }
    contracts::users_suite!(fixture);
}

/// Runs all at once and waits for the last.
async fn together<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = calls.map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.unwrap());
    }
    done
}

async fn a_user_who_opens_at_once_gets_one_cart(side: Side) {
    let ann = side.user("ann").await;
    let opened = together((0..12).map(|_| {
        let carts = Arc::clone(&side.service);
        async move { carts.open(&call(), Some(ann)).await.unwrap() }
    }))
    .await;
    assert!(opened.iter().all(|cart| cart.id == opened[0].id), "{opened:?}");
}

async fn carts_assigned_at_once_end_in_one_with_all_units(side: Side) {
    let (ann, mug) = (side.user("ann").await, side.product("A1").await);
    let mut ids = Vec::new();
    for _ in 0..8 {
        let cart = side.service.open(&call(), None).await.unwrap();
        let one = PutItem { product_id: mug, quantity: 1 };
        ids.push(side.service.add(&call(), cart.id, one, None).await.unwrap().id);
    }
    together(ids.into_iter().map(|id| {
        let carts = Arc::clone(&side.service);
        async move { carts.assign(&call(), id, ann).await.unwrap() }
    }))
    .await;
    let cart = side.service.open(&call(), Some(ann)).await.unwrap();
    assert_eq!(cart.items.iter().map(|item| item.quantity).collect::<Vec<_>>(), [8]);
}

async fn units_added_at_once_are_all_there_and_take_a_version_each(side: Side) {
    let mug = side.product("A1").await;
    let cart = side.service.open(&call(), None).await.unwrap();
    together((0..12).map(|_| {
        let (carts, id) = (Arc::clone(&side.service), cart.id.clone());
        async move {
            let two = PutItem { product_id: mug, quantity: 2 };
            carts.add(&call(), id, two, None).await.unwrap()
        }
    }))
    .await;
    let filled = side.service.get(&call(), cart.id).await.unwrap();
    assert_eq!((filled.items[0].quantity, filled.version), (24, cart.version + 12));
}

async fn of_two_who_saw_the_same_version_one_changes_the_cart(side: Side) {
    let mug = side.product("A1").await;
    let cart = side.service.open(&call(), None).await.unwrap();
    let changed = together((1..=6).map(|quantity| {
        let (carts, id) = (Arc::clone(&side.service), cart.id.clone());
        async move { carts.set(&call(), id, PutItem { product_id: mug, quantity }, Some(1)).await }
    }))
    .await;
    assert_eq!(changed.iter().filter(|changed| changed.is_ok()).count(), 1, "{changed:?}");
}

db::on_both!(side => [
    a_user_who_opens_at_once_gets_one_cart,
    carts_assigned_at_once_end_in_one_with_all_units,
    of_two_who_saw_the_same_version_one_changes_the_cart,
    units_added_at_once_are_all_there_and_take_a_version_each,
]);

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
