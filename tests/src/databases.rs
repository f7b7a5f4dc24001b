//! The databases of both sides, read by code that knows neither `migrate` nor the stores: the judge that compares them
//! must not share a mistake with those who wrote them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Value, json};

/// A user as one side's database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What the public API shows.
    pub public: Value,
    /// The context's version counter at the last change.
    pub version: i64,
}

/// Opens a database for reading while servers use it.
pub fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .with_context(|| format!("cannot open the database {}", path.display()))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

/// The one number that a query yields.
pub fn number(path: &Path, sql: &str) -> Result<i64> {
    let value = open(path)?.query_row(sql, [], |row| row.get(0));
    value.with_context(|| format!("cannot run `{sql}` on {}", path.display()))
}

/// The rows of a query, each value as text; nothing is empty.
pub fn rows(path: &Path, sql: &str) -> Result<Vec<Vec<String>>> {
    let connection = open(path)?;
    let mut query = connection.prepare(sql)?;
    let width = query.column_count();
    let rows =
        query.query_map([], |row| (0..width).map(|column| Ok(text(row.get_ref(column)?))).collect())?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// All users of the monolith.
pub fn monolith_users(path: &Path) -> Result<BTreeMap<i64, Stored>> {
    let connection = open(path)?;
    let mut query = connection.prepare(
        "SELECT id, name, email, phone, addresses, created_at, updated_at, version FROM users_users ORDER BY id",
    )?;
    let rows = query.query_and_then([], |row| {
        let addresses: Value = serde_json::from_str(&row.get::<_, String>(4)?)?;
        let public = json!({
            "id": row.get::<_, i64>(0)?,
            "name": row.get::<_, String>(1)?,
            "email": row.get::<_, String>(2)?,
            "phone": row.get::<_, Option<String>>(3)?,
            "addresses": addresses,
            "created_at": row.get::<_, String>(5)?,
            "updated_at": row.get::<_, String>(6)?,
        });
        anyhow::Ok((row.get(0)?, Stored { public, version: row.get(7)? }))
    })?;
    rows.collect()
}

/// All users of the extracted service, put together from its tables.
pub fn service_users(path: &Path) -> Result<BTreeMap<i64, Stored>> {
    let connection = open(path)?;
    // One read transaction, or the three tables would be read at three moments.
    let connection = connection.unchecked_transaction()?;
    let mut contacts = pairs(&connection, "SELECT person_id, kind, value FROM contact", |row| {
        Ok((row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    let sql =
        "SELECT person_id, label, street, city, postcode, country FROM address ORDER BY person_id, position";
    let mut addresses = pairs(&connection, sql, |row| {
        Ok(json!({
            "label": row.get::<_, String>(1)?,
            "street": row.get::<_, Option<String>>(2)?,
            "city": row.get::<_, Option<String>>(3)?,
            "postcode": row.get::<_, Option<String>>(4)?,
            "country": row.get::<_, String>(5)?,
        }))
    })?;
    let mut query = connection.prepare(
        "SELECT person_id, given_name, family_name, registered_ms, changed_ms, row_version FROM person ORDER BY 1",
    )?;
    let rows = query.query_and_then([], |row| {
        let id: i64 = row.get(0)?;
        let given: String = row.get(1)?;
        let family: Option<String> = row.get(2)?;
        let contacts = contacts.remove(&id).unwrap_or_default();
        let contact =
            |kind: &str| contacts.iter().find(|(found, _)| found == kind).map(|(_, value)| value.as_str());
        let public = json!({
            "id": id,
            "name": family.map_or(given.clone(), |family| format!("{given} {family}")),
            "email": contact("email"),
            "phone": contact("phone"),
            "addresses": addresses.remove(&id).unwrap_or_default(),
            "created_at": instant(row.get(3)?)?,
            "updated_at": instant(row.get(4)?)?,
        });
        anyhow::Ok((id, Stored { public, version: row.get(5)? }))
    })?;
    rows.collect()
}

/// Compares both sides row by row. Each difference is told in a line.
pub fn differences(monolith: &BTreeMap<i64, Stored>, service: &BTreeMap<i64, Stored>) -> Vec<String> {
    let missing = monolith.iter().filter_map(|(id, user)| match service.get(id) {
        None => Some(format!("user {id} is missing in the service's database")),
        Some(other) if other != user => {
            Some(format!("user {id} differs: monolith {user:?}, service {other:?}"))
        }
        Some(_) => None,
    });
    let extra = service.keys().filter(|id| !monolith.contains_key(id));
    missing.chain(extra.map(|id| format!("user {id} is only in the service's database"))).collect()
}

/// All orders of the monolith: id and total in minor units.
pub fn order_totals(path: &Path) -> Result<BTreeMap<i64, i64>> {
    let connection = open(path)?;
    let mut query = connection.prepare("SELECT id, total_minor FROM orders_orders")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn instant(millis: i64) -> Result<String> {
    Ok(format!("{:.3}", jiff::Timestamp::from_millisecond(millis)?))
}

/// Rows by the id in their first column.
fn pairs<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<BTreeMap<i64, Vec<T>>> {
    let mut query = connection.prepare(sql)?;
    let rows = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, read(row)?)))?;
    let mut found: BTreeMap<i64, Vec<T>> = BTreeMap::new();
    for row in rows {
        let (id, value) = row?;
        found.entry(id).or_default().push(value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_extra_and_differing_rows_are_told() {
        let user = |name: &str| Stored { public: json!({ "name": name }), version: 1 };
        let monolith = BTreeMap::from([(1, user("a")), (2, user("b")), (3, user("c"))]);
        let service = BTreeMap::from([(1, user("a")), (2, user("x")), (4, user("d"))]);
        let told = differences(&monolith, &service);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(differences(&monolith, &monolith.clone()).is_empty());
    }

    #[test]
    fn instants_have_three_decimals() {
        assert_eq!(instant(1_291_191_960_000).unwrap(), "2010-12-01T08:26:00.000Z");
    }
}
