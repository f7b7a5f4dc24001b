//! The settings in effect, as they may be shown.
//!
//! Invariant: whether a setting is secret is asked of its type, by the schema, never guessed from its name.

use actix_web::web::{self, Data};
use actix_web::{HttpResponse, Responder};
use platform::settings::Secret;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

use crate::server::Shared;
use crate::settings::Settings;

const MASK: &str = "********";

pub(super) async fn state(shared: Data<Shared>) -> impl Responder {
    web::Json(shared.live.view())
}

pub(super) async fn config(shared: Data<Shared>) -> impl Responder {
    shown(&shared.live.settings()).map_or_else(
        || HttpResponse::InternalServerError().finish(),
        |value| HttpResponse::Ok().json(web::Json(value)),
    )
}

fn shown(settings: &Settings) -> Option<Value> {
    let inline = || SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = SchemaGenerator::new(inline()).into_root_schema_for::<Settings>().to_value();
    let secret = Secret::json_schema(&mut SchemaGenerator::new(inline())).to_value();
    let mut value = serde_json::to_value(settings).ok()?;
    mask(&mut value, &schema, secret.get("format")?);
    Some(value)
}

/// Masks what the schema calls secret, and the passwords of URLs anywhere.
fn mask(value: &mut Value, schema: &Value, secret: &Value) {
    if schema.get("format") == Some(secret) {
        if value.as_str() != Some("") && !value.is_null() {
            *value = Value::from(MASK);
        }
        return;
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        let schemas = schema.get(several).and_then(Value::as_array);
        schemas.into_iter().flatten().for_each(|schema| mask(value, schema, secret));
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let known = schema.get("properties").and_then(|known| known.get(name));
                let known = known.or_else(|| schema.get("additionalProperties"));
                mask(field, known.unwrap_or(&Value::Null), secret);
            }
        }
        Value::Array(items) => {
            let of_items = schema.get("items").unwrap_or(&Value::Null);
            items.iter_mut().for_each(|item| mask(item, of_items, secret));
        }
        Value::String(text) => {
            if let Some(masked) = without_password(text) {
                *text = masked;
            }
        }
        _ => {}
    }
}

fn without_password(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (user, place) = rest.rsplit_once('@')?;
    let (name, _) = user.split_once(':')?;
    Some(format!("{scheme}://{name}:{MASK}@{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let mut settings = Settings { admin_token: Secret::new("s3cret"), ..Settings::default() };
        settings.upstreams.entry("a".to_owned()).or_default().url = "http://me:s3cret@host:1".to_owned();
        let value = shown(&settings).unwrap();
        assert!(!value.to_string().contains("s3cret"), "{value}");
        assert_eq!((&value["admin_token"], &value["workers"]), (&MASK.into(), &0.into()));
        assert_eq!(value["upstreams"]["a"]["url"], "http://me:********@host:1");
    }

    #[test]
    fn a_secret_that_is_not_set_is_shown_as_empty() {
        assert_eq!(shown(&Settings::default()).unwrap()["admin_token"], "");
    }
}
