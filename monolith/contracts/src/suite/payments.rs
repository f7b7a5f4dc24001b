//! Facts about the payments port.
//!
//! Invariant: each begins with a context that knows no payment, and whose provider takes [`GOOD_TOKEN`] and declines
//! [`DECLINED_TOKEN`].

use super::{PaymentsFixture, call, done};
use crate::payments::{Authorise, Payment, PaymentMethod, PaymentStatus, Payments, PaymentsError};
use crate::{Money, OrderId};

/// A token with which every payment succeeds.
pub const GOOD_TOKEN: &str = "pm_ok";
/// A token with which every payment is declined.
pub const DECLINED_TOKEN: &str = "pm_declined";

/// The payment method of that text.
pub fn method(text: &str) -> PaymentMethod {
    done(PaymentMethod::parse(text.to_owned()))
}

/// A wish to have £12.50 promised for the order of that number.
pub fn wish(order: i64, method: PaymentMethod) -> Authorise {
    Authorise { order_id: order_id(order), amount: Money::gbp(1250), method }
}

fn order_id(number: i64) -> OrderId {
    done(OrderId::try_from(number))
}

fn methods() -> [PaymentMethod; 2] {
    [PaymentMethod::account(), method(GOOD_TOKEN)]
}

/// A wish for each way to pay, each for an order of its own.
fn wishes() -> impl Iterator<Item = Authorise> {
    (7..).zip(methods()).map(|(order, method)| wish(order, method))
}

async fn authorised(payments: &dyn Payments, wish: &Authorise) -> Payment {
    done(payments.authorise(&call(), wish.clone()).await)
}

/// What `authorise` returns is what `payment` returns, and the token is not in it.
pub async fn an_authorised_payment_can_be_read_back(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    for wish in wishes() {
        assert_eq!(payments.accepts(&call(), wish.method.clone()).await, Ok(()));
        let payment = authorised(payments, &wish).await;
        assert_eq!((payment.order_id, payment.amount), (wish.order_id, wish.amount));
        assert_eq!(
            (payment.status, payment.method.as_str()),
            (PaymentStatus::Authorised, wish.method.kind())
        );
        assert_eq!(payment.provider_id.is_none(), wish.method.is_account());
        assert!(!format!("{payment:?}").contains(GOOD_TOKEN));
        assert_eq!(payments.payment(&call(), wish.order_id).await, Ok(payment));
    }
}

/// A second authorisation returns the payment that is there, wherever it stands.
pub async fn authorising_again_returns_the_same_payment(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    for wish in wishes() {
        let first = authorised(payments, &wish).await;
        assert_eq!(authorised(payments, &wish).await, first);
        let captured = done(payments.capture(&call(), wish.order_id).await);
        assert_eq!(authorised(payments, &wish).await, captured);
    }
}

/// A declined payment is declined each time, cannot be captured, and says why.
pub async fn a_declined_payment_stays_declined(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    let wish = wish(7, method(DECLINED_TOKEN));
    let Err(declined @ PaymentsError::Declined { .. }) = payments.authorise(&call(), wish.clone()).await
    else {
        panic!("{DECLINED_TOKEN} was not declined")
    };
    assert_eq!(payments.authorise(&call(), wish.clone()).await, Err(declined.clone()));
    assert_eq!(payments.capture(&call(), wish.order_id).await, Err(declined));
    let payment = done(payments.payment(&call(), wish.order_id).await);
    assert_eq!(payment.status, PaymentStatus::Declined);
    assert!(payment.declined_because.is_some_and(|reason| !reason.is_empty()));
}

/// There is nothing to give back, and why it was declined stays known.
pub async fn refunding_a_declined_payment_leaves_it_declined(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    let wish = wish(7, method(DECLINED_TOKEN));
    let declined = payments.authorise(&call(), wish.clone()).await;
    assert_eq!(payments.refund(&call(), wish.order_id).await, Ok(()));
    assert_eq!(payments.authorise(&call(), wish.clone()).await, declined);
    assert_eq!(done(payments.payment(&call(), wish.order_id).await).status, PaymentStatus::Declined);
}

/// A second capture returns what the first one did.
pub async fn capturing_twice_succeeds(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    for wish in wishes() {
        authorised(payments, &wish).await;
        let captured = done(payments.capture(&call(), wish.order_id).await);
        assert_eq!((captured.status, captured.amount), (PaymentStatus::Captured, wish.amount));
        assert_eq!(payments.capture(&call(), wish.order_id).await, Ok(captured.clone()));
        assert_eq!(payments.payment(&call(), wish.order_id).await, Ok(captured));
    }
}

/// A refund succeeds before and after the capture, as often as it is asked for.
pub async fn refunding_twice_succeeds(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    for (order, method) in (7..).zip(methods().into_iter().chain(methods())) {
        let wish = wish(order, method);
        authorised(payments, &wish).await;
        if order > 8 {
            done(payments.capture(&call(), wish.order_id).await);
        }
        assert_eq!(payments.refund(&call(), wish.order_id).await, Ok(()));
        let refunded = done(payments.payment(&call(), wish.order_id).await);
        assert_eq!(refunded.status, PaymentStatus::Refunded);
        assert_eq!(payments.refund(&call(), wish.order_id).await, Ok(()));
        assert_eq!(payments.payment(&call(), wish.order_id).await, Ok(refunded));
    }
}

/// Nothing is promised or taken after a refund.
pub async fn a_refund_is_final(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    for wish in wishes() {
        authorised(payments, &wish).await;
        done(payments.refund(&call(), wish.order_id).await);
        let refunded = PaymentsError::Refunded { order_id: wish.order_id };
        assert_eq!(payments.capture(&call(), wish.order_id).await, Err(refunded.clone()));
        assert_eq!(payments.authorise(&call(), wish.clone()).await, Err(refunded));
    }
}

/// A refund that comes first succeeds, and keeps out what comes after it.
pub async fn refunding_what_was_never_authorised_keeps_it_out(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    for wish in wishes() {
        for _ in 0..2 {
            assert_eq!(payments.refund(&call(), wish.order_id).await, Ok(()));
        }
        let refunded = PaymentsError::Refunded { order_id: wish.order_id };
        assert_eq!(payments.authorise(&call(), wish.clone()).await, Err(refunded.clone()));
        assert_eq!(payments.capture(&call(), wish.order_id).await, Err(refunded));
        let none = PaymentsError::NotFound { order_id: wish.order_id };
        assert_eq!(payments.payment(&call(), wish.order_id).await, Err(none));
    }
}

/// Reading and capturing what is not there says so, with the order.
pub async fn an_order_without_a_payment_is_not_found(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    let order_id = order_id(4711);
    let none = PaymentsError::NotFound { order_id };
    assert_eq!(payments.payment(&call(), order_id).await, Err(none.clone()));
    assert_eq!(payments.capture(&call(), order_id).await, Err(none));
}

/// An amount that is not above zero is refused and leaves nothing behind.
pub async fn an_amount_of_nothing_is_refused(fixture: &dyn PaymentsFixture) {
    let payments = fixture.payments();
    for (amount, method) in [0, -1].into_iter().zip(methods()) {
        let wish = Authorise { amount: Money::gbp(amount), ..wish(7, method) };
        let refused = payments.authorise(&call(), wish.clone()).await;
        assert!(matches!(refused, Err(PaymentsError::Refused { .. })), "{refused:?}");
        let none = PaymentsError::NotFound { order_id: wish.order_id };
        assert_eq!(payments.payment(&call(), wish.order_id).await, Err(none));
    }
}
