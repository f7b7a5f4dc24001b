//! The two tests that every saga has, and what a user meets who buys, and who thinks better of it.

use std::time::{Duration, Instant};

use contracts::SystemClock;
use contracts::events::{DomainEvent, EventHandler};
use contracts::inventory::{Adjustment, Inventory, StockReleased, WarehouseDetails};
use contracts::orders::{CancellationPart, OrderCancelled, OrderStatus};
use contracts::payments::{PaymentRefunded, PaymentStatus};
use contracts::shipping::ShipmentStopped;
use contracts::suite::{DECLINED_TOKEN, GOOD_TOKEN, Mishap, call, method};
use db::Backend;
use db::saga::testing::{
    Fresh, failing_every_step_ends_with_a_clean_slate, running_every_step_twice_is_the_same_as_once,
    stopping_after_every_step_resumes,
};
use db::saga::{ErasedSaga, Phase, SagaRunner, SagaSettings};

use super::*;
use crate::service::tests::{Side, envelope, side};

/// Cups in stock before anybody buys two.
const CUPS: i64 = 5;

/// A shop with cups, and an order of two of them that waits for its checkout.
struct Shop {
    side: Side,
    order: Order,
}

impl Shop {
    async fn open(backend: Backend, cups: i64, payment_method: PaymentMethod) -> Self {
        let side = side(backend);
        let order = side.placed(payment_method).await;
        let (code, name) = ("main".to_owned(), "Main".to_owned());
        let warehouse = side.inventory.add_warehouse(&call(), WarehouseDetails { code, name }).await.unwrap();
        let product_id = order.lines[0].product_id;
        let reason = "delivery".to_owned();
        let adjustment = Adjustment { warehouse_id: warehouse.id, product_id, delta: cups, reason };
        side.inventory.adjust(&call(), adjustment).await.unwrap();
        Self { side, order }
    }

    fn checkout(&self) -> Checkout {
        let Side { service, inventory, payments, shipping, .. } = &self.side;
        Checkout::new(service.clone(), inventory.clone(), payments.clone(), shipping.clone())
    }

    async fn order(&self) -> Order {
        self.side.order(self.order.id).await
    }

    async fn payment(&self) -> Option<PaymentStatus> {
        self.side.payments.payment(&call(), self.order.id).await.ok().map(|payment| payment.status)
    }

    /// Runs the checkout to its end.
    async fn run(&self) -> Phase {
        self.run_as(Arc::new(self.checkout())).await
    }

