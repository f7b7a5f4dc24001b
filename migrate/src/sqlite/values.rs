//! SQLite's dynamic values: their order, their identity, and how they are shown.
//!
//! Invariant: two values are the same only if they have the same storage class and the same bits; `1`, `1.0` and
//! `'1'` are three values.

use std::cmp::Ordering;

use rusqlite::types::{Value, ValueRef};

/// A row's values, in the order of a mapping's columns.
pub type Row = Vec<Value>;

/// A root key.
pub type Key = Value;

/// SQLite's order under BINARY: null, then numbers, then text, then blobs.
pub(crate) fn order(left: ValueRef<'_>, right: ValueRef<'_>) -> Ordering {
    use ValueRef::{Blob, Integer, Null, Real, Text};
    match (left, right) {
        (Integer(left), Integer(right)) => left.cmp(&right),
        (Text(left), Text(right)) | (Blob(left), Blob(right)) => left.cmp(right),
        (Real(left), Real(right)) => left.total_cmp(&right),
        (Integer(left), Real(right)) => compare_mixed(left, right),
        (Real(left), Integer(right)) => compare_mixed(right, left).reverse(),
        (Null, Null) => Ordering::Equal,
        _ => class(left).cmp(&class(right)),
    }
}

/// Whether two values are the same, bit for bit.
pub(crate) fn same(left: ValueRef<'_>, right: ValueRef<'_>) -> bool {
    match (left, right) {
        (ValueRef::Real(left), ValueRef::Real(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    }
}

/// A value as a person reads it, shortened.
pub fn show(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::Null => return "NULL".to_owned(),
        Value::Integer(number) => return number.to_string(),
        Value::Real(number) => return format!("{number:?}"),
        Value::Blob(bytes) => bytes.iter().take(LONGEST / 2).map(|byte| format!("{byte:02x}")).collect(),
        Value::Text(text) => text.clone(),
    };
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    match value {
        Value::Blob(bytes) => format!("x'{shown}' ({} bytes)", bytes.len()),
        _ => format!("{shown:?}"),
    }
}

/// A key as text, as intents and tombstones hold it.
pub(crate) fn key_text(key: &Key) -> String {
    match key {
        Value::Text(text) => text.clone(),
        other => show(other),
    }
}

fn class(value: ValueRef<'_>) -> u8 {
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 1,
        ValueRef::Text(_) => 2,
        ValueRef::Blob(_) => 3,
    }
}

/// Exact for every integer: an `f64` cannot tell large ones apart, so an equal rounding is settled as integers.
fn compare_mixed(integer: i64, real: f64) -> Ordering {
    #[expect(clippy::cast_precision_loss, reason = "only to find out on which side of the real it lies")]
    let rounded = integer as f64;
    match rounded.partial_cmp(&real) {
        Some(Ordering::Equal) if real.abs() < 9.2e18 => {
            #[expect(clippy::cast_possible_truncation, reason = "within the range of i64 and whole")]
            let whole = real as i64;
            integer.cmp(&whole)
        }
        Some(order) => order,
        None => Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_different_storage_classes_are_never_the_same() {
        let values = [
            ValueRef::Null,
            ValueRef::Integer(1),
            ValueRef::Real(1.0),
            ValueRef::Text(b"1"),
            ValueRef::Blob(b"1"),
        ];
        for (i, left) in values.iter().enumerate() {
            for (j, right) in values.iter().enumerate() {
                assert_eq!(same(*left, *right), i == j);
            }
        }
        assert!(!same(ValueRef::Real(0.0), ValueRef::Real(-0.0)));
    }

    #[test]
    fn values_are_ordered_as_sqlite_orders_them() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        let sql = "SELECT column1 FROM (VALUES (NULL), (-9223372036854775808), (-1.5), (0), (0.5), (1), (9007199254740993), \
                   (9007199254740992.0), (9223372036854775807), (9.3e18), (''), ('a'), ('ab'), ('b'), (x''), (x'00'), (x'ff')) ORDER BY 1";
        let mut statement = conn.prepare(sql).unwrap();
        let sorted: Vec<Value> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        for pair in sorted.windows(2) {
            assert_ne!(order((&pair[0]).into(), (&pair[1]).into()), Ordering::Greater, "{pair:?}");
        }
    }
}
