//! The hash of a row, in SQL that both ends run.
//!
//! Invariant: each column goes in with a seed or a place of its own, and what they make together is mixed once more: else values
//! exchanged between two columns, or between two rows of a part, would cancel out. All 64 bits count: PostgreSQL's hash of a
//! bigint lays its two halves over each other (-1 and 4294967295 are alike to it), but takes its seed whole, so numbers go in
//! as seeds.

use super::types::Type;

/// SQL for the hash of a row of values of these types, as a bigint.
pub(super) fn of(values: &[String], types: &[Type]) -> String {
    let (mut hashes, mut bytes) = (Vec::new(), Vec::new());
    for (at, (value, kind)) in values.iter().zip(types).enumerate() {
        match hashed(kind, value, at + 1) {
            Hashed::Alone(hash) => hashes.push(format!("coalesce({hash}, 0)")),
            Hashed::Bytes(sent) => bytes.push(sent),
        }
    }
    if !bytes.is_empty() {
        // No function that SQL may call takes bytes alone.
        hashes.push(format!("hash_array_extended(ARRAY[{}], 0)", bytes.join(", ")));
    }
    of_number(0, &hashes.join(" # "))
}

/// How a value is hashed.
enum Hashed {
    /// SQL for its hash, NULL of NULL.
    Alone(String),
    /// SQL for its bytes, which are hashed with those of other columns.
    Bytes(String),
}

/// Two values hash alike only if they are the same to the last bit that a reader could see: 0 and -0 are not, nor are 1.5 and
/// 1.50. What has neither a hash nor bytes of that kind is hashed as its pinned text.
fn hashed(kind: &Type, value: &str, seed: usize) -> Hashed {
    let cast = format!("({value})::{}", kind.base);
    let sent = |function: &str| Hashed::Bytes(format!("{function}({cast})"));
    match kind.base.as_str() {
        "smallint" | "integer" | "bigint" => Hashed::Alone(of_number(seed, &format!("{cast}::bigint"))),
        "boolean" => Hashed::Alone(of_number(seed, &format!("{cast}::integer"))),
        "uuid" => Hashed::Alone(format!("uuid_hash_extended({cast}, {seed})")),
        "bytea" => Hashed::Bytes(cast),
        "date" => sent("date_send"),
        "timestamp without time zone" => sent("timestamp_send"),
        "timestamp with time zone" => sent("timestamptz_send"),
        "numeric" => sent("numeric_send"),
        "real" => sent("float4send"),
        "double precision" => sent("float8send"),
        "money" => sent("cash_send"),
        "bpchar" => sent("bpcharsend"),
        _ => Hashed::Alone(format!("hashtextextended(({value})::text COLLATE \"C\", {seed})")),
    }
}

fn of_number(seed: usize, number: &str) -> String {
    format!("hashint4extended({seed}, {number})")
}
