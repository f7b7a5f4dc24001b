//! The service's tables, as steps of the schema and as diesel sees them.
//!
//! Invariant: nothing here resembles the monolith's table by necessity; only the mapping knows both.

use db::schema::SchemaSource;

/// The service's schema.
pub const SCHEMA: SchemaSource = SchemaSource {
    context: contracts::users::CONTEXT,
    migrations: &[db::migration!("0001_people")],
    tables: &["address", "contact", "person"],
};

diesel::table! {
    person (person_id) {
        person_id -> BigInt,
        given_name -> Text,
        family_name -> Nullable<Text>,
        registered_ms -> BigInt,
        changed_ms -> BigInt,
        row_version -> BigInt,
    }
}

diesel::table! {
    contact (person_id, kind) {
        person_id -> BigInt,
        kind -> Text,
        value -> Text,
    }
}

diesel::table! {
    address (person_id, position) {
        person_id -> BigInt,
        position -> BigInt,
        label -> Text,
        street -> Nullable<Text>,
        city -> Nullable<Text>,
        postcode -> Nullable<Text>,
        country -> Text,
    }
}