    async fn run_as(&self, saga: Arc<dyn ErasedSaga>) -> Phase {
        let settings = SagaSettings {
            poll: Duration::from_millis(5),
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
            max_attempts: 3,
            ..SagaSettings::default()
        };
        let runner = SagaRunner::spawn(self.side.db.clone(), vec![saga], Arc::new(SystemClock), settings);
        let deadline = Instant::now() + Duration::from_secs(30);
        let ended = loop {
            let checkout = self.side.checkout(self.order.id).await;
            if checkout.phase.is_end() {
                break checkout.phase;
            }
            assert!(Instant::now() < deadline, "the checkout does not end: {checkout:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        runner.stop().await;
        ended
    }

    /// What the others do, and answer, if they were told that the order was called off.
    async fn answer_cancellation(&self) {
        let order_id = self.order.id;
        if !self.side.published().await.iter().any(|(kind, _)| kind == OrderCancelled::KIND) {
            return;
        }
        let Side { service, inventory, payments, shipping, .. } = &self.side;
        inventory.release(&call(), order_id).await.unwrap();
        payments.refund(&call(), order_id).await.unwrap();
        shipping.stop(&call(), order_id).await.unwrap();
        for answer in [
            envelope("stock", &StockReleased { order_id }),
            envelope("payment", &PaymentRefunded { order_id }),
            envelope("shipment", &ShipmentStopped { order_id }),
        ] {
            service.handle(&call(), &answer).await.unwrap();
        }
    }

    async fn expect_sold(&self) {
        let order = self.order().await;
        assert_eq!((order.status, order.cancellation), (OrderStatus::Confirmed, None));
        assert_eq!(self.side.inventory.units(), (CUPS - 2, 0));
        assert_eq!(self.payment().await, Some(PaymentStatus::Captured));
        assert_eq!(self.side.shipping.under_way(), [self.order.id]);
        self.expect_no_token().await;
    }

    /// Nothing is held, taken or sent, and the order says so.
    async fn expect_clean(&self) {
        self.answer_cancellation().await;
        let order = self.order().await;
        match order.status {
            OrderStatus::Rejected => assert!(order.rejected_because.is_some(), "{order:?}"),
            OrderStatus::Cancelled => {
                let parts = order.cancellation.clone().unwrap();
                let all = [parts.stock, parts.payment, parts.shipment];
                assert_eq!(all, [CancellationPart::Done, CancellationPart::Done, CancellationPart::Done]);
            }
            _ => panic!("the order has not ended: {order:?}"),
        }
        assert_eq!(self.side.inventory.units(), (CUPS, 0));
        assert!(
            matches!(self.payment().await, None | Some(PaymentStatus::Refunded | PaymentStatus::Declined)),
            "{:?}",
            self.payment().await
        );
        assert_eq!(self.side.shipping.under_way(), []);
        self.expect_no_token().await;
    }

    async fn expect_no_token(&self) {
        let state = self.side.checkout(self.order.id).await.state;
        assert!(!state.to_string().contains(GOOD_TOKEN), "{state}");
    }

    async fn expect_rejected(&self, reason: &str) {
        assert_eq!(self.run().await, Phase::Undone);
        let order = self.order().await;
        assert_eq!((order.status, order.rejected_because.as_deref()), (OrderStatus::Rejected, Some(reason)));
        let steps = [(OrderStatus::Pending, None), (OrderStatus::Rejected, Some(reason.to_owned()))];
        assert_eq!(self.side.history(order.id).await, steps);
        self.expect_clean().await;
    }
}

async fn fresh(backend: Backend) -> Fresh<Checkout, Shop> {
    let shop = Shop::open(backend, CUPS, method(GOOD_TOKEN)).await;
    Fresh { db: shop.side.db.clone(), saga: shop.checkout(), world: shop }
}

async fn a_failure_of_any_step_ends_with_a_clean_slate(backend: Backend) {
    failing_every_step_ends_with_a_clean_slate(
        async || fresh(backend).await,
        async |shop: &Shop| shop.expect_clean().await,
    )
    .await;
}

async fn every_step_may_run_twice(backend: Backend) {
    running_every_step_twice_is_the_same_as_once(
        async || fresh(backend).await,
        async |shop: &Shop| shop.expect_sold().await,
        async |shop: &Shop| shop.expect_clean().await,
    )
    .await;
}

async fn a_checkout_goes_on_where_its_runner_died(backend: Backend) {
    stopping_after_every_step_resumes(
        async || fresh(backend).await,
        async |shop: &Shop| shop.expect_sold().await,
        async |shop: &Shop| shop.expect_clean().await,
    )
    .await;
}

async fn a_declined_payment_rejects_the_order_and_its_stock_is_back(backend: Backend) {
    let shop = Shop::open(backend, CUPS, method(DECLINED_TOKEN)).await;
    shop.expect_rejected("the payment was declined: declined").await;
}

async fn an_order_of_more_than_there_is_is_rejected_with_the_product_named(backend: Backend) {
    let shop = Shop::open(backend, 1, method(GOOD_TOKEN)).await;
    assert_eq!(shop.run().await, Phase::Undone);
    let product = shop.order.lines[0].product_id;
    let reason = format!("product {product} is out of stock: 2 units are wanted and 1 are free");
    assert_eq!(shop.order().await.rejected_because, Some(reason));
    assert_eq!((shop.side.inventory.units(), shop.payment().await), ((1, 0), None));
}

async fn a_context_that_stays_silent_rejects_the_order_without_saying_more(backend: Backend) {
    let shop = Shop::open(backend, CUPS, method(GOOD_TOKEN)).await;
    for _ in 0..3 {
        shop.side.inventory.befall("reserve", Mishap::Unanswered);
    }
    shop.expect_rejected(TOO_LATE).await;
}

async fn steps_that_were_done_without_an_answer_are_not_done_again(backend: Backend) {
    let shop = Shop::open(backend, CUPS, method(GOOD_TOKEN)).await;
    shop.side.inventory.befall("reserve", Mishap::Unanswered);
    shop.side.inventory.befall("confirm", Mishap::Unanswered);
    shop.side.payments.befall(Mishap::Unanswered);
    shop.side.shipping.befall("schedule", Mishap::Unanswered);
    assert_eq!(shop.run().await, Phase::Done);
    shop.expect_sold().await;
}

async fn an_order_on_account_is_confirmed(backend: Backend) {
    let shop = Shop::open(backend, CUPS, PaymentMethod::account()).await;
    assert_eq!(shop.run().await, Phase::Done);
    shop.expect_sold().await;
    let steps = [(OrderStatus::Pending, None), (OrderStatus::Confirmed, None)];
    assert_eq!(shop.side.history(shop.order.id).await, steps);
}

async fn an_order_called_off_before_its_checkout_began_ends_with_nothing_owed(backend: Backend) {
    let shop = Shop::open(backend, CUPS, method(GOOD_TOKEN)).await;
    shop.side.service.cancel(&call(), shop.order.id).await.unwrap();
    assert_eq!(shop.run().await, Phase::Undone);
    shop.expect_clean().await;
    assert_eq!(shop.order().await.status, OrderStatus::Cancelled);
    assert_eq!(shop.side.inventory.calls("reserve"), 0);
    assert_eq!(shop.side.published().await, []);
}

async fn a_step_that_arrives_after_its_undo_is_refused(backend: Backend) {
    let shop = Shop::open(backend, CUPS, method(GOOD_TOKEN)).await;
    let checkout = shop.checkout();
    let late = State { order_id: shop.order.id, payment_method: Some(method(GOOD_TOKEN)), refusal: None };
    let mut state = late.clone();
    for step in checkout.steps().iter().rev() {
        checkout.undo(step, &call(), &mut state).await.unwrap();
    }
    for step in checkout.steps().iter().skip(1) {
        let arrived = checkout.run(step, &call(), &mut late.clone()).await;
        assert!(arrived.is_err(), "{step} was done after it was undone");
    }
    let order = shop.order().await;
    assert_eq!(order.rejected_because.as_deref(), Some(TOO_LATE));
    assert_eq!((shop.side.inventory.units(), shop.payment().await), ((CUPS, 0), None));
    assert_eq!(shop.side.shipping.under_way(), []);
}

async fn a_confirmation_that_arrives_amid_the_undoing_is_taken_back(backend: Backend) {
    let shop = Shop::open(backend, CUPS, method(GOOD_TOKEN)).await;
    let checkout = shop.checkout();
    let (id, mut state) =
        (shop.order.id, State { order_id: shop.order.id, payment_method: None, refusal: None });
    for step in checkout.steps().iter().rev() {
        checkout.undo(step, &call(), &mut state).await.unwrap();
        if *step == CONFIRM_ORDER {
            shop.side.service.tell(&call(), id, Command::Confirm).await.unwrap();
        }
    }
    assert_eq!(shop.order().await.status, OrderStatus::Cancelling);
    shop.answer_cancellation().await;
    assert_eq!(shop.order().await.status, OrderStatus::Cancelled);
    assert_eq!((shop.side.inventory.units(), shop.payment().await), ((CUPS, 0), None));
}

async fn what_was_confirmed_and_cannot_be_kept_is_called_off_with_the_reason(backend: Backend) {
    let shop = Shop::open(backend, CUPS, method(GOOD_TOKEN)).await;
    shop.side.shipping.befall("schedule", Mishap::Refused);
    assert_eq!(shop.run().await, Phase::Undone);
    let reason = Some("its shipment was stopped".to_owned());
    assert_eq!(shop.side.history(shop.order.id).await.last(), Some(&(OrderStatus::Cancelling, reason)));
    shop.expect_clean().await;
    assert_eq!(shop.order().await.status, OrderStatus::Cancelled);
}

/// A checkout whose order is called off by its user at one of its steps.
struct CalledOff {
    checkout: Checkout,
    shop: Arc<Shop>,
    when: When,
}

#[derive(Debug, Clone, Copy)]
struct When {
    step: &'static str,
    /// Before the step, or after it.
    is_before: bool,
    /// Whether the others answer at once, or when the checkout is over.
    is_heard_at_once: bool,
}

impl CalledOff {
    async fn call_off(&self, step: &str, is_before: bool) {
        if (step, is_before) != (self.when.step, self.when.is_before) {
            return;
        }
        self.shop.side.service.cancel(&call(), self.shop.order.id).await.unwrap();
        if self.when.is_heard_at_once {
            self.shop.answer_cancellation().await;
        }
    }
}

#[async_trait]
impl Saga for CalledOff {
    const KIND: &'static str = Checkout::KIND;
    type State = State;

    fn steps(&self) -> &'static [&'static str] {
        self.checkout.steps()
    }

    async fn run(&self, step: &str, ctx: &CallContext, state: &mut State) -> Result<(), StepError> {
        self.call_off(step, true).await;
        self.checkout.run(step, ctx, state).await?;
        self.call_off(step, false).await;
        Ok(())
    }

    async fn undo(&self, step: &str, ctx: &CallContext, state: &mut State) -> Result<(), StepError> {
        self.checkout.undo(step, ctx, state).await
    }
}

async fn calling_off_at_any_step_ends_with_a_clean_slate(backend: Backend) {
    for step in [RESERVE_STOCK, AUTHORISE_PAYMENT, CONFIRM_ORDER, CAPTURE_PAYMENT, SCHEDULE_SHIPPING] {
        for (is_before, is_heard_at_once) in [(true, true), (true, false), (false, true), (false, false)] {
            let shop = Arc::new(Shop::open(backend, CUPS, method(GOOD_TOKEN)).await);
            let when = When { step, is_before, is_heard_at_once };
            let saga = CalledOff { checkout: shop.checkout(), shop: Arc::clone(&shop), when };
            shop.run_as(Arc::new(saga)).await;
            shop.expect_clean().await;
            assert_eq!(shop.order().await.status, OrderStatus::Cancelled, "{when:?}");
        }
    }
}

fn backend(backend: Backend) -> Backend {
    backend
}

db::on_both!(backend => [
    a_checkout_goes_on_where_its_runner_died,
    a_confirmation_that_arrives_amid_the_undoing_is_taken_back,
    a_context_that_stays_silent_rejects_the_order_without_saying_more,
    a_declined_payment_rejects_the_order_and_its_stock_is_back,
    a_failure_of_any_step_ends_with_a_clean_slate,
    a_step_that_arrives_after_its_undo_is_refused,
    an_order_called_off_before_its_checkout_began_ends_with_nothing_owed,
    an_order_of_more_than_there_is_is_rejected_with_the_product_named,
    an_order_on_account_is_confirmed,
    calling_off_at_any_step_ends_with_a_clean_slate,
    every_step_may_run_twice,
    what_was_confirmed_and_cannot_be_kept_is_called_off_with_the_reason,
    steps_that_were_done_without_an_answer_are_not_done_again,
]);
