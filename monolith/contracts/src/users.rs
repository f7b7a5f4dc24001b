//! The users context: people with names, an e-mail address, a phone and postal addresses.

use serde::{Deserialize, Serialize};

use crate::port::PortError;
use crate::{CallContext, FieldError, KeyReused, Page, Timestamp, Unavailable, UserId, port, text};

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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// What the user calls it: `home`, `billing`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200), regex(pattern = text::PATTERN)))]
    pub label: String,
    /// Street and number.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200), regex(pattern = text::PATTERN)))]
    pub street: Option<String>,
    /// Town or city.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200), regex(pattern = text::PATTERN)))]
    pub city: Option<String>,
    /// Postal code.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200), regex(pattern = text::PATTERN)))]
    pub postcode: Option<String>,
    /// Country, by name.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200), regex(pattern = text::PATTERN)))]
    pub country: String,
}

impl Address {
    /// Adds a fault for every part that breaks a rule, named below `field`.
    pub fn check(&self, field: &str, faults: &mut Vec<FieldError>) {
        let parts = [
            ("label", Some(&self.label)),
            ("street", self.street.as_ref()),
            ("city", self.city.as_ref()),
            ("postcode", self.postcode.as_ref()),
            ("country", Some(&self.country)),
        ];
        for (part, text) in parts.into_iter().filter_map(|(part, text)| Some((part, text?))) {
            text::check(faults, &format!("{field}.{part}"), text, 200);
        }
    }
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
        text::check(&mut faults, "name", &name, NAME_MAX);
        text::check(&mut faults, "email", &email, 254);
        let at = email.find('@');
        if !at.is_some_and(|at| at > 0 && at + 1 < email.len()) || email.chars().any(char::is_whitespace) {
            faults.push(FieldError::new("email", "must be an e-mail address such as ann@example.com"));
        }
        if let Some(phone) = &phone {
            text::check(&mut faults, "phone", phone, 40);
        }
        if addresses.len() > ADDRESSES_MAX {
            faults.push(FieldError::new("addresses", format!("must hold at most {ADDRESSES_MAX} addresses")));
        }
        for (index, address) in addresses.iter().enumerate() {
            address.check(&format!("addresses[{index}]"), &mut faults);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { name, email: email.to_lowercase(), phone, addresses })
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
    /// The user was changed since the caller looked.
    #[error("user {id} was changed since")]
    Changed {
        /// The user.
        id: UserId,
    },
    /// The client's key belongs to another command.
    #[error(transparent)]
    KeyReused(#[from] KeyReused),
    /// This side does not own the users' data now, so it takes no writes.
    #[error("users are written on the other side now")]
    NotOwner,
    /// The context could not be asked or failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl PortError for UsersError {
    fn unavailable(&self) -> Option<&Unavailable> {
        if let Self::Unavailable(cause) = self { Some(cause) } else { None }
    }
}

port! {
/// The users context, as others call it.
///
/// Writes are accepted only by the side that owns the context's data, and each takes the next version. Where `expected` is
/// given, a user at another version is left as it is and answered with [`UsersError::Changed`].
pub trait Users observed by ObservedUsers in CONTEXT;
{
    /// Stores a new user. Idempotent by the key of the call; without one, the e-mail address keeps a repeat from adding
    /// a second.
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError>;

    /// The user with this id.
    async fn get(&self, ctx: &CallContext, id: UserId) -> Result<User, UsersError>;

    /// Replaces all details of a user. Idempotent but for the version.
    async fn update(&self, ctx: &CallContext, id: UserId, details: UserDetails, expected: Option<i64>) -> Result<User, UsersError>;

    /// Removes a user and returns the version of the removal. A second removal is [`UsersError::NotFound`].
    async fn delete(&self, ctx: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError>;

    /// Users with an id above `after`, ascending, at most `limit`.
    async fn list(&self, ctx: &CallContext, after: Option<UserId>, limit: u32) -> Result<Page<User>, UsersError>;

    /// Stores those users whose e-mail address is not there yet, in one transaction, and returns the ids of all in
    /// the order given, with whether each is new. Idempotent.
    async fn ensure(&self, ctx: &CallContext, batch: Vec<UserDetails>) -> Result<Vec<Ensured<UserId>>, UsersError>;
}
}

/// The id of something that a bulk call found or added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ensured<Id> {
    /// Its id.
    pub id: Id,
    /// Whether this call added it.
    pub added: bool,
}
