//! What may be shown of a setting's value.
//!
//! Invariant: whether a setting is secret is asked of its type, never guessed from its name; of a secret, at most the
//! parts of a URL around its password are shown.

use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::Value;
use figment::{Error, Figment};
use serde::de::DeserializeOwned;

use super::SECRET_WANTS;

/// What stands in place of a secret.
const MASK: &str = "********";
/// What stands in place of a password inside a URL.
const PASSWORD_MASK: &str = "***";

/// Characters of a message; a value that somebody put into the wrong place can be of any length.
const MOST_SHOWN: usize = 600;

/// Whether a type error is one of a secret, so that what was found must not be quoted.
pub(super) fn is_of_secret(error: &Error) -> bool {
    matches!(&error.kind, Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) if wanted == SECRET_WANTS)
}

/// Whether the setting is secret: offered a number, it says so. `figment` must hold settings that are right.
pub(super) fn is_secret<T: DeserializeOwned>(figment: &Figment, key: &str) -> bool {
    let offered = figment.clone().merge(Serialized::default(key, -1_i64)).extract::<T>();
    offered.err().is_some_and(|refusal| refusal.into_iter().any(|error| is_of_secret(&error)))
}

/// A secret as it may be shown; an empty one is shown as empty.
pub(super) fn secret(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    // A password may stand behind the question mark, too.
    masked_url(text).filter(|_| !text.contains('?')).unwrap_or_else(|| MASK.to_owned())
}

/// A value that is no secret, with the passwords of URLs masked.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(_, text) => masked_url(text).unwrap_or_else(|| text.clone()),
        Value::Empty(..) => "-".to_owned(),
        other => serde_json::to_string(&masked(other)).unwrap_or_default(),
    }
}

/// A text as it may stand in a message: its beginning and its end, where it is long.
pub fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= MOST_SHOWN {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - MOST_SHOWN / 3).collect();
    text.chars().take(MOST_SHOWN / 2).collect::<String>() + " … " + &end
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(_, text) => Value::from(masked_url(text).unwrap_or_else(|| text.clone())),
        Value::Array(tag, items) => Value::Array(*tag, items.iter().map(masked).collect()),
        Value::Dict(tag, entries) => {
            Value::Dict(*tag, entries.iter().map(|(name, value)| (name.clone(), masked(value))).collect())
        }
        other => other.clone(),
    }
}

/// A URL with user information, its password masked; `None` for any other text.
///
/// Everything before the last `@` counts as user information, because a password that was not escaped may hold `/` and
/// `@`.
fn masked_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (user, place) = rest.rsplit_once('@')?;
    Some(match user.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{PASSWORD_MASK}@{place}"),
        None => text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_shown() {
        for (url, shown) in [
            ("postgres://shop:p@ss/w:ord@db/shop", "postgres://shop:***@db/shop"),
            ("postgres://shop@db/shop", "postgres://shop@db/shop"),
            ("postgres://db/shop?password=hunter2", MASK),
            ("postgres://shop@db/shop?password=hunter2", MASK),
            ("", ""),
        ] {
            assert_eq!(secret(url), shown);
        }
    }
}
