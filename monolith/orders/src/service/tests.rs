//! The port's suite on both databases, and what only this service can show.

use contracts::cart::{Cart, PutItem};
use contracts::catalog::CatalogError;
use contracts::events::{DomainEvent, Envelope};
use contracts::payments::{Authorise, Payment, PaymentMethod, PaymentsError};
use contracts::suite::orders::OrdersFixture;
use contracts::suite::{
    FakeCarts, FakeCatalog, FakeInventory, FakePayments, FakeShipping, FakeUsers, GOOD_TOKEN, call,
    call_with_key, method, mug, person,
};
use contracts::{FixedClock, ProductId, Unavailable};
use db::testing::{Scratch, scratch};
use db::{Backend, events, saga};

use super::*;
use crate::SCHEMA;

const NOW: Timestamp = Timestamp::from_millis(1_291_191_960_000);

/// An orders context on a database of its own, and fakes of all others. Its consumers hear nothing unless a test tells them.
pub(crate) struct Side {
    pub(crate) service: OrdersService,
    pub(crate) db: Scratch,
    pub(crate) inventory: Arc<FakeInventory>,
    pub(crate) payments: Arc<FakePayments>,
    pub(crate) shipping: Arc<FakeShipping>,
    users: Arc<FakeUsers>,
    catalog: Arc<FakeCatalog>,
    carts: Arc<FakeCarts>,
}

pub(crate) fn side(backend: Backend) -> Side {
    side_on(scratch(backend, &[idempotency::SCHEMA, events::SCHEMA, saga::SCHEMA, SCHEMA]))
}

pub(crate) fn side_on(db: Scratch) -> Side {
    let outbox = Outbox::new(&[(OrderCancelled::KIND, "test"), (CartCheckedOut::KIND, "test")]);
    let (users, catalog) = (Arc::<FakeUsers>::default(), Arc::<FakeCatalog>::default());
    let carts = Arc::new(FakeCarts::new(users.clone(), catalog.clone()));
    let payments = Arc::<FakePayments>::default();
    let service = OrdersService::new(
        db.clone(),
        Arc::new(FixedClock(NOW)),
        outbox,
        users.clone(),
        catalog.clone(),
        carts.clone(),
        payments.clone(),
    );
    let (inventory, shipping) = (Arc::default(), Arc::default());
    Side { service, db, inventory, payments, shipping, users, catalog, carts }
}

impl Side {
    /// A user, and a product that costs £2.55.
    pub(crate) async fn user_and_product(&self) -> (UserId, ProductId) {
        let user = self.users.create(&call(), person("ann", "ann@example.com")).await.unwrap();
        (user.id, self.catalog.create(&call(), mug("cup")).await.unwrap().id)
    }

    /// An order of two cups.
    pub(crate) async fn placed(&self, payment_method: PaymentMethod) -> Order {
        let (user_id, product_id) = self.user_and_product().await;
        let wish = PlaceOrder { user_id, lines: vec![(product_id, 2)], payment_method, ship_to: None };
        self.service.place(&call(), wish).await.unwrap()
    }

    async fn cart(&self) -> Cart {
        let (user_id, product_id) = self.user_and_product().await;
        let cart = self.carts.open(&call(), Some(user_id)).await.unwrap();
        self.carts.add(&call(), cart.id, PutItem { product_id, quantity: 2 }, None).await.unwrap()
    }

    pub(crate) async fn order(&self, id: OrderId) -> Order {
        self.service.get(&call(), id).await.unwrap()
    }

    /// The statuses of an order's history, each with its note.
    pub(crate) async fn history(&self, id: OrderId) -> Vec<(OrderStatus, Option<String>)> {
        let page = self.service.history(&call(), id, None, 99).await.unwrap();
        page.items.into_iter().map(|entry| (entry.status, entry.note)).collect()
    }

    /// What waits in the outbox: kind and payload.
    pub(crate) async fn published(&self) -> Vec<(String, String)> {
        let all = events::EventFilter { consumer: None, which: events::Which::All, after: None, limit: 99 };
        let waiting = self.db.read(move |conn| events::list(conn, &all)).await.unwrap();
        waiting.into_iter().map(|event| (event.kind, event.payload.to_string())).collect()
    }

