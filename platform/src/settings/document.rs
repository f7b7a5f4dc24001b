//! Documentation of settings, rendered from the structs themselves: their comments, types, bounds and defaults.
//!
//! Invariant: nothing is written down twice. Bounds and allowed words are found by asking the struct to take what it
//! must refuse.

use std::fmt::Write;

use figment::Figment;
use figment::providers::Serialized;
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ENV_PREFIX, OUT_OF_BOUNDS, SECRET_FORMAT};

/// A Markdown chapter on the settings `T` of a program: one table per section of its file.
///
/// The comments of the fields become the meanings, so they are written for operators.
pub fn document<T>(program: &str, default_file: &str) -> String
where
    T: JsonSchema + Default + Serialize + DeserializeOwned,
{
    let schema = schema_for!(T).to_value();
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    let mut document = Document { schema: &schema, bounds: &bounds::<T>, text: String::new() };
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        document.text,
        "## {program}\n\nFrom `{default_file}` in the working directory, or the file that `--config` names.\n"
    );
    document.section(&schema, &Place::default(), &defaults, "");
    document.text
}

/// What the program says when a whole number is far out of bounds.
fn bounds<T>(key: &str) -> Option<String>
where
    T: Default + Serialize + DeserializeOwned,
{
    let figment = Figment::from(Serialized::defaults(T::default())).merge(Serialized::default(key, -1_i64));
    let refusal = figment.extract::<T>().err()?.to_string();
    let (_, allowed) = refusal.split_once(OUT_OF_BOUNDS)?;
    allowed.split_once(" is allowed").map(|(allowed, _)| allowed.to_owned())
}

/// Where in the file a section stands.
#[derive(Clone, Default)]
struct Place {
    path: Vec<String>,
    /// Whether a list lies on the way: its elements have no variable of their own.
    in_list: bool,
}

impl Place {
    fn inside(&self, name: &str) -> Self {
        let mut place = self.clone();
        place.path.push(name.to_owned());
        place
    }

    fn header(&self) -> String {
        let key = self.path.join(".");
        if self.in_list { format!("[[{key}]]") } else { format!("[{key}]") }
    }

    fn variable(&self) -> String {
        if self.in_list {
            "–".to_owned()
        } else {
            format!("`{ENV_PREFIX}{}`", self.path.join("__").to_uppercase())
        }
    }
}

struct Document<'a> {
    schema: &'a Value,
    bounds: &'a dyn Fn(&str) -> Option<String>,
    text: String,
}

impl<'a> Document<'a> {
    /// One table for the plain settings of a struct, then a section for each struct inside it.
    fn section(&mut self, schema: &'a Value, place: &Place, defaults: &Value, about: &str) {
        let Some(properties) = schema["properties"].as_object() else { return };
        if !place.path.is_empty() {
            let _ = write!(self.text, "\n### `{}`\n\n{about}\n", place.header());
        }
        let (sections, plain): (Vec<_>, Vec<_>) =
            properties.iter().partition(|(_, property)| self.inner(property).is_some());
        if !plain.is_empty() {
            let head = "\n| setting | environment | type | default | meaning |\n|---|---|---|---|---|\n";
            self.text.push_str(head);
        }
        for (name, property) in plain {
            self.row(name, property, &place.inside(name), &defaults[name]);
        }
        for (name, property) in sections {
            let Some((inner, way)) = self.inner(property) else { continue };
            let mut place = place.inside(name);
            match way {
                Way::Direct => {}
                Way::Map => place.path.push("<name>".to_owned()),
                Way::List => place.in_list = true,
            }
            let about = text(property, "description").or_else(|| text(inner, "description"));
            self.section(inner, &place, &defaults[name], &about.unwrap_or_default());
        }
    }

