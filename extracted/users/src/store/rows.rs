//! The rows that hang on a person.
//!
//! Invariant: no contact and no address without its person.

use std::collections::HashMap;

use contracts::users::{User, UserDetails};
use db::Conn;
use diesel::{ExpressionMethods, QueryDsl, QueryResult, RunQueryDsl, SelectableHelper};

use super::StoreError;
use crate::domain::{self, AddressRow, Contact, Person, Rows};
use crate::schema::{address, contact, person};

/// Adds contacts and addresses. One statement each: diesel keeps a prepared statement of one row, not of many.
pub(super) fn add_parts(conn: &mut Conn, person_id: i64, details: &UserDetails) -> QueryResult<()> {
    for row in domain::contacts(person_id, details) {
        diesel::insert_into(contact::table).values(&row).execute(conn)?;
    }
    for row in domain::addresses(person_id, details) {
        diesel::insert_into(address::table).values(&row).execute(conn)?;
    }
    Ok(())
}

/// Removes contacts and addresses.
pub(super) fn remove_parts(conn: &mut Conn, person_id: i64) -> QueryResult<()> {
    diesel::delete(contact::table.filter(contact::person_id.eq(person_id))).execute(conn)?;
    diesel::delete(address::table.filter(address::person_id.eq(person_id))).execute(conn)?;
    Ok(())
}

/// Removes a person with everything, if there is one.
pub(super) fn remove(conn: &mut Conn, person_id: i64) -> QueryResult<()> {
    remove_parts(conn, person_id)?;
    diesel::delete(person::table.find(person_id)).execute(conn)?;
    Ok(())
}

/// The users of persons that are a whole stretch of ids, in ascending order.
pub(super) fn users_of(conn: &mut Conn, persons: Vec<Person>) -> Result<Vec<User>, StoreError> {
    let (Some(first), Some(last)) = (persons.first(), persons.last()) else { return Ok(Vec::new()) };
    let (first, last) = (first.person_id, last.person_id);
    // By range instead of by list: the statement stays the same for every page, and persons between two of the
    // stretch do not exist.
    let contacts: Vec<Contact> = contact::table
        .filter(contact::person_id.between(first, last))
        .order((contact::person_id, contact::kind))
        .select(Contact::as_select())
        .load(conn)?;
    let addresses: Vec<AddressRow> = address::table
        .filter(address::person_id.between(first, last))
        .order((address::person_id, address::position))
        .select(AddressRow::as_select())
        .load(conn)?;
    let mut contacts = by_person(contacts, |row| row.person_id);
    let mut addresses = by_person(addresses, |row| row.person_id);
    let user = |person: Person| {
        let contacts = contacts.remove(&person.person_id).unwrap_or_default();
        let addresses = addresses.remove(&person.person_id).unwrap_or_default();
        Ok(domain::inverse(Rows { person, contacts, addresses })?)
    };
    persons.into_iter().map(user).collect()
}

/// Groups rows without changing their order within a person.
fn by_person<T>(rows: Vec<T>, person_id: impl Fn(&T) -> i64) -> HashMap<i64, Vec<T>> {
    let mut groups: HashMap<i64, Vec<T>> = HashMap::new();
    for row in rows {
        groups.entry(person_id(&row)).or_default().push(row);
    }
    groups
}
