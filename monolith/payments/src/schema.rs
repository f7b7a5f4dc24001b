//! The context's table, as steps of the schema and as diesel sees it.
//!
//! Invariant: every name begins with `payments_`.

use db::schema::SchemaSource;

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::payments::CONTEXT,
    migrations: &[db::migration!("0001_payments")],
    tables: &["payments_payments"],
};

diesel::table! {
    payments_payments (order_id) {
        order_id -> BigInt,
        provider_key -> Nullable<Text>,
        amount_minor -> Nullable<BigInt>,
        currency -> Nullable<Text>,
        method -> Nullable<Text>,
        token -> Nullable<Text>,
        status -> Text,
        provider_id -> Nullable<Text>,
        declined_because -> Nullable<Text>,
        refund_asked_at -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}
