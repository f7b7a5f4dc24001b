//! The OpenAPI 3.1 document of the admin API, made from the operations that are served.
//!
//! Invariant: every operation lists each status that it can answer with, and every answer's schema is closed.

use actix_web::http::StatusCode;
use schemars::SchemaGenerator;
use schemars::generate::{Contract, SchemaSettings};
use serde_json::{Map, Value, json};

use super::operation::{Operation, Shape};

/// The document. The facade's own settings decide nothing in it.
pub(super) fn document(operations: &[Operation]) -> Value {
    let mut schemas = Map::new();
    schemas.insert("Problem".to_owned(), problem());
    let mut paths = Map::new();
    for operation in operations {
        let described = describe(operation, &mut schemas);
        let path = paths.entry(operation.path.to_owned()).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(operation.method.as_str().to_lowercase(), described);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Banyan facade, admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Shows and changes where traffic goes. Every error is a problem document (RFC 9457).",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "The setting `admin_token`; not needed where none is set, which only loopback may do.",
                },
            },
        },
    })
}

fn describe(operation: &Operation, schemas: &mut Map<String, Value>) -> Value {
    let content = match operation.answer {
        Some(shape) => {
            json!({ "application/json": { "schema": component(schemas, shape, Contract::Serialize) } })
        }
        None => json!({ "text/plain": { "schema": { "type": "string" } } }),
    };
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({ "description": "OK", "content": content }));
    for status in &operation.problems {
        let words = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
        let content =
            json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
        let response = json!({ "description": words.unwrap_or_default(), "content": content });
        responses.insert(status.to_string(), response);
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": responses,
    });
    if let Some(fields) = described.as_object_mut() {
        if !operation.parameters.is_empty() {
            fields.insert("parameters".to_owned(), json!(operation.parameters));
        }
        if let Some(body) = operation.body {
            let schema = component(schemas, body, Contract::Deserialize);
            let content = json!({ "application/json": { "schema": schema } });
            fields.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
        }
    }
    described
}

/// Puts the schema among the components, once, and returns the reference to it.
fn component(schemas: &mut Map<String, Value>, shape: Shape, contract: Contract) -> Value {
    let name = (shape.name)().into_owned();
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.contract = contract;
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = (shape.schema)(&mut SchemaGenerator::new(settings)).to_value();
    close(&mut schema);
    schemas.insert(name.clone(), schema);
    json!({ "$ref": format!("#/components/schemas/{name}") })
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

/// RFC 9457, with the fields at fault.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": ["type", "title", "status"],
        "additionalProperties": false,
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
                    "additionalProperties": false,
                    "properties": { "field": { "type": "string" }, "message": { "type": "string" } },
                },
            },
        },
    })
}
