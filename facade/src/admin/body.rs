//! The bodies of changes.

use actix_web::http::StatusCode;
use control::{FlagChange, Side, Weight, Who};
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is to change about a flag; what is left out stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FlagChange")]
pub(super) struct Body {
    /// Percentage of keys whose reads the service answers: 0 to 100, at most two decimals, as a number or a text.
    #[serde(default)]
    #[schemars(with = "Option<Percentage>")]
    reads: Option<Value>,
    /// Which side takes the writes.
    #[serde(default)]
    #[schemars(with = "Option<Side>")]
    writes: Option<String>,
    /// Pass a shut gate; shown as forced from then on.
    #[serde(default)]
    force: bool,
    /// Why, for the audit trail.
    #[schemars(length(min = 1, max = 500))]
    reason: String,
    /// Who, for the audit trail.
    #[schemars(length(min = 1, max = 500))]
    actor: String,
}

/// Both ways to write a percentage.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Percentage {
    Number(f64),
    Text(String),
}

/// What is to change, and who says so and why.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) change: FlagChange,
    pub(super) who: Who,
}

/// Reads a body; the problem names the field at fault.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST).detail(format!("the body is not JSON: {error}"))
    })?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let text = error.inner().to_string();
        let path = error.path().to_string();
        // A field that is missing or unknown is named only in the text, between backticks.
        let field = if path == "." { text.split('`').nth(1).unwrap_or("body").to_owned() } else { path };
        unprocessable(&field, &text)
    })
}

/// Who asks, and why.
pub(super) fn who(actor: String, reason: String) -> Result<Who, Problem> {
    for (field, text) in [("reason", &reason), ("actor", &actor)] {
        if text.trim().is_empty() || text.chars().count() > 500 {
            return Err(unprocessable(field, "must hold 1 to 500 characters"));
        }
    }
    Ok(Who::new(actor, reason))
}

/// A side, said in this field.
pub(super) fn side(field: &str, text: &str) -> Result<Side, Problem> {
    text.parse().map_err(|error: control::ControlError| unprocessable(field, &error.to_string()))
}

/// Reads what is to change about a flag.
pub(super) fn parse(bytes: &[u8]) -> Result<Change, Problem> {
    let body: Body = read(bytes)?;
    let reads = body.reads.map(|value| weight(&value)).transpose()?;
    let writes = body.writes.map(|text| side("writes", &text)).transpose()?;
    if reads.is_none() && writes.is_none() {
        return Err(unprocessable("reads", "neither `reads` nor `writes` says what is to change"));
    }
    let who = who(body.actor, body.reason)?;
    Ok(Change { change: FlagChange { reads, writes, force: body.force }, who })
}

/// A number or a text: `12.5` and `"12.5"` mean the same.
fn weight(value: &Value) -> Result<Weight, Problem> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // JSON writes a whole number as `10.0` where its author's language has no integers.
    let text = text.strip_suffix(".0").unwrap_or(&text);
    text.parse().map_err(|error: control::ControlError| unprocessable("reads", &error.to_string()))
}

fn unprocessable(field: &str, message: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY).detail(format!("{field}: {message}")).field(field, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(body: &str) -> (u16, String) {
        let problem = parse(body.as_bytes()).unwrap_err();
        (problem.status, problem.errors.first().map(|error| error.field.clone()).unwrap_or_default())
    }

    #[test]
    fn weights_come_as_numbers_or_text() {
        for reads in ["12.5", "\"12.5\"", "\"12.5%\""] {
            let body = format!("{{\"reads\":{reads},\"reason\":\"r\",\"actor\":\"a\"}}");
            assert_eq!(parse(body.as_bytes()).unwrap().change.reads.unwrap().basis_points(), 1250);
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        assert_eq!(field("{"), (400, String::new()));
        for (body, name) in [
            (r#"{"reads":101,"reason":"r","actor":"a"}"#, "reads"),
            (r#"{"reads":true,"reason":"r","actor":"a"}"#, "reads"),
            (r#"{"writes":"both","reason":"r","actor":"a"}"#, "writes"),
            (r#"{"reads":1,"actor":"a"}"#, "reason"),
            (r#"{"reads":1,"reason":" ","actor":"a"}"#, "reason"),
            (r#"{"reads":1,"reason":7,"actor":"a"}"#, "reason"),
            (r#"{"reads":1,"reason":"r","actor":"a","wieght":2}"#, "wieght"),
            (r#"{"reason":"r","actor":"a"}"#, "reads"),
        ] {
            assert_eq!(field(body), (422, name.to_owned()), "{body}");
        }
    }
}
