//! Which settings there are, and which of them are secret, by their type.
//!
//! Invariant: what the schema does not know counts as secret, since nobody can tell what it was meant to be.

use std::sync::LazyLock;

use platform::settings::SECRET_FORMAT;
use serde_json::Value;

use crate::check::place::Step;
use crate::settings::Settings;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Settings).to_value());

pub(super) fn is_secret(path: &[Step]) -> bool {
    find(path).is_none_or(|schema| schema["format"] == SECRET_FORMAT)
}

pub(super) fn is_known(path: &[Step]) -> bool {
    find(path).is_some()
}

fn find(path: &[Step]) -> Option<&'static Value> {
    path.iter().try_fold(&*SCHEMA, |schema, step| member(resolve(schema), step)).map(resolve)
}

fn member<'s>(schema: &'s Value, step: &Step) -> Option<&'s Value> {
    let Step::Key(name) = step else { return schema.get("items") };
    let of_variant = |variant: &'s Value| variant["properties"].get(name);
    let variants = schema["oneOf"].as_array();
    schema["properties"]
        .get(name)
        .or_else(|| schema.get("additionalProperties").filter(|found| found.is_object()))
        .or_else(|| variants?.iter().find_map(of_variant))
}

/// Follows references, and looks through the `null` of an optional value.
fn resolve(schema: &Value) -> &Value {
    let optional = schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
    let schema = optional.unwrap_or(schema);
    let target = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|pointer| SCHEMA.pointer(pointer)).unwrap_or(schema)
}
