//! The keys as diesel sees them.
//!
//! Invariant: the same columns as `migrations/0001_idempotency`.

diesel::table! {
    banyan_idempotency (key) {
        scope -> Text,
        key -> Text,
        fingerprint -> Text,
        result -> Nullable<Text>,
        created_at_ms -> BigInt,
    }
}
