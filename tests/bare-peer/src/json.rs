//! What goes in and out.
//!
//! Invariant: byte for byte what the monolith's API takes and gives, ids and instants aside.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Address {
    label: String,
    street: Option<String>,
    city: Option<String>,
    postcode: Option<String>,
    country: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) phone: Option<String>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderBody {
    pub(crate) user_id: i64,
    pub(crate) lines: Vec<LineBody>,
    pub(crate) payment_method: Option<String>,
    pub(crate) ship_to: Option<Address>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineBody {
    pub(crate) product_id: i64,
    pub(crate) quantity: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) user_id: i64,
    pub(crate) reference: Option<String>,
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) lines: Vec<OrderLine>,
    pub(crate) total: Money,
    pub(crate) placed_at: String,
    pub(crate) confirmed_at: Option<String>,
    pub(crate) cancelled_at: Option<String>,
    pub(crate) rejected_because: Option<String>,
    pub(crate) payment_method: Option<&'static str>,
    pub(crate) ship_to: Option<Address>,
    pub(crate) cart_id: Option<String>,
    pub(crate) cancellation: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct OrderLine {
    pub(crate) product_id: i64,
    pub(crate) quantity: u32,
    pub(crate) unit_price: Money,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Money {
    pub(crate) minor: i64,
    pub(crate) currency: String,
}

/// The state of a checkout that begins.
#[derive(Debug, Serialize)]
pub(crate) struct CheckoutState<'a> {
    pub(crate) order_id: i64,
    pub(crate) payment_method: &'a str,
    pub(crate) refusal: Option<String>,
}
