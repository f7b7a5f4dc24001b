//! `/api/openapi.json` and `/docs`: the API's description, for programs and for people.
//!
//! Invariant: the page loads nothing from elsewhere; its assets are those of swagger-ui in `assets/`, gzipped.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, Bytes, ServiceConfig};

use crate::document::Document;
use crate::{carts, categories, orders, payments, products, shipments, stock, users};

const PAGE: &str = include_str!("../assets/index.html");
const START: &str = include_str!("../assets/start.js");
const STYLE: &[u8] = include_bytes!("../assets/swagger-ui.css.gz");
const SCRIPT: &[u8] = include_bytes!("../assets/swagger-ui-bundle.js.gz");
/// Enough for the page, which styles itself inline, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; frame-ancestors 'none'";
/// The assets change with the program only.
const CACHED: &str = "public, max-age=3600";

/// The whole API.
pub fn document() -> serde_json::Value {
    let mut document = Document::new();
    users::describe(&mut document);
    products::describe(&mut document);
    categories::describe(&mut document);
    stock::describe(&mut document);
    carts::describe(&mut document);
    orders::describe(&mut document);
    payments::describe(&mut document);
    shipments::describe(&mut document);
    document.finish()
}

/// Adds the description and its page.
pub fn configure(config: &mut ServiceConfig) {
    let document = Bytes::from(document().to_string());
    let description = move || {
        let document = document.clone();
        async move { HttpResponse::Ok().content_type("application/json").body(document) }
    };
    config
        .route("/api/openapi.json", web::get().to(description))
        .route("/docs", web::get().to(page))
        .route("/docs/start.js", web::get().to(|| asset(START.as_bytes(), "text/javascript")))
        .route("/docs/swagger-ui.css", web::get().to(|| gzipped(STYLE, "text/css")))
        .route("/docs/swagger-ui-bundle.js", web::get().to(|| gzipped(SCRIPT, "text/javascript")));
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .body(PAGE)
}

async fn asset(bytes: &'static [u8], kind: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(kind).insert_header((header::CACHE_CONTROL, CACHED)).body(bytes)
}

/// Every browser takes gzip; who does not ask for it gets it all the same.
async fn gzipped(bytes: &'static [u8], kind: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CACHE_CONTROL, CACHED))
        .insert_header((header::CONTENT_ENCODING, "gzip"))
        .body(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn operations() -> Vec<(String, Value)> {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().values().map(move |operation| (path.clone(), operation.clone()))
        });
        operations.collect()
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let operations = operations();
        let names: BTreeSet<&str> =
            operations.iter().map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(names.len(), operations.len());
        assert!(names.len() > 30, "{names:?}");
    }

    #[test]
    fn every_part_of_a_path_is_described() {
        for (path, operation) in operations() {
            let parts: BTreeSet<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
            let described: BTreeSet<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            assert_eq!(parts, described, "{path}");
        }
    }

    #[test]
    fn every_operation_lists_what_it_may_refuse() {
        for (path, operation) in operations() {
            let statuses = operation["responses"].as_object().unwrap();
            assert!(statuses.contains_key("400") && statuses.contains_key("503"), "{path}");
            assert_eq!(path.contains("{id}"), statuses.contains_key("404"), "{path}");
            assert_eq!(operation.get("requestBody").is_some(), statuses.contains_key("415"), "{path}");
        }
    }

    #[test]
    fn every_object_is_closed() {
        fn check(schema: &Value, place: &str) {
            if schema["properties"].is_object() {
                assert_eq!(schema["additionalProperties"], false, "{place}");
            }
            match schema {
                Value::Object(fields) => {
                    fields.iter().for_each(|(name, field)| check(field, &format!("{place}/{name}")));
                }
                Value::Array(items) => items.iter().for_each(|item| check(item, place)),
                _ => {}
            }
        }
        check(&document()["components"]["schemas"], "schemas");
    }
}
