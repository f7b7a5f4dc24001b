//! The context's tables, as steps of the schema and as diesel sees them.
//!
//! Invariant: every name begins with `orders_`.

use db::schema::{Migration, SchemaSource};

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::orders::CONTEXT,
    migrations: &[Migration {
        version: 1,
        name: "orders",
        up: include_str!("../migrations/0001_orders/up.sql"),
        down: include_str!("../migrations/0001_orders/down.sql"),
    }],
    tables: &["orders_lines", "orders_orders"],
};

diesel::table! {
    orders_orders (id) {
        id -> BigInt,
        user_id -> BigInt,
        reference -> Nullable<Text>,
        kind -> Text,
        status -> Text,
        currency -> Text,
        total_minor -> BigInt,
        placed_at_ms -> BigInt,
        cancelled_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    orders_lines (order_id, position) {
        order_id -> BigInt,
        position -> BigInt,
        product_id -> BigInt,
        quantity -> BigInt,
        unit_price_minor -> BigInt,
    }
}
