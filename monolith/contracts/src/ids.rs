//! Identifiers: one type each, so that a user's id cannot be passed for an order's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not the id of anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: a whole number from 1 to 9223372036854775807 is")]
pub struct IdError {
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $name(i64);

        impl $name {
            /// The number itself, as databases and URLs hold it.
            pub fn get(self) -> i64 {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = IdError;

            fn try_from(number: i64) -> Result<Self, IdError> {
                if number >= 1 { Ok(Self(number)) } else { Err(IdError { text: number.to_string() }) }
            }
        }

        impl From<$name> for i64 {
            fn from(id: $name) -> i64 {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            /// Only the canonical decimal form: no sign, no leading zero, no blanks.
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse::<i64>()
                    .ok()
                    .filter(|number| number.to_string() == text)
                    .and_then(|number| Self::try_from(number).ok())
                    .ok_or_else(|| IdError { text: text.chars().take(40).collect() })
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A user's id.
    UserId
);
id!(
    /// A product's id.
    ProductId
);
id!(
    /// An order's id.
    OrderId
);
id!(
    /// A category's id.
    CategoryId
);
id!(
    /// A warehouse's id.
    WarehouseId
);

/// A cart's id: 32 random hexadecimal digits, since whoever knows it may fill the cart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CartId(String);

/// A text that is not the id of a cart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the id of a cart: 32 digits from 0 to f are")]
pub struct CartIdError {
    text: String,
}

impl CartId {
    /// The id with these 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CartId {
    type Error = CartIdError;

    fn try_from(text: String) -> Result<Self, CartIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(is_digit) {
            return Ok(Self(text));
        }
        Err(CartIdError { text: text.chars().take(40).collect() })
    }
}

impl From<CartId> for String {
    fn from(id: CartId) -> String {
        id.0
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for CartId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CartId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
    }
}

impl FromStr for CartId {
    type Err = CartIdError;

    fn from_str(text: &str) -> Result<Self, CartIdError> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for CartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_positive_numbers_are_ids() {
        assert_eq!("42".parse::<UserId>().unwrap().get(), 42);
        for text in ["", "0", "-1", "+1", "01", "1 ", "1.0", "abc", "9223372036854775808"] {
            assert!(text.parse::<UserId>().is_err(), "{text:?} was taken for an id");
        }
    }
}
