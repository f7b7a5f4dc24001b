//! Calls about one order that come at once.

use std::sync::OnceLock;
use std::thread;

use super::*;

db::on_both!(fixture => [
    a_refund_and_an_authorisation_at_once_leave_nothing_charged,
    a_refund_during_a_capture_wins,
    a_refund_wins_also_when_the_provider_decides_after_it,
    a_refund_wins_when_the_provider_decided_before_it,
    processes_that_authorise_one_order_at_once_charge_once,
]);

/// A provider during whose work the order is refunded.
struct Interrupted {
    inner: FakeProvider,
    payments: OnceLock<PaymentsService>,
    moment: Moment,
}

#[derive(Clone, Copy, PartialEq)]
enum Moment {
    BeforeAuthorising,
    AfterAuthorising,
    BeforeCapturing,
    AfterCapturing,
}

impl Interrupted {
    async fn reach(&self, moment: Moment) {
        if moment == self.moment {
            self.payments.get().unwrap().refund(&call(), card().order_id).await.unwrap();
        }
    }
}

#[async_trait]
impl PaymentProvider for Interrupted {
    async fn authorise(
        &self,
        ctx: &CallContext,
        key: &str,
        amount: Money,
        method: &PaymentMethod,
    ) -> Result<Charge, ProviderError> {
        self.reach(Moment::BeforeAuthorising).await;
        let answer = self.inner.authorise(ctx, key, amount, method).await;
        self.reach(Moment::AfterAuthorising).await;
        answer
    }

    async fn find(&self, ctx: &CallContext, key: &str) -> Result<Option<Charge>, ProviderError> {
        self.inner.find(ctx, key).await
    }

    async fn capture(&self, ctx: &CallContext, charge_id: &str) -> Result<Charge, ProviderError> {
        self.reach(Moment::BeforeCapturing).await;
        let answer = self.inner.capture(ctx, charge_id).await;
        self.reach(Moment::AfterCapturing).await;
        answer
    }

    async fn void(&self, ctx: &CallContext, key: &str) -> Result<(), ProviderError> {
        self.inner.void(ctx, key).await
    }
}

fn interrupted(fixture: &Fixture, moment: Moment) -> (Arc<Interrupted>, PaymentsService) {
    let (inner, payments) = (FakeProvider::default(), OnceLock::new());
    let provider = Arc::new(Interrupted { inner, payments, moment });
    let payments = service(&fixture.db, Some(provider.clone()));
    provider.payments.get_or_init(|| payments.clone());
    (provider, payments)
}

async fn refund_wins(fixture: Fixture, moment: Moment) {
    let (provider, payments) = interrupted(&fixture, moment);
    let refunded = PaymentsError::Refunded { order_id: card().order_id };
    let outcome = match payments.authorise(&call(), card()).await {
        Ok(_) => payments.capture(&call(), card().order_id).await,
        failed => failed,
    };
    assert_eq!(outcome, Err(refunded));
    assert_eq!(fixture.status().await, PaymentStatus::Refunded);
    let held: Vec<ChargeStatus> = provider.inner.keys().into_iter().map(|(_, status)| status).collect();
    assert_eq!(held, [ChargeStatus::Voided]);
}

async fn a_refund_wins_also_when_the_provider_decides_after_it(fixture: Fixture) {
    refund_wins(fixture, Moment::BeforeAuthorising).await;
}

async fn a_refund_wins_when_the_provider_decided_before_it(fixture: Fixture) {
    refund_wins(fixture, Moment::AfterAuthorising).await;
}

async fn a_refund_during_a_capture_wins(fixture: Fixture) {
    let backend = fixture.db.backend();
    refund_wins(fixture, Moment::BeforeCapturing).await;
    refund_wins(super::fixture(backend), Moment::AfterCapturing).await;
}

/// Another process on the same database.
fn process(fixture: &Fixture) -> PaymentsService {
    service(&Db::open(fixture.db.settings()).unwrap(), Some(fixture.provider.clone()))
}

async fn processes_that_authorise_one_order_at_once_charge_once(fixture: Fixture) {
    let processes: Vec<_> = (0..4).map(|_| process(&fixture)).collect();
    for order in 1..=10 {
        let authorise = |payments: &PaymentsService| {
            let wish = wish(order, method(GOOD_TOKEN));
            db::testing::run(async move {
                let payment = payments.authorise(&call(), wish).await.unwrap();
                assert_eq!(payment.status, PaymentStatus::Authorised);
            });
        };
        thread::scope(|scope| {
            for payments in &processes {
                scope.spawn(move || authorise(payments));
            }
        });
    }
    assert_eq!(fixture.charges(), [ChargeStatus::Authorised; 10]);
}

async fn a_refund_and_an_authorisation_at_once_leave_nothing_charged(fixture: Fixture) {
    let [buyer, canceller] = [process(&fixture), process(&fixture)];
    for order in 1..=20 {
        let wish = wish(order, method(GOOD_TOKEN));
        let (wanted, order_id) = (wish.clone(), wish.order_id);
        let refunded = PaymentsError::Refunded { order_id };
        thread::scope(|scope| {
            scope.spawn(|| {
                db::testing::run(async {
                    let outcome = buyer.authorise(&call(), wanted).await;
                    assert!(outcome.is_ok() || outcome.as_ref() == Err(&refunded), "{outcome:?}");
                });
            });
            scope.spawn(|| {
                db::testing::run(async { canceller.refund(&call(), order_id).await.unwrap() });
            });
        });
        assert_eq!(fixture.payments.authorise(&call(), wish).await, Err(refunded));
    }
    assert!(fixture.charges().iter().all(|status| *status == ChargeStatus::Voided));
}
