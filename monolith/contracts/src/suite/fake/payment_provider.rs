//! A payment provider in memory.
//!
//! Invariant: shows every fact of the provider's suite; a key is charged at most once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Mishap, Mishaps};
use crate::payments::{Charge, ChargeStatus, PaymentMethod, PaymentProvider, ProviderError};
use crate::suite::DECLINED_TOKEN;
use crate::{CallContext, Money};

/// A payment provider in memory.
#[derive(Debug, Default)]
pub struct FakeProvider {
    ledger: Mutex<Ledger>,
    mishaps: Mishaps,
}

#[derive(Debug, Default)]
struct Ledger(BTreeMap<String, HeldCharge>);

#[derive(Debug)]
struct HeldCharge {
    charge: Charge,
    /// Nothing for a key that was voided before it was charged.
    amount: Option<Money>,
}

impl FakeProvider {
    /// The next command ends like this; several are used up in turn.
    pub fn befall(&self, mishap: Mishap) {
        self.mishaps.push(mishap);
    }

    /// Every key that was ever charged or voided, in order, with how far it has come.
    pub fn keys(&self) -> Vec<(String, ChargeStatus)> {
        self.ledger().0.iter().map(|(key, held)| (key.clone(), held.charge.status)).collect()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command<T>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let refused = |reason| ProviderError::Refused { reason };
        self.mishaps.befall("payment provider", refused, || work(&mut self.ledger()))
    }
}

impl Ledger {
    fn authorise(
        &mut self,
        key: &str,
        amount: Money,
        method: &PaymentMethod,
    ) -> Result<Charge, ProviderError> {
        if method.expose() == DECLINED_TOKEN && !self.0.contains_key(key) {
            return Err(ProviderError::Declined { reason: "declined".to_owned() });
        }
        let id = format!("charge-{}", self.0.len() + 1);
        let held = self.0.entry(key.to_owned()).or_insert_with(|| HeldCharge {
            charge: Charge { id, status: ChargeStatus::Authorised },
            amount: Some(amount),
        });
        if held.charge.status == ChargeStatus::Voided || held.amount != Some(amount) {
            return Err(ProviderError::Refused {
                reason: "the key is voided or of another amount".to_owned(),
            });
        }
        Ok(held.charge.clone())
    }

    fn capture(&mut self, id: &str) -> Result<Charge, ProviderError> {
        let held = self.0.values_mut().find(|held| held.charge.id == id);
        let held = held.filter(|held| held.charge.status != ChargeStatus::Voided);
        let held =
            held.ok_or(ProviderError::Refused { reason: "the charge is voided or unknown".to_owned() })?;
        held.charge.status = ChargeStatus::Captured;
        Ok(held.charge.clone())
    }

    fn void(&mut self, key: &str) {
        let charge = Charge { id: String::new(), status: ChargeStatus::Voided };
        let held = self.0.entry(key.to_owned()).or_insert(HeldCharge { charge, amount: None });
        held.charge.status = ChargeStatus::Voided;
    }
}

#[async_trait]
impl PaymentProvider for FakeProvider {
    async fn authorise(
        &self,
        _: &CallContext,
        key: &str,
        amount: Money,
        method: &PaymentMethod,
    ) -> Result<Charge, ProviderError> {
        self.command(|ledger| ledger.authorise(key, amount, method))
    }

    async fn find(&self, _: &CallContext, key: &str) -> Result<Option<Charge>, ProviderError> {
        Ok(self.ledger().0.get(key).map(|held| held.charge.clone()))
    }

    async fn capture(&self, _: &CallContext, charge_id: &str) -> Result<Charge, ProviderError> {
        self.command(|ledger| ledger.capture(charge_id))
    }

    async fn void(&self, _: &CallContext, key: &str) -> Result<(), ProviderError> {
        self.command(|ledger| {
            ledger.void(key);
            Ok(())
        })
    }
}