    fn row(&mut self, name: &str, property: &'a Value, place: &Place, default: &Value) {
        let resolved = self.resolve(property);
        let mut meaning = text(property, "description").unwrap_or_default();
        for variant in variants(resolved).iter().chain(variants(self.resolve(&resolved["items"]))) {
            if let (Some(word), Some(about)) = (word(variant), text(variant, "description")) {
                let _ = write!(meaning, " `{word}`: {about}");
            }
        }
        // Where the place's name is free there is no value at hand, but the schema tells the default.
        let default = if default.is_null() { &property["default"] } else { default };
        let default = match default {
            Value::String(text) if !text.is_empty() && resolved["format"] == SECRET_FORMAT => {
                "(secret)".to_owned()
            }
            Value::Null => "–".to_owned(),
            value => format!("`{value}`"),
        };
        let kind = self.kind(resolved, &place.path.join("."));
        let cells = [format!("`{name}`"), place.variable(), kind, default, meaning];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    fn kind(&self, schema: &'a Value, key: &str) -> String {
        let words: Vec<String> = variants(schema)
            .iter()
            .filter_map(|variant| word(variant).map(|word| format!("`{word}`")))
            .collect();
        if !words.is_empty() {
            return words.join(" or ");
        }
        let types = &schema["type"];
        let name = types.as_str().or_else(|| types.as_array()?.first()?.as_str()).unwrap_or("value");
        let bounded = |kind: &str| match (self.bounds)(key) {
            Some(bounds) => format!("{kind}, {bounds}"),
            None => kind.to_owned(),
        };
        match name {
            "integer" => bounded("whole number"),
            "number" => bounded("number"),
            "string" if schema["format"] == SECRET_FORMAT => "secret text".to_owned(),
            "string" => "text".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            "array" => format!("list of {}", self.kind(self.resolve(&schema["items"]), key)),
            other => other.to_owned(),
        }
    }

    /// The struct that a property leads to, if it leads to one.
    fn inner(&self, property: &'a Value) -> Option<(&'a Value, Way)> {
        let schema = self.resolve(property);
        let ways = [
            (schema, Way::Direct),
            (self.resolve(&schema["additionalProperties"]), Way::Map),
            (self.resolve(&schema["items"]), Way::List),
        ];
        ways.into_iter().find(|(schema, _)| schema["properties"].is_object())
    }

    /// Follows a reference, and looks through the `null` of an optional value.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let optional =
            schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
        let schema = optional.unwrap_or(schema);
        let target = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.schema.pointer(pointer)).unwrap_or(schema)
    }
}

/// How a property leads to a struct.
enum Way {
    Direct,
    Map,
    List,
}

fn variants(schema: &Value) -> &[Value] {
    let all = schema["oneOf"].as_array().or_else(|| schema["enum"].as_array());
    all.map(Vec::as_slice).unwrap_or_default()
}

/// How a variant is written in the file: a word, or a table of one entry.
fn word(variant: &Value) -> Option<String> {
    let word = variant.get("const").unwrap_or(variant).as_str().map(str::to_owned);
    let name = || variant["required"].as_array().and_then(|names| names.first()?.as_str());
    word.or_else(|| name().map(|name| format!("{{ {name} = … }}")))
}

/// A description in one line.
fn text(schema: &Value, key: &str) -> Option<String> {
    schema[key].as_str().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::super::{Secret, within};
    use super::*;

    /// Everything.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        /// Where it listens.
        listen: String,
        /// The pool.
        pool: Pool,
        /// Servers by name.
        servers: BTreeMap<String, Server>,
        /// Paths, longest first.
        routes: Vec<Server>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Pool {
        /// Connections. Too few and
        /// requests wait.
        #[serde(deserialize_with = "within::<1, 64, _, _>")]
        size: u32,
        /// Who may use it.
        token: Secret,
        /// What a commit waits for.
        commit: Commit,
    }

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Commit {
        /// The disk.
        #[default]
        Disk,
        /// Memory.
        Memory,
    }

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Server {
        /// Its address.
        url: Option<String>,
        /// How often it is asked.
        tries: u8,
        /// What it is told, in this order.
        told: Vec<Told>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Told {
        /// A header of this name.
        Header(String),
    }

    impl Default for Pool {
        fn default() -> Self {
            Self { size: 4, token: Secret::new("hunter2"), commit: Commit::Disk }
        }
    }

    #[test]
    fn every_setting_is_documented_with_type_bounds_default_and_variable() {
        let text = document::<Sample>("sample", "sample.toml");
        for line in [
            "| `listen` | `BANYAN_LISTEN` | text | `\"\"` | Where it listens. |",
            "### `[pool]`\n\nThe pool.\n",
            "| `size` | `BANYAN_POOL__SIZE` | whole number, 1 to 64 | `4` | Connections. Too few and requests wait. |",
            "| `token` | `BANYAN_POOL__TOKEN` | secret text | (secret) | Who may use it. |",
            "| `disk` or `memory` | `\"disk\"` | What a commit waits for. `disk`: The disk. `memory`: Memory. |",
            "### `[servers.<name>]`\n\nServers by name.\n",
            "| `url` | `BANYAN_SERVERS__<NAME>__URL` | text | – | Its address. |",
            "| `tries` | `BANYAN_SERVERS__<NAME>__TRIES` | whole number | `0` | How often it is asked. |",
            "| list of `{ header = … }` | `[]` | What it is told, in this order. `{ header = … }`: A header of this name. |",
            "### `[[routes]]`\n\nPaths, longest first.\n",
            "| `url` | – | text | – | Its address. |",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
