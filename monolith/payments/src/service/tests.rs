//! The port's suite on both databases and on its fake, and what only this store and a failing provider can show.

mod interference;
mod silence;

use contracts::suite::{
    DECLINED_TOKEN, FakePayments, FakeProvider, GOOD_TOKEN, Mishap, PaymentProviderFixture, PaymentsFixture,
    call, method, wish,
};
use contracts::{FixedClock, Timestamp};
use db::testing::{Scratch, scratch};
use db::{Backend, schema};

use super::*;
use crate::SCHEMA;

pub(crate) struct Fixture {
    pub(crate) provider: Arc<FakeProvider>,
    pub(crate) payments: PaymentsService,
    pub(crate) db: Scratch,
}

pub(crate) fn fixture(backend: Backend) -> Fixture {
    let db = scratch(backend, &[db::events::SCHEMA, SCHEMA]);
    let provider = Arc::new(FakeProvider::default());
    Fixture { payments: service(&db, Some(provider.clone())), provider, db }
}

/// The context of a process of its own.
pub(crate) fn service(db: &Db, provider: Option<Arc<dyn PaymentProvider>>) -> PaymentsService {
    let clock = Arc::new(FixedClock(Timestamp::from_millis(1_291_191_960_000)));
    PaymentsService::new(db.clone(), clock, provider, Outbox::new(&[]))
}

/// A card payment for order 7.
fn card() -> Authorise {
    wish(7, method(GOOD_TOKEN))
}

impl Fixture {
    async fn held(&self) -> Held {
        self.payments.find(card().order_id).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self) -> PaymentStatus {
        self.payments.payment(&call(), card().order_id).await.unwrap().status
    }

    fn charges(&self) -> Vec<ChargeStatus> {
        self.provider.keys().into_iter().map(|(_, status)| status).collect()
    }
}

impl PaymentsFixture for Fixture {
    fn payments(&self) -> &dyn Payments {
        &self.payments
    }
}

mod port_on_sqlite {
    async fn fixture() -> super::Fixture {
        super::fixture(db::Backend::Sqlite)
    }

    contracts::payments_suite!(fixture);
}

mod port_on_postgres {
    async fn fixture() -> super::Fixture {
        super::fixture(db::Backend::Postgres)
    }

    contracts::payments_suite!(fixture);
}

mod fake_port {
    use super::*;

    struct Fake(FakePayments);

    impl PaymentsFixture for Fake {
        fn payments(&self) -> &dyn Payments {
            &self.0
        }
    }

    async fn fixture() -> Fake {
        Fake(FakePayments::default())
    }

    contracts::payments_suite!(fixture);
}

mod fake_provider {
    use super::*;

    struct Fake(FakeProvider);

    impl PaymentProviderFixture for Fake {
        fn provider(&self) -> &dyn PaymentProvider {
            &self.0
        }
    }

    async fn fixture() -> Fake {
        Fake(FakeProvider::default())
    }

    contracts::payment_provider_suite!(fixture);
}

db::on_both!(fixture => [
    a_token_without_a_provider_is_refused_and_leaves_nothing,
    orders_of_two_installations_have_keys_of_their_own,
    the_token_is_kept_until_the_provider_has_decided,
]);

async fn the_token_is_kept_until_the_provider_has_decided(fixture: Fixture) {
    for token in [GOOD_TOKEN, DECLINED_TOKEN] {
        let wish = wish(if token == GOOD_TOKEN { 7 } else { 8 }, method(token));
        fixture.provider.befall(Mishap::Lost);
        fixture.payments.authorise(&call(), wish.clone()).await.unwrap_err();
        let held = fixture.payments.find(wish.order_id).await.unwrap().unwrap();
        assert_eq!(held.question().map(|question| question.token), Some(&wish.method));
        let _ = fixture.payments.authorise(&call(), wish.clone()).await;
        let held = fixture.payments.find(wish.order_id).await.unwrap().unwrap();
        assert!(held.question().is_none(), "{token} is still there");
    }
    let wish = wish(9, method(GOOD_TOKEN));
    fixture.provider.befall(Mishap::Lost);
    fixture.payments.authorise(&call(), wish.clone()).await.unwrap_err();
    fixture.payments.refund(&call(), wish.order_id).await.unwrap();
    assert!(fixture.payments.find(wish.order_id).await.unwrap().unwrap().question().is_none());
}

async fn a_token_without_a_provider_is_refused_and_leaves_nothing(fixture: Fixture) {
    let payments = service(&fixture.db, None);
    let (card, account) = (card(), wish(8, PaymentMethod::account()));
    assert_eq!(payments.accepts(&call(), card.method.clone()).await, Err(PaymentsError::NoProvider));
    assert_eq!(payments.authorise(&call(), card.clone()).await, Err(PaymentsError::NoProvider));
    let none = PaymentsError::NotFound { order_id: card.order_id };
    assert_eq!(payments.payment(&call(), card.order_id).await, Err(none));
    assert_eq!(payments.accepts(&call(), account.method.clone()).await, Ok(()));
    assert!(payments.authorise(&call(), account).await.is_ok());
}

async fn orders_of_two_installations_have_keys_of_their_own(fixture: Fixture) {
    let elsewhere = scratch(fixture.db.backend(), &[SCHEMA]);
    let other = service(&elsewhere, Some(fixture.provider.clone()));
    let here = fixture.payments.authorise(&call(), card()).await.unwrap();
    let there = other.authorise(&call(), card()).await.unwrap();
    assert_ne!(here.provider_id, there.provider_id);
    assert!(fixture.provider.keys().iter().all(|(key, _)| key.starts_with("order-7-")));
    assert_eq!(fixture.charges().len(), 2);
}

#[test]
fn the_schema_lists_its_tables() {
    assert_eq!(schema::tables_of(&SCHEMA).unwrap(), SCHEMA.tables);
}
