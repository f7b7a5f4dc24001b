//! The tables that the two requests touch.
//!
//! Invariant: the columns that the monolith's statements name.

diesel::table! {
    users_users (id) {
        id -> BigInt,
        name -> Text,
        email -> Text,
        phone -> Nullable<Text>,
        addresses -> Text,
        created_at -> Text,
        updated_at -> Text,
        version -> BigInt,
    }
}

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
    }
}

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
        payment_method -> Nullable<Text>,
        ship_to -> Nullable<Text>,
        cart_id -> Nullable<Text>,
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

diesel::table! {
    banyan_sagas (id) {
        id -> BigInt,
        kind -> Text,
        key -> Text,
        phase -> Text,
        position -> Integer,
        state -> Text,
        due_at_ms -> BigInt,
        request_id -> Text,
        traceparent -> Nullable<Text>,
        created_at_ms -> BigInt,
        updated_at_ms -> BigInt,
    }
}

diesel::table! {
    banyan_outbox (id) {
        id -> BigInt,
        attempts -> Integer,
    }
}
