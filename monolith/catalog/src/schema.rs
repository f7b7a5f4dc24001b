//! The context's table, as steps of the schema and as diesel sees it.
//!
//! Invariant: every name begins with `catalog_`.

use db::schema::{Migration, SchemaSource};

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::catalog::CONTEXT,
    migrations: &[Migration {
        version: 1,
        name: "products",
        up: include_str!("../migrations/0001_products/up.sql"),
        down: include_str!("../migrations/0001_products/down.sql"),
    }],
    tables: &["catalog_products"],
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
    }
}
