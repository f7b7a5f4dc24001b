//! The context's tables, as steps of the schema and as diesel sees them.
//!
//! Invariant: every name begins with `inventory_`.

use db::schema::SchemaSource;

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::inventory::CONTEXT,
    migrations: &[db::migration!("0001_stock")],
    tables: &[
        "inventory_adjustments",
        "inventory_reservation_lines",
        "inventory_reservations",
        "inventory_stock",
        "inventory_warehouses",
    ],
};

diesel::table! {
    inventory_warehouses (id) {
        id -> BigInt,
        code -> Text,
        name -> Text,
    }
}

diesel::table! {
    inventory_stock (product_id, warehouse_id) {
        product_id -> BigInt,
        warehouse_id -> BigInt,
        on_hand -> BigInt,
        reserved -> BigInt,
    }
}

diesel::table! {
    inventory_adjustments (id) {
        id -> BigInt,
        product_id -> BigInt,
        warehouse_id -> BigInt,
        delta -> BigInt,
        reason -> Text,
        request_id -> Text,
        adjusted_at_ms -> BigInt,
    }
}

diesel::table! {
    inventory_reservations (order_id) {
        order_id -> BigInt,
        status -> Text,
        expires_at_ms -> BigInt,
    }
}

diesel::table! {
    inventory_reservation_lines (order_id, product_id, warehouse_id) {
        order_id -> BigInt,
        product_id -> BigInt,
        warehouse_id -> BigInt,
        quantity -> BigInt,
    }
}