    pub(crate) async fn checkout(&self, id: OrderId) -> saga::SagaView {
        let key = id.to_string();
        self.db.read(move |conn| saga::find(conn, "checkout", &key)).await.unwrap().unwrap()
    }

    /// Another process on the same database.
    pub(crate) fn other_process(&self) -> OrdersService {
        let db = Db::open(self.db.settings()).unwrap();
        OrdersService { db, ..self.service.clone() }
    }
}

impl OrdersFixture for Side {
    fn orders(&self) -> &dyn Orders {
        &self.service
    }

    fn users(&self) -> &dyn Users {
        &*self.users
    }

    fn catalog(&self) -> &dyn Catalog {
        &*self.catalog
    }

    fn carts(&self) -> &dyn Carts {
        &*self.carts
    }
}

/// An event on its way to the context.
pub(crate) fn envelope<E: DomainEvent>(id: &str, event: &E) -> Envelope {
    Envelope {
        id: id.to_owned(),
        kind: E::KIND.to_owned(),
        aggregate: event.aggregate(),
        payload: serde_json::to_value(event).unwrap(),
        request_id: "test".to_owned(),
        traceparent: None,
        occurred_at: NOW,
    }
}

mod on_sqlite {
    async fn fixture() -> super::Side {
        super::side(db::Backend::Sqlite)
    }
    contracts::orders_suite!(fixture);
}

mod on_postgres {
    async fn fixture() -> super::Side {
        super::side(db::Backend::Postgres)
    }
    contracts::orders_suite!(fixture);
}

db::on_both!(side => [
    a_cart_that_is_checked_out_by_many_at_once_becomes_one_order,
    a_command_under_one_key_by_many_at_once_is_done_once,
    a_confirmed_order_that_is_called_off_tells_it_once,
    a_placed_order_has_its_checkout_and_its_cart_hears_of_it,
    a_token_without_a_provider_is_refused_at_once,
]);

async fn a_placed_order_has_its_checkout_and_its_cart_hears_of_it(side: Side) {
    let cart = side.cart().await;
    let check_out = CheckOut {
        cart_id: cart.id.clone(),
        payment_method: method(GOOD_TOKEN),
        ship_to: None,
        expected_total: None,
    };
    let order = side.service.check_out(&call(), check_out).await.unwrap();
    let saga = side.checkout(order.id).await;
    assert_eq!((saga.phase, saga.position), (saga::Phase::Running, 1));
    assert_eq!(saga.request_id, call().request_id.0);
    let items = order.lines.iter().map(|line| (line.product_id, line.quantity)).collect();
    let heard = CartCheckedOut { cart_id: cart.id, order_id: order.id, items };
    let payload = serde_json::to_value(heard).unwrap().to_string();
    assert_eq!(side.published().await, [(CartCheckedOut::KIND.to_owned(), payload)]);
}

async fn a_cart_that_is_checked_out_by_many_at_once_becomes_one_order(side: Side) {
    let cart = side.cart().await;
    let other = side.other_process();
    let at_once = (0..8).map(|number| {
        let service = if number % 2 == 0 { side.service.clone() } else { other.clone() };
        let ctx = if number < 4 { call() } else { call_with_key(&number.to_string(), "check out") };
        let (cart_id, payment_method) = (cart.id.clone(), PaymentMethod::account());
        let check_out = CheckOut { cart_id, payment_method, ship_to: None, expected_total: None };
        tokio::spawn(async move { service.check_out(&ctx, check_out).await.unwrap() })
    });
    let mut orders = Vec::new();
    for handle in at_once.collect::<Vec<_>>() {
        orders.push(handle.await.unwrap());
    }
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
    let listed = side.service.list(&call(), orders[0].user_id, None, 9).await.unwrap();
    assert_eq!(listed.items, [orders[0].clone()]);
    assert_eq!(side.published().await.len(), 1);
}

