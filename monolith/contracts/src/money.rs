//! Amounts of money in whole minor units.

use serde::{Deserialize, Serialize};

/// An ISO 4217 currency code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Pound sterling.
    pub const GBP: Self = Self(*b"GBP");

    /// The three letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl TryFrom<String> for Currency {
    type Error = MoneyError;

    fn try_from(text: String) -> Result<Self, MoneyError> {
        match text.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|letter| letter.is_ascii_uppercase()) => Ok(Self([*a, *b, *c])),
            _ => Err(MoneyError::NoCurrency { text }),
        }
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Currency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$", "examples": ["GBP"] })
    }
}

/// An amount in minor units (pence, cents) of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units: 255 is £2.55.
    pub minor: i64,
    /// Of which currency.
    pub currency: Currency,
}

/// Why an amount could not be formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not three capital letters.
    #[error("`{text}` is not a currency: three capital letters of ISO 4217 are, such as GBP")]
    NoCurrency {
        /// What stood there instead.
        text: String,
    },
    /// The sum does not fit into 64 bits.
    #[error("the amount is too large")]
    TooLarge,
    /// Amounts of two currencies cannot be added.
    #[error("{left} and {right} cannot be added")]
    MixedCurrencies {
        /// Currency of the first amount.
        left: String,
        /// Currency of the second amount.
        right: String,
    },
}

impl Money {
    /// That many pence.
    pub fn gbp(minor: i64) -> Self {
        Self { minor, currency: Currency::GBP }
    }

    /// This amount `quantity` times.
    pub fn times(self, quantity: u32) -> Result<Self, MoneyError> {
        let minor = self.minor.checked_mul(i64::from(quantity)).ok_or(MoneyError::TooLarge)?;
        Ok(Self { minor, ..self })
    }

    /// The sum of both.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::MixedCurrencies {
                left: self.currency.into(),
                right: other.currency.into(),
            });
        }
        let minor = self.minor.checked_add(other.minor).ok_or(MoneyError::TooLarge)?;
        Ok(Self { minor, ..self })
    }
}
