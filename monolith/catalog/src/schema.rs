//! The context's tables, as steps of the schema and as diesel sees them.
//!
//! Invariant: every name begins with `catalog_`.

use db::schema::SchemaSource;

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::catalog::CONTEXT,
    migrations: &[
        db::migration!("0001_products"),
        db::migration!("0002_categories"),
        db::migration!("0003_prices"),
        db::migration!("0004_price_history"),
        db::migration!("0005_words"),
        db::migration!("0006_search"),
    ],
    tables: &["catalog_categories", "catalog_prices", "catalog_products"],
};

diesel::table! {
    catalog_products (id) {
        id -> BigInt,
        sku -> Text,
        name -> Text,
        price_minor -> BigInt,
        price_currency -> Text,
        created_at_ms -> BigInt,
        updated_at_ms -> BigInt,
        category_id -> Nullable<BigInt>,
        version -> BigInt,
        words -> Nullable<Text>,
    }
}

diesel::table! {
    catalog_prices (product_id, version) {
        product_id -> BigInt,
        version -> BigInt,
        price_minor -> BigInt,
        price_currency -> Text,
        since_ms -> BigInt,
    }
}

diesel::table! {
    catalog_categories (id) {
        id -> BigInt,
        name -> Text,
        parent_id -> Nullable<BigInt>,
        version -> BigInt,
    }
}
