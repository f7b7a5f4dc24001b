//! The context's tables, as steps of the schema and as diesel sees them.
//!
//! Invariant: every name begins with `orders_`.

use db::schema::SchemaSource;

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::orders::CONTEXT,
    migrations: &[db::migration!("0001_orders"), db::migration!("0002_life"), db::migration!("0003_history")],
    tables: &["orders_history", "orders_lines", "orders_orders"],
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
        confirmed_at_ms -> Nullable<BigInt>,
        cancelled_at_ms -> Nullable<BigInt>,
        rejected_because -> Nullable<Text>,
        payment_method -> Nullable<Text>,
        ship_to -> Nullable<Text>,
        cart_id -> Nullable<Text>,
        cancellation -> Nullable<Text>,
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

diesel::table! {
    orders_history (order_id, position) {
        order_id -> BigInt,
        position -> BigInt,
        status -> Text,
        at_ms -> BigInt,
        note -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(orders_orders, orders_lines);

#[cfg(test)]
mod tests;
