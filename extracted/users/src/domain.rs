//! How a user is told in persons, contacts and addresses, and the way back.
//!
//! Invariant: `inverse(map(x)) = x` for every user.

use contracts::users::{Address, User, UserDetails};
use contracts::{IdError, Timestamp, UserId};
use diesel::prelude::{AsChangeset, Identifiable, Insertable, Queryable, Selectable};

use crate::schema::{address, contact, person};

/// Kind of the contact that every person has, and that is unique.
pub(crate) const EMAIL: &str = "email";
/// Kind of the contact that a person may lack.
pub(crate) const PHONE: &str = "phone";

/// One row of `person`.
#[derive(Debug, Clone, PartialEq, Eq, Identifiable, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = person, primary_key(person_id))]
#[diesel(treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct Person {
    pub(crate) person_id: i64,
    pub(crate) given_name: String,
    pub(crate) family_name: Option<String>,
    pub(crate) registered_ms: i64,
    pub(crate) changed_ms: i64,
    pub(crate) row_version: i64,
}

/// One row of `contact`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = contact)]
pub(crate) struct Contact {
    pub(crate) person_id: i64,
    pub(crate) kind: String,
    pub(crate) value: String,
}

/// One row of `address`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = address, treat_none_as_default_value = false)]
pub(crate) struct AddressRow {
    pub(crate) person_id: i64,
    pub(crate) position: i64,
    pub(crate) label: String,
    pub(crate) street: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) postcode: Option<String>,
    pub(crate) country: String,
}

/// Everything that the tables hold of one user; the addresses in order of position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) person: Person,
    pub(crate) contacts: Vec<Contact>,
    pub(crate) addresses: Vec<AddressRow>,
}

/// Why rows are not ones that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("no e-mail contact")]
    NoEmail,
}

/// A name as given and family name: parted at its first blank, so that joining restores every name.
pub(crate) fn split_name(name: &str) -> (&str, Option<&str>) {
    match name.split_once(' ') {
        Some((given, family)) => (given, Some(family)),
        None => (name, None),
    }
}

/// The inverse of [`split_name`].
pub(crate) fn join_name(given: String, family: Option<String>) -> String {
    match family {
        Some(family) => format!("{given} {family}"),
        None => given,
    }
}

/// The rows of a user.
pub(crate) fn map(user: &User) -> Rows {
    let (given_name, family_name) = split_name(&user.details.name);
    let person_id = user.id.get();
    Rows {
        person: Person {
            person_id,
            given_name: given_name.to_owned(),
            family_name: family_name.map(str::to_owned),
            registered_ms: user.created_at.as_millis(),
            changed_ms: user.updated_at.as_millis(),
            row_version: user.version,
        },
        contacts: contacts(person_id, &user.details),
        addresses: addresses(person_id, &user.details),
    }
}

/// The contacts of a user.
pub(crate) fn contacts(person_id: i64, details: &UserDetails) -> Vec<Contact> {
    let kinds = [(EMAIL, Some(&details.email)), (PHONE, details.phone.as_ref())];
    let row = |(kind, value): (&str, Option<&String>)| {
        Some(Contact { person_id, kind: kind.to_owned(), value: value?.clone() })
    };
    kinds.into_iter().filter_map(row).collect()
}

/// The addresses of a user, counted from 0.
pub(crate) fn addresses(person_id: i64, details: &UserDetails) -> Vec<AddressRow> {
    let row = |(position, address): (i64, &Address)| AddressRow {
        person_id,
        position,
        label: address.label.clone(),
        street: address.street.clone(),
        city: address.city.clone(),
        postcode: address.postcode.clone(),
        country: address.country.clone(),
    };
    (0_i64..).zip(&details.addresses).map(row).collect()
}

/// The user of rows.
pub(crate) fn inverse(rows: Rows) -> Result<User, RowError> {
    let Rows { person, contacts, addresses } = rows;
    let value_of =
        |kind: &str| contacts.iter().find(|contact| contact.kind == kind).map(|it| it.value.clone());
    Ok(User {
        id: UserId::try_from(person.person_id)?,
        details: UserDetails {
            name: join_name(person.given_name, person.family_name),
            email: value_of(EMAIL).ok_or(RowError::NoEmail)?,
            phone: value_of(PHONE),
            addresses: addresses.into_iter().map(address_of).collect(),
        },
        created_at: Timestamp::from_millis(person.registered_ms),
        updated_at: Timestamp::from_millis(person.changed_ms),
        version: person.row_version,
    })
}

fn address_of(row: AddressRow) -> Address {
    Address {
        label: row.label,
        street: row.street,
        city: row.city,
        postcode: row.postcode,
        country: row.country,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::*;

    fn names() -> impl Strategy<Value = String> {
        // Blanks everywhere, also doubled and at the ends; every script.
        proptest::prop_oneof!["[a-c ]{0,8}", ".{0,40}", "\\PC{1,10}( \\PC{1,10}){0,3}"]
    }

    fn part() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(".{0,20}")
    }

    fn users() -> impl Strategy<Value = User> {
        let address = (".{0,9}", part(), part(), part(), ".{0,9}").prop_map(
            |(label, street, city, postcode, country)| Address { label, street, city, postcode, country },
        );
        let texts = (names(), ".{1,40}", part(), prop::collection::vec(address, 0..5));
        let numbers = (1..i64::MAX, any::<i64>(), any::<i64>(), any::<i64>());
        (numbers, texts).prop_map(|((id, from, to, version), (name, email, phone, addresses))| User {
            id: UserId::try_from(id).unwrap(),
            details: UserDetails { name, email, phone, addresses },
            created_at: Timestamp::from_millis(from),
            updated_at: Timestamp::from_millis(to),
            version,
        })
    }

    proptest! {
        #[test]
        fn the_inverse_of_the_mapping_restores_every_user(user in users()) {
            proptest::prop_assert_eq!(inverse(map(&user)).unwrap(), user);
        }

        #[test]
        fn joining_a_split_name_restores_it(name in names()) {
            let (given, family) = split_name(&name);
            proptest::prop_assert!(!given.contains(' '));
            proptest::prop_assert_eq!(join_name(given.to_owned(), family.map(str::to_owned)), name);
        }
    }

    #[test]
    fn names_split_at_the_first_blank() {
        assert_eq!(split_name("Plato"), ("Plato", None));
        assert_eq!(split_name("Ann Lee"), ("Ann", Some("Lee")));
        assert_eq!(split_name("Juan Carlos de Borbón"), ("Juan", Some("Carlos de Borbón")));
        assert_eq!(split_name("A  B"), ("A", Some(" B")));
        assert_eq!(split_name("שרה כהן"), ("שרה", Some("כהן")));
    }

    #[test]
    fn a_person_without_an_e_mail_contact_is_reported() {
        let rows = Rows {
            person: Person {
                person_id: 1,
                given_name: "Ann".to_owned(),
                family_name: None,
                registered_ms: 0,
                changed_ms: 0,
                row_version: 1,
            },
            contacts: Vec::new(),
            addresses: Vec::new(),
        };
        assert!(matches!(inverse(rows), Err(RowError::NoEmail)));
    }
}
