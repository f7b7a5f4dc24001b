//! The OpenAPI 3.1 document, made from the operations that are served.
//!
//! Invariant: every object schema is closed, and every operation lists each status that it can answer with.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::operation::{Description, Operation, Shape};

/// The document, as it grows.
pub struct Document {
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
    bodies: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Default for Document {
    fn default() -> Self {
        Self::new()
    }
}

impl Document {
    /// A document without operations.
    pub fn new() -> Self {
        let mut schemas = Map::new();
        schemas.insert("Problem".to_owned(), problem());
        Self {
            paths: Map::new(),
            schemas,
            bodies: generator(Contract::Deserialize),
            answers: generator(Contract::Serialize),
        }
    }

    /// Adds the operations of one part of the API.
    pub(crate) fn add(&mut self, tag: &str, operations: &[Operation]) {
        for operation in operations {
            let description = &operation.description;
            let described = self.describe(tag, description);
            let path = self.paths.entry(description.path.clone()).or_insert_with(|| json!({}));
            if let Some(methods) = path.as_object_mut() {
                methods.insert(description.method.as_str().to_lowercase(), described);
            }
        }
    }

    /// The finished document.
    pub fn finish(self) -> Value {
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Banyan sample shop",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Every error is a problem document (RFC 9457) that names the field at fault.",
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "servers": [{ "url": "/" }],
            "paths": self.paths,
            "components": { "schemas": self.schemas },
        });
        if let Some(schemas) = document.pointer_mut("/components/schemas") {
            close(schemas);
        }
        document
    }

    fn describe(&mut self, tag: &str, description: &Description) -> Value {
        let mut operation = json!({
            "operationId": description.id,
            "summary": description.summary,
            "tags": [tag],
            "responses": self.responses(description),
        });
        if let Some(fields) = operation.as_object_mut() {
            if !description.parameters.is_empty() {
                fields.insert("parameters".to_owned(), json!(description.parameters));
            }
            if let Some(body) = description.body {
                let schema = self.component(body, Side::Body);
                let content = json!({ "application/json": { "schema": schema } });
                fields.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
            }
        }
        operation
    }

    fn responses(&mut self, description: &Description) -> Value {
        let mut responses = Map::new();
        let mut success =
            json!({ "description": phrase(description.success.status), "headers": headers(description) });
        if let (Some(shape), Some(fields)) = (description.success.shape, success.as_object_mut()) {
            let schema = self.component(shape, Side::Answer);
            fields.insert("content".to_owned(), json!({ "application/json": { "schema": schema } }));
        }
        responses.insert(description.success.status.to_string(), success);
        if description.tagged && description.method == actix_web::http::Method::GET {
            responses.insert("304".to_owned(), json!({ "description": phrase(304) }));
        }
        for status in &description.problems {
            let content = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
            responses
                .insert(status.to_string(), json!({ "description": phrase(*status), "content": content }));
        }
        Value::Object(responses)
    }

    /// Puts the schema among the components, once, and returns the reference to it.
    fn component(&mut self, shape: Shape, side: Side) -> Value {
        let name = (shape.name)().into_owned();
        let generator = match side {
            Side::Body => &mut self.bodies,
            Side::Answer => &mut self.answers,
        };
        let schema: Schema = (shape.schema)(generator);
        self.schemas.insert(name.clone(), schema.to_value());
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

/// Which way a document travels: what a client may leave out is always there in an answer.
#[derive(Clone, Copy)]
enum Side {
    Body,
    Answer,
}

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.contract = contract;
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator()
}

fn headers(description: &Description) -> Value {
    let mut headers = Map::new();
    let text = |what: &str| json!({ "description": what, "schema": { "type": "string" } });
    if description.tagged {
        headers.insert("ETag".to_owned(), text("Changes with every change of what is answered."));
    }
    if description.success.status == 201 {
        headers.insert("Location".to_owned(), text("Where it can be read from now on."));
    }
    Value::Object(headers)
}

/// The status in words.
fn phrase(status: u16) -> &'static str {
    actix_web::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}

/// RFC 9457, with the fields at fault.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status"],
        "properties": {
            "type": { "type": "string", "const": "about:blank" },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "What is wrong this time, and what to do about it." },
            "errors": {
                "type": "array",
                "description": "The fields at fault.",
                "items": {
                    "type": "object",
                    "required": ["field", "message"],
                    "properties": {
                        "field": { "type": "string", "description": "As the client wrote it: `lines[0].quantity`." },
                        "message": { "type": "string" },
                    },
                },
            },
        },
    })
}

/// Forbids unknown fields in every object that lists its fields.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object) && fields.contains_key("type") {
                fields.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
