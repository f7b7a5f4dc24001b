//! The payments context: what an order costs its buyer, taken through a payment provider or put on account.
//!
//! Invariant: an order has at most one payment, and is charged at most once. A refund is final: an authorisation or a
//! capture that arrives after it is refused.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::events::DomainEvent;
use crate::port::PortError;
use crate::{CallContext, FieldError, KeyReused, Money, OrderId, Timestamp, Unavailable, port};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "payments";

/// How a buyer pays: on account, or by what a token of the payment provider stands for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PaymentMethod(String);

impl PaymentMethod {
    const ACCOUNT: &'static str = "account";

    /// On account: an invoice follows, and no provider is asked.
    pub fn account() -> Self {
        Self(Self::ACCOUNT.to_owned())
    }

    /// `account`, or a token that the payment provider gave the buyer.
    pub fn parse(text: String) -> Result<Self, FieldError> {
        if (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text));
        }
        let rule = "must be `account` or a token of the payment provider: 1 to 100 visible ASCII characters";
        Err(FieldError::new("payment_method", rule))
    }

    /// Whether no provider is asked.
    pub fn is_account(&self) -> bool {
        self.0 == Self::ACCOUNT
    }

    /// The word or the token; a token is for the provider only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `account` or `card`: what may be shown.
    pub fn kind(&self) -> &'static str {
        if self.is_account() { Self::ACCOUNT } else { "card" }
    }
}

/// A token is for the provider only, so not for logs.
impl fmt::Debug for PaymentMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PaymentMethod").field(&self.kind()).finish()
    }
}

/// A wish to have an order's total promised by its buyer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorise {
    /// For which order. Authorising again for the same order returns the same payment.
    pub order_id: OrderId,
    /// How much; above zero.
    pub amount: Money,
    /// How it is paid.
    pub method: PaymentMethod,
}

/// The payment of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Payment {
    /// Of which order.
    pub order_id: OrderId,
    /// How much.
    pub amount: Money,
    /// `account` or `card`.
    pub method: String,
    /// Where it stands.
    pub status: PaymentStatus,
    /// The provider's own id, once the provider has answered.
    pub provider_id: Option<String>,
    /// Why it was declined.
    pub declined_because: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PaymentStatus {
    /// The provider is being asked; whether it has acted is not known yet.
    Pending,
    /// The buyer has promised the amount.
    Authorised,
    /// The amount was taken.
    Captured,
    /// The provider said no. Final.
    Declined,
    /// Nothing is taken: the promise was given back, or the amount was. Final.
    Refunded,
}

/// An order's buyer has their money back, or was never charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRefunded {
    /// Which order's.
    pub order_id: OrderId,
}

impl DomainEvent for PaymentRefunded {
    const KIND: &'static str = "payments.PaymentRefunded";

    fn aggregate(&self) -> String {
        format!("order/{}", self.order_id)
    }
}

/// The provider refused to give an order's money back: somebody must look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRefundFailed {
    /// Which order's.
    pub order_id: OrderId,
    /// Why, in the provider's words.
    pub reason: String,
}

impl DomainEvent for PaymentRefundFailed {
    const KIND: &'static str = "payments.PaymentRefundFailed";

    fn aggregate(&self) -> String {
        format!("order/{}", self.order_id)
    }
}

/// What went wrong in a call to [`Payments`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PaymentsError {
    /// The order has no payment.
    #[error("order {order_id} has no payment")]
    NotFound {
        /// The order.
        order_id: OrderId,
    },
    /// The provider said no; so it will say again.
    #[error("the payment was declined: {reason}")]
    Declined {
        /// Why, in the provider's words.
        reason: String,
    },
    /// The payment was refunded before.
    #[error("the payment of order {order_id} was refunded")]
    Refunded {
        /// The order.
        order_id: OrderId,
    },
    /// The provider refuses what it was asked, and will again.
    #[error("the payment provider refuses: {reason}")]
    Refused {
        /// Why, in the provider's words.
        reason: String,
    },
    /// A token was given, and there is no provider that it could be of.
    #[error("no payment provider is configured; pay on `account`, or set payments.provider.url")]
    NoProvider,
    /// The client's key belongs to another command.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// The context or the provider could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PortError for PaymentsError {
    fn unavailable(&self) -> Option<&Unavailable> {
        if let Self::Unavailable(cause) = self { Some(cause) } else { None }
    }
}

port! {
/// The payments context, as others call it.
pub trait Payments observed by ObservedPayments in CONTEXT;
{
    /// Whether this method can be asked for at all: [`PaymentsError::NoProvider`] where it cannot.
    async fn accepts(&self, ctx: &CallContext, method: PaymentMethod) -> Result<(), PaymentsError>;

    /// Has the amount promised. Idempotent by order: after [`Unavailable`] with `maybe_done`, asking again first looks
    /// whether the provider did it.
    async fn authorise(&self, ctx: &CallContext, authorise: Authorise) -> Result<Payment, PaymentsError>;

    /// Takes the promised amount. Idempotent.
    async fn capture(&self, ctx: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError>;

    /// Gives back whatever was promised or taken. Idempotent, and succeeds where there is nothing: then an authorisation
    /// that arrives later is refused.
    async fn refund(&self, ctx: &CallContext, order_id: OrderId) -> Result<(), PaymentsError>;

    /// The payment of an order.
    async fn payment(&self, ctx: &CallContext, order_id: OrderId) -> Result<Payment, PaymentsError>;
}
}

/// What a payment provider holds under one of our keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The provider's own id.
    pub id: String,
    /// How far it has come.
    pub status: ChargeStatus,
}

/// How far a charge has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeStatus {
    /// Promised.
    Authorised,
    /// Taken.
    Captured,
    /// Given back, or never taken.
    Voided,
}

/// What went wrong in a call to a [`PaymentProvider`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The buyer's bank said no.
    #[error("declined: {reason}")]
    Declined {
        /// Why.
        reason: String,
    },
    /// The provider understood and refuses: asking again cannot help.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The provider could not be asked, or did not answer in time.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A payment provider, as the payments context needs it. A key is ours and belongs to one payment for ever.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    /// Has an amount promised under this key. The same key and amount again return the same charge.
    async fn authorise(
        &self,
        ctx: &CallContext,
        key: &str,
        amount: Money,
        method: &PaymentMethod,
    ) -> Result<Charge, ProviderError>;

    /// What the provider holds under this key.
    async fn find(&self, ctx: &CallContext, key: &str) -> Result<Option<Charge>, ProviderError>;

    /// Takes the amount of a charge. Idempotent.
    async fn capture(&self, ctx: &CallContext, charge_id: &str) -> Result<Charge, ProviderError>;

    /// Sees to it that nothing is taken under this key, now or later. Idempotent, also for a key that is not known.
    async fn void(&self, ctx: &CallContext, key: &str) -> Result<(), ProviderError>;
}
