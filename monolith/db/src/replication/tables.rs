//! The three tables as diesel sees them.
//!
//! Invariant: the same columns as `migrations/0001_replication/up.sql`; other programs read and write them too.

diesel::table! {
    banyan_contexts (context) {
        context -> Text,
        version -> BigInt,
        dual_write -> Bool,
        fence -> Text,
        fence_token -> BigInt,
    }
}

diesel::table! {
    banyan_intents (context, version) {
        context -> Text,
        version -> BigInt,
        id -> Text,
        state -> Nullable<Text>,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    banyan_tombstones (context, id) {
        context -> Text,
        id -> Text,
        version -> BigInt,
    }
}

/// The fence lets client writes through.
pub(super) const OPEN: &str = "open";
/// The fence refuses client writes; images are taken.
pub(super) const CLOSED: &str = "closed";
