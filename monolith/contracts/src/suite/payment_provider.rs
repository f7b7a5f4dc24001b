//! Facts about a payment provider: what the payments context builds on.
//!
//! Invariant: each uses keys that no other fact uses.

use super::payments::{DECLINED_TOKEN, GOOD_TOKEN, method};
use super::{PaymentProviderFixture, call, done};
use crate::Money;
use crate::payments::{Charge, ChargeStatus, PaymentProvider, ProviderError};

const AMOUNT: Money = Money { minor: 1250, currency: crate::Currency::GBP };

async fn charged(provider: &dyn PaymentProvider, key: &str) -> Charge {
    done(provider.authorise(&call(), key, AMOUNT, &method(GOOD_TOKEN)).await)
}

async fn status_of(provider: &dyn PaymentProvider, key: &str) -> Option<ChargeStatus> {
    done(provider.find(&call(), key).await).map(|charge| charge.status)
}

async fn is_closed(provider: &dyn PaymentProvider, key: &str) -> bool {
    let late = provider.authorise(&call(), key, AMOUNT, &method(GOOD_TOKEN)).await;
    matches!(late, Err(ProviderError::Refused { .. }))
}

/// A key has one charge, which is found by it.
pub async fn the_same_key_again_returns_the_same_charge(fixture: &dyn PaymentProviderFixture) {
    let provider = fixture.provider();
    let charge = charged(provider, "same").await;
    assert_eq!(charge.status, ChargeStatus::Authorised);
    assert_eq!(charged(provider, "same").await, charge);
    assert_eq!(provider.find(&call(), "same").await, Ok(Some(charge)));
}

/// A key stands for one amount.
pub async fn a_key_with_another_amount_is_refused(fixture: &dyn PaymentProviderFixture) {
    let provider = fixture.provider();
    let charge = charged(provider, "amount").await;
    let other = provider.authorise(&call(), "amount", Money::gbp(1), &method(GOOD_TOKEN)).await;
    assert!(matches!(other, Err(ProviderError::Refused { .. })), "{other:?}");
    assert_eq!(provider.find(&call(), "amount").await, Ok(Some(charge)));
}

/// What was never charged is not found.
pub async fn an_unknown_key_is_not_found(fixture: &dyn PaymentProviderFixture) {
    assert_eq!(fixture.provider().find(&call(), "unknown").await, Ok(None));
}

/// A decline is the same each time and holds nothing.
pub async fn a_decline_is_repeated_and_holds_nothing(fixture: &dyn PaymentProviderFixture) {
    let provider = fixture.provider();
    for _ in 0..2 {
        let declined = provider.authorise(&call(), "declined", AMOUNT, &method(DECLINED_TOKEN)).await;
        assert!(matches!(declined, Err(ProviderError::Declined { .. })), "{declined:?}");
        assert_eq!(provider.find(&call(), "declined").await, Ok(None));
    }
}

/// A second capture finds the first.
pub async fn a_charge_is_captured_once(fixture: &dyn PaymentProviderFixture) {
    let provider = fixture.provider();
    let id = charged(provider, "capture").await.id;
    let captured = Charge { id: id.clone(), status: ChargeStatus::Captured };
    for _ in 0..2 {
        assert_eq!(provider.capture(&call(), &id).await, Ok(captured.clone()));
    }
    assert_eq!(charged(provider, "capture").await, captured);
}

/// Whatever stood under a key, or nothing: once voided it stays closed.
pub async fn a_voided_key_stays_closed(fixture: &dyn PaymentProviderFixture) {
    let provider = fixture.provider();
    let promised = charged(provider, "void-promised").await.id;
    let taken = charged(provider, "void-taken").await.id;
    done(provider.capture(&call(), &taken).await);
    for key in ["void-promised", "void-taken", "void-unknown"] {
        for _ in 0..2 {
            assert_eq!(provider.void(&call(), key).await, Ok(()));
            assert_eq!(status_of(provider, key).await, Some(ChargeStatus::Voided));
            assert!(is_closed(provider, key).await, "{key} can be charged");
        }
    }
    for id in [promised, taken] {
        let late = provider.capture(&call(), &id).await;
        assert!(matches!(late, Err(ProviderError::Refused { .. })), "{late:?}");
    }
}
