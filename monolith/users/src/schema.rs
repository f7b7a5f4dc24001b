//! The context's table, as steps of the schema and as diesel sees it.
//!
//! Invariant: every name begins with `users_`.

use db::schema::SchemaSource;

/// The context's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::users::CONTEXT,
    migrations: &[db::migration!("0001_users")],
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
