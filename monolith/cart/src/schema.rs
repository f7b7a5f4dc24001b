//! The context's tables, as steps of the schema and as diesel sees them.
//!
//! Invariant: every name begins with `cart_`.

use db::schema::SchemaSource;

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::cart::CONTEXT,
    migrations: &[db::migration!("0001_carts")],
    tables: &["cart_carts", "cart_items"],
};

diesel::table! {
    cart_carts (id) {
        id -> Text,
        user_id -> Nullable<BigInt>,
        status -> Text,
        order_id -> Nullable<BigInt>,
        merged_into -> Nullable<Text>,
        version -> BigInt,
        created_at_ms -> BigInt,
        updated_at_ms -> BigInt,
    }
}

diesel::table! {
    cart_items (cart_id, product_id) {
        cart_id -> Text,
        product_id -> BigInt,
        quantity -> BigInt,
        unit_price_minor -> BigInt,
        unit_price_currency -> Text,
    }
}
