//! The form in which the table holds a user, and the way back.
//!
//! Invariant: `user(row(u)) = u` for every user.

use contracts::users::{Address, User, UserDetails};
use contracts::{IdError, Timestamp, UserId};
use diesel::prelude::{AsChangeset, Identifiable, Insertable, Queryable, Selectable};

use crate::schema::users_users;

/// One row of `users_users`.
#[derive(Debug, Clone, PartialEq, Eq, Identifiable, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = users_users, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) phone: Option<String>,
    pub(crate) addresses: String,
    pub(crate) created_at: String,
    pub(crate) updated_at: String,
    pub(crate) version: i64,
}

/// The part of a row that a client sets.
#[derive(Debug, Clone, AsChangeset, Insertable)]
#[diesel(table_name = users_users, treat_none_as_default_value = false, treat_none_as_null = true)]
pub(crate) struct DetailsRow {
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) phone: Option<String>,
    pub(crate) addresses: String,
}

/// Why a row is not one that this program wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("an id")]
    Id(#[from] IdError),
    #[error("addresses")]
    Addresses(#[from] serde_json::Error),
    #[error("a time")]
    Time { text: String },
}

/// The row of a user.
pub(crate) fn row(user: &User) -> Result<Row, RowError> {
    let details = details_row(&user.details)?;
    Ok(Row {
        id: user.id.get(),
        name: details.name,
        email: details.email,
        phone: details.phone,
        addresses: details.addresses,
        created_at: user.created_at.to_string(),
        updated_at: user.updated_at.to_string(),
        version: user.version,
    })
}

/// The columns of a user's details.
pub(crate) fn details_row(details: &UserDetails) -> Result<DetailsRow, RowError> {
    Ok(DetailsRow {
        name: details.name.clone(),
        email: details.email.clone(),
        phone: details.phone.clone(),
        addresses: serde_json::to_string(&details.addresses)?,
    })
}

/// The user of a row.
pub(crate) fn user(row: Row) -> Result<User, RowError> {
    let addresses: Vec<Address> = serde_json::from_str(&row.addresses)?;
    Ok(User {
        id: UserId::try_from(row.id)?,
        details: UserDetails { name: row.name, email: row.email, phone: row.phone, addresses },
        created_at: time(row.created_at)?,
        updated_at: time(row.updated_at)?,
        version: row.version,
    })
}

fn time(text: String) -> Result<Timestamp, RowError> {
    text.parse().map_err(|_| RowError::Time { text })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, proptest};

    use super::*;

    fn part() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(".{1,20}")
    }

    fn users() -> impl Strategy<Value = User> {
        let address = (".{1,9}", part(), part(), part(), ".{1,9}").prop_map(
            |(label, street, city, postcode, country)| Address { label, street, city, postcode, country },
        );
        let texts = (".{1,40}", ".{1,40}", part(), prop::collection::vec(address, 0..4));
        // Years 0000 to 9999: those that the column can hold as text of fixed width.
        let times =
            (-62_167_219_200_000_i64..253_402_300_799_999, -62_167_219_200_000_i64..253_402_300_799_999);
        (1..i64::MAX, texts, times, any::<i64>()).prop_map(
            |(id, (name, email, phone, addresses), (from, to), version)| User {
                id: UserId::try_from(id).unwrap(),
                details: UserDetails { name, email, phone, addresses },
                created_at: Timestamp::from_millis(from),
                updated_at: Timestamp::from_millis(to),
                version,
            },
        )
    }

    proptest! {
        #[test]
        fn a_user_survives_being_a_row(before in users()) {
            let after = user(row(&before).unwrap()).unwrap();
            proptest::prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn addresses_are_compact_json_in_field_order_with_explicit_nulls() {
        let address = Address {
            label: "home".to_owned(),
            street: None,
            city: Some("Łódź".to_owned()),
            postcode: None,
            country: "Poland".to_owned(),
        };
        let details = UserDetails {
            name: "X".to_owned(),
            email: "x@y".to_owned(),
            phone: None,
            addresses: vec![address],
        };
        let expected = r#"[{"label":"home","street":null,"city":"Łódź","postcode":null,"country":"Poland"}]"#;
        assert_eq!(details_row(&details).unwrap().addresses, expected);
    }
}
