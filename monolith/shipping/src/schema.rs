//! The context's tables, as steps of the schema and as diesel sees them.
//!
//! Invariant: every name begins with `shipping_`.

use db::schema::SchemaSource;

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::shipping::CONTEXT,
    migrations: &[db::migration!("0001_shipments")],
    tables: &["shipping_shipments", "shipping_steps"],
};

diesel::table! {
    shipping_shipments (order_id) {
        order_id -> BigInt,
        tracking_code -> Nullable<Text>,
        address -> Nullable<Text>,
        status -> Text,
    }
}

diesel::table! {
    shipping_steps (order_id, status) {
        order_id -> BigInt,
        status -> Text,
        at_ms -> BigInt,
    }
}
