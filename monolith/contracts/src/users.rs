//! The users context: people with names, an e-mail address, a phone and postal addresses.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{CallContext, FieldError, Page, Timestamp, Unavailable, UserId};

/// The context's name, as flags, routes and mappings know it.
pub const CONTEXT: &str = "users";

/// Longest name, in characters.
pub const NAME_MAX: usize = 200;
/// Most postal addresses of one user.
pub const ADDRESSES_MAX: usize = 20;

/// A user as the context holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Assigned by the owner; never given out twice, not even after a delete.
    pub id: UserId,
    /// What the client may set.
    #[serde(flatten)]
    pub details: UserDetails,
    /// When the user was first stored.
    pub created_at: Timestamp,
    /// When the user was last changed.
    pub updated_at: Timestamp,
    /// The context's version counter at the last change: grows with every write to any user, on either side.
    pub version: i64,
}

/// What a client may say of a user, checked: see [`UserDetails::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDetails {
    /// One word or many, of any script.
    pub name: String,
    /// Lower case, unique among users.
    pub email: String,
    /// As the user wrote it; absent where unknown.
    pub phone: Option<String>,
    /// In the user's order.
    pub addresses: Vec<Address>,
}

/// A postal address. Only the country is always known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// What the user calls it: `home`, `billing`.
    pub label: String,
    /// Street and number.
    pub street: Option<String>,
    /// Town or city.
    pub city: Option<String>,
    /// Postal code.
    pub postcode: Option<String>,
    /// Country, by name.
    pub country: String,
}

impl UserDetails {
    /// Checks what a client wrote and brings it into canonical form (the e-mail address in lower case).
    /// All faults are reported, each with its field.
    pub fn parse(
        name: String,
        email: String,
        phone: Option<String>,
        addresses: Vec<Address>,
    ) -> Result<Self, Vec<FieldError>> {
        let mut faults = Vec::new();
        check_text(&mut faults, "name", &name, NAME_MAX);
        check_text(&mut faults, "email", &email, 254);
        let at = email.find('@');
        if !at.is_some_and(|at| at > 0 && at + 1 < email.len()) || email.chars().any(char::is_whitespace) {
            faults.push(FieldError::new("email", "must be an e-mail address such as ann@example.com"));
        }
        if let Some(phone) = &phone {
            check_text(&mut faults, "phone", phone, 40);
        }
        if addresses.len() > ADDRESSES_MAX {
            faults.push(FieldError::new("addresses", format!("must hold at most {ADDRESSES_MAX} addresses")));
        }
        for (index, address) in addresses.iter().enumerate() {
            let parts = [
                ("label", Some(&address.label)),
                ("street", address.street.as_ref()),
                ("city", address.city.as_ref()),
                ("postcode", address.postcode.as_ref()),
                ("country", Some(&address.country)),
            ];
            for (part, text) in parts.into_iter().filter_map(|(part, text)| Some((part, text?))) {
                check_text(&mut faults, &format!("addresses[{index}].{part}"), text, 200);
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { name, email: email.to_lowercase(), phone, addresses })
    }
}

/// Texts are shown and compared as they are, so blank ones and control characters are refused, not repaired.
fn check_text(faults: &mut Vec<FieldError>, field: &str, text: &str, max: usize) {
    if text.trim().is_empty() {
        faults.push(FieldError::new(field, "must not be empty"));
    } else if text.trim() != text {
        faults.push(FieldError::new(field, "must not begin or end with a blank"));
    } else if text.chars().count() > max {
        faults.push(FieldError::new(field, format!("must have at most {max} characters")));
    } else if text.chars().any(char::is_control) {
        faults.push(FieldError::new(field, "must not contain control characters"));
    }
}

/// What went wrong in a call to [`Users`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum UsersError {
    /// There is no such user, or no longer.
    #[error("there is no user {id}")]
    NotFound {
        /// The id asked for.
        id: UserId,
    },
    /// Another user has this e-mail address.
    #[error("the e-mail address is taken by another user")]
    EmailTaken {
        /// The address.
        email: String,
    },
    /// This side does not own the users' data now, so it takes no writes.
    #[error("users are written on the other side now")]
    NotOwner,
    /// The context could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The users context, as others call it.
///
/// Writes are accepted only by the side that owns the context's data, and each takes the next version.
#[async_trait]
pub trait Users: Send + Sync {
    /// Stores a new user. Not idempotent by itself: the e-mail address keeps a repeated call from adding a second.
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError>;

    /// The user with this id.
    async fn get(&self, ctx: &CallContext, id: UserId) -> Result<User, UsersError>;

    /// Replaces all details of a user. Idempotent but for the version.
    async fn update(&self, ctx: &CallContext, id: UserId, details: UserDetails) -> Result<User, UsersError>;

    /// Removes a user and returns the version of the removal. A second removal is [`UsersError::NotFound`].
    async fn delete(&self, ctx: &CallContext, id: UserId) -> Result<i64, UsersError>;

    /// Users with an id above `after`, ascending, at most `limit`.
    async fn list(
        &self,
        ctx: &CallContext,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<User>, UsersError>;

    /// Stores those users whose e-mail address is not there yet, in one transaction, and returns the ids of all in
    /// the order given, with whether each is new. Idempotent.
    async fn ensure(
        &self,
        ctx: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError>;
}

/// The id of something that a bulk call found or added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ensured<Id> {
    /// Its id.
    pub id: Id,
    /// Whether this call added it.
    pub added: bool,
}
