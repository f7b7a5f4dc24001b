//! A provider whose answer is missing: what happened is found, what did not is done, and nothing is done twice.

use super::*;

db::on_both!(fixture => [
    a_capture_whose_answer_was_lost_is_repeated,
    a_charge_whose_answer_was_lost_is_found,
    a_pending_payment_cannot_be_captured,
    a_refund_that_the_provider_refuses_keeps_the_payment_closed,
    a_refund_that_was_lost_is_repeated,
    a_repeat_asks_for_what_was_asked_first,
    a_request_that_was_lost_is_sent_again_under_its_key,
    an_authorisation_that_arrives_after_the_refund_is_refused,
    what_was_voided_at_the_provider_is_refunded,
]);

fn is_open(error: &PaymentsError) -> bool {
    matches!(error, PaymentsError::Unavailable(cause) if cause.maybe_done)
}

/// Asks for order 7, with this mishap on the way.
async fn authorise_with(fixture: &Fixture, mishap: Mishap) {
    fixture.provider.befall(mishap);
    let error = fixture.payments.authorise(&call(), card()).await.unwrap_err();
    assert!(is_open(&error), "{error}");
    assert_eq!(fixture.status().await, PaymentStatus::Pending);
}

async fn a_charge_whose_answer_was_lost_is_found(fixture: Fixture) {
    authorise_with(&fixture, Mishap::Unanswered).await;
    assert_eq!(fixture.charges(), [ChargeStatus::Authorised]);
    // An attempt to charge again would be lost, and the call would fail.
    fixture.provider.befall(Mishap::Lost);
    let payment = fixture.payments.authorise(&call(), card()).await.unwrap();
    assert_eq!(payment.status, PaymentStatus::Authorised);
    assert_eq!(fixture.charges(), [ChargeStatus::Authorised]);
}

async fn a_request_that_was_lost_is_sent_again_under_its_key(fixture: Fixture) {
    authorise_with(&fixture, Mishap::Lost).await;
    let key = fixture.held().await.key.unwrap();
    assert_eq!(fixture.charges(), []);
    fixture.payments.authorise(&call(), card()).await.unwrap();
    assert_eq!(fixture.provider.keys(), [(key, ChargeStatus::Authorised)]);
}

async fn a_repeat_asks_for_what_was_asked_first(fixture: Fixture) {
    authorise_with(&fixture, Mishap::Lost).await;
    let other = Authorise { amount: Money::gbp(1), method: method(DECLINED_TOKEN), ..card() };
    let payment = fixture.payments.authorise(&call(), other).await.unwrap();
    assert_eq!((payment.amount, payment.status), (card().amount, PaymentStatus::Authorised));
}

async fn an_authorisation_that_arrives_after_the_refund_is_refused(fixture: Fixture) {
    authorise_with(&fixture, Mishap::Lost).await;
    let key = fixture.held().await.key.unwrap();
    fixture.payments.refund(&call(), card().order_id).await.unwrap();
    let late = fixture.provider.authorise(&call(), &key, card().amount, &card().method).await;
    assert!(matches!(late, Err(ProviderError::Refused { .. })), "{late:?}");
    assert_eq!(fixture.status().await, PaymentStatus::Refunded);
}

async fn a_capture_whose_answer_was_lost_is_repeated(fixture: Fixture) {
    fixture.payments.authorise(&call(), card()).await.unwrap();
    for mishap in [Mishap::Lost, Mishap::Unanswered] {
        fixture.provider.befall(mishap);
        let error = fixture.payments.capture(&call(), card().order_id).await.unwrap_err();
        assert!(is_open(&error), "{error}");
        assert_eq!(fixture.status().await, PaymentStatus::Authorised);
    }
    let payment = fixture.payments.capture(&call(), card().order_id).await.unwrap();
    assert_eq!(payment.status, PaymentStatus::Captured);
    assert_eq!(fixture.charges(), [ChargeStatus::Captured]);
}

async fn a_pending_payment_cannot_be_captured(fixture: Fixture) {
    authorise_with(&fixture, Mishap::Unanswered).await;
    let error = fixture.payments.capture(&call(), card().order_id).await.unwrap_err();
    assert!(matches!(&error, PaymentsError::Unavailable(cause) if !cause.maybe_done), "{error}");
    assert_eq!(fixture.charges(), [ChargeStatus::Authorised]);
}

async fn a_refund_that_was_lost_is_repeated(fixture: Fixture) {
    fixture.payments.authorise(&call(), card()).await.unwrap();
    for mishap in [Mishap::Lost, Mishap::Unanswered] {
        fixture.provider.befall(mishap);
        let error = fixture.payments.refund(&call(), card().order_id).await.unwrap_err();
        assert!(is_open(&error), "{error}");
        let closed = PaymentsError::Refunded { order_id: card().order_id };
        assert_eq!(fixture.payments.capture(&call(), card().order_id).await, Err(closed));
        assert_eq!(fixture.status().await, PaymentStatus::Authorised, "the provider has not confirmed it");
    }
    fixture.payments.refund(&call(), card().order_id).await.unwrap();
    assert_eq!(fixture.status().await, PaymentStatus::Refunded);
    assert_eq!(fixture.charges(), [ChargeStatus::Voided]);
}

async fn a_refund_that_the_provider_refuses_keeps_the_payment_closed(fixture: Fixture) {
    fixture.payments.authorise(&call(), card()).await.unwrap();
    fixture.payments.capture(&call(), card().order_id).await.unwrap();
    fixture.provider.befall(Mishap::Refused);
    let error = fixture.payments.refund(&call(), card().order_id).await.unwrap_err();
    assert!(matches!(error, PaymentsError::Refused { .. }), "{error}");
    assert_eq!(fixture.status().await, PaymentStatus::Captured, "the money is still there");
    let closed = PaymentsError::Refunded { order_id: card().order_id };
    assert_eq!(fixture.payments.authorise(&call(), card()).await, Err(closed));
    fixture.payments.refund(&call(), card().order_id).await.unwrap();
    assert_eq!(fixture.status().await, PaymentStatus::Refunded);
}

async fn what_was_voided_at_the_provider_is_refunded(fixture: Fixture) {
    authorise_with(&fixture, Mishap::Unanswered).await;
    let key = fixture.held().await.key.unwrap();
    fixture.provider.void(&call(), &key).await.unwrap();
    let refunded = PaymentsError::Refunded { order_id: card().order_id };
    assert_eq!(fixture.payments.authorise(&call(), card()).await, Err(refunded));
    assert_eq!(fixture.status().await, PaymentStatus::Refunded);
}
