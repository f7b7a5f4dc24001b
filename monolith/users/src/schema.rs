//! The context's table, as steps of the schema and as diesel sees it.
//!
//! Invariant: every name begins with `users_`.

use db::schema::{Migration, SchemaSource};

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::users::CONTEXT,
    migrations: &[Migration {
        version: 1,
        name: "users",
        up: include_str!("../migrations/0001_users/up.sql"),
        down: include_str!("../migrations/0001_users/down.sql"),
    }],
    tables: &["users_users"],
};

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