async fn a_command_under_one_key_by_many_at_once_is_done_once(side: Side) {
    let (user_id, product_id) = side.user_and_product().await;
    let other = side.other_process();
    let at_once = (0..8).map(|number| {
        let service = if number % 2 == 0 { side.service.clone() } else { other.clone() };
        let payment_method = PaymentMethod::account();
        let wish = PlaceOrder { user_id, lines: vec![(product_id, 1)], payment_method, ship_to: None };
        tokio::spawn(async move { service.place(&call_with_key("k", "one"), wish).await.unwrap() })
    });
    for handle in at_once.collect::<Vec<_>>() {
        handle.await.unwrap();
    }
    assert_eq!(side.service.list(&call(), user_id, None, 9).await.unwrap().items.len(), 1);
}

async fn a_confirmed_order_that_is_called_off_tells_it_once(side: Side) {
    let order = side.placed(PaymentMethod::account()).await;
    side.service.tell(&call(), order.id, Command::Confirm).await.unwrap();
    let other = side.other_process();
    let at_once: Vec<_> = (0..16)
        .map(|number| if number % 2 == 0 { side.service.clone() } else { other.clone() })
        .map(|service| tokio::spawn(async move { service.cancel(&call(), order.id).await.unwrap() }))
        .collect();
    for handle in at_once {
        assert_eq!(handle.await.unwrap().status, OrderStatus::Cancelling);
    }
    let payload = serde_json::to_value(OrderCancelled { order_id: order.id }).unwrap().to_string();
    assert_eq!(side.published().await, [(OrderCancelled::KIND.to_owned(), payload)]);
    let statuses = [OrderStatus::Pending, OrderStatus::Confirmed, OrderStatus::Cancelling];
    assert_eq!(side.history(order.id).await, statuses.map(|status| (status, None)));
}

/// A payments context that knows no provider, and nothing else either.
struct NoProvider;

#[async_trait]
impl Payments for NoProvider {
    async fn accepts(&self, _: &CallContext, method: PaymentMethod) -> Result<(), PaymentsError> {
        if method.is_account() { Ok(()) } else { Err(PaymentsError::NoProvider) }
    }

    async fn authorise(&self, _: &CallContext, _: Authorise) -> Result<Payment, PaymentsError> {
        Err(PaymentsError::NoProvider)
    }

    async fn capture(&self, _: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError> {
        Err(PaymentsError::NotFound { order_id })
    }

    async fn refund(&self, _: &CallContext, _: OrderId) -> Result<(), PaymentsError> {
        Ok(())
    }

    async fn payment(&self, _: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError> {
        Err(PaymentsError::NotFound { order_id })
    }
}

async fn a_token_without_a_provider_is_refused_at_once(side: Side) {
    let service = OrdersService { payments: Arc::new(NoProvider), ..side.service.clone() };
    let (user_id, product_id) = side.user_and_product().await;
    let wish =
        |payment_method| PlaceOrder { user_id, lines: vec![(product_id, 1)], payment_method, ship_to: None };
    let refused = service.place(&call(), wish(method(GOOD_TOKEN))).await;
    assert_eq!(refused, Err(OrdersError::NoPaymentProvider));
    assert_eq!(service.list(&call(), user_id, None, 9).await.unwrap().items, []);
    service.place(&call(), wish(PaymentMethod::account())).await.unwrap();
}

#[test]
fn what_cannot_be_asked_makes_a_command_unavailable_with_nothing_done() {
    let asleep = |context: &str| Unavailable {
        context: context.to_owned(),
        reason: "it sleeps".to_owned(),
        maybe_done: true,
    };
    let errors = [
        refusals::of_users(contracts::users::UsersError::Unavailable(asleep("users"))),
        refusals::of_catalog(CatalogError::Unavailable(asleep("catalog"))),
        refusals::of_carts(CartError::Unavailable(asleep("cart"))),
        refusals::of_payments(PaymentsError::Unavailable(asleep("payments"))),
        refusals::of_users(contracts::users::UsersError::NotOwner),
    ];
    for error in errors {
        let OrdersError::Unavailable(unavailable) = error else { panic!("{error:?}") };
        assert!(!unavailable.maybe_done, "{unavailable:?}");
    }
}
