//! What the libraries say of a wrong value, in words of the file.
//!
//! Invariant: no name of a type is left in it.

use figment::error::{Actual, Kind};

use super::mask::shortened;

/// What is wrong with a value.
pub(super) fn fault(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => {
            format!("found {}, expected {}", self::found(found), expected(wanted))
        }
        Kind::UnknownVariant(found, known) => {
            format!("`{}` is not known here; use one of: {}", shortened(found), known.join(", "))
        }
        Kind::MissingField(name) => format!("`{name}` is missing"),
        other => other.to_string(),
    }
}

fn found(found: &Actual) -> String {
    match found {
        Actual::Map => "a table".to_owned(),
        Actual::Seq => "a list".to_owned(),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Str(text) => format!("the text `{}`", shortened(text)),
        other => other.to_string(),
    }
}

/// Names of types come from the standard library; our own say what they want in words.
fn expected(wanted: &str) -> &str {
    match wanted {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text",
        wanted if wanted.starts_with("struct ") => "a table",
        wanted if wanted.starts_with("enum ") => "a word, or a table with one",
        wanted => wanted,
    }
}
