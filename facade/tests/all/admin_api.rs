//! The admin API against its own description.

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Message, Upstream, Wire};

fn served(more: &str) -> Served {
    Served::start(Upstream::saying("monolith").address, Upstream::saying("service").address, more)
}

/// Checks an answer against what the document says of the operation.
fn assert_described(document: &Value, method: &str, path: &str, answer: &Message) {
    let status = answer.status().to_string();
    let response = &document["paths"][path][method.to_lowercase()]["responses"][&status];
    assert!(response.is_object(), "{method} {path} may not answer {status}: {}", answer.text());
    let media_type = answer.header("content-type").unwrap().split(';').next().unwrap();
    let schema = &response["content"][media_type]["schema"];
    assert!(schema.is_object(), "{method} {path} {status} may not be {media_type}");
    if media_type.ends_with("json") {
        let whole = json!({ "allOf": [schema], "components": document["components"] });
        let validator: Validator = jsonschema::draft202012::new(&whole).unwrap();
        let faults: Vec<_> = validator.iter_errors(&answer.json()).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{method} {path} {status}: {faults:?}\n{}", answer.text());
    }
}

#[test]
fn every_answer_is_as_the_document_says() {
    let served = served("");
    let document = served.ask("GET", "/api/openapi.json", "", "").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut wire = Wire::connect(served.address);
    wire.send("GET /cart HTTP/1.1\r\nhost: a\r\n\r\n");
    wire.message().unwrap();
    let change = "/api/v1/flags/{context}";
    for (context, body, status) in [
        ("cart", "{", 400),
        ("cart", r#"{"reads":101,"reason":"r","actor":"a"}"#, 422),
        ("nope", r#"{"reads":1,"reason":"r","actor":"a"}"#, 404),
        ("users", r#"{"writes":"service","reason":"r","actor":"a"}"#, 409),
        ("cart", r#"{"reads":"1.5","writes":"service","reason":"r","actor":"a"}"#, 200),
    ] {
        let answer = served.ask("PUT", &change.replace("{context}", context), "", body);
        assert_eq!(answer.status(), status, "{body}");
        assert_described(&document, "PUT", change, &answer);
    }
    let pins = "/api/v1/flags/{context}/pins";
    for (context, body, status) in [
        ("cart", "{", 400),
        ("cart", r#"{"key":"7","side":"both","reason":"r","actor":"a"}"#, 422),
        ("cart", r#"{"key":"7","side":"service","reason":" ","actor":"a"}"#, 422),
        ("nope", r#"{"key":"7","side":"service","reason":"r","actor":"a"}"#, 404),
        ("cart", r#"{"key":"7","side":null,"reason":"r","actor":"a"}"#, 409),
        ("cart", r#"{"key":"7","side":"service","reason":"r","actor":"a"}"#, 200),
    ] {
        let answer = served.ask("PUT", &pins.replace("{context}", context), "", body);
        assert_eq!(answer.status(), status, "{body}");
        assert_described(&document, "PUT", pins, &answer);
    }
    let mut read = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        assert!(methods["get"].is_object(), "{path} cannot be read");
        for (context, status) in [("cart", 200), ("nope", 404)] {
            let target = path.replace("{context}", context);
            let answer = served.ask("GET", &target, "", "");
            assert_eq!(answer.status(), if target == *path { 200 } else { status }, "{target}");
            assert_described(&document, "GET", path, &answer);
        }
        let wrong = served.ask("DELETE", &path.replace("{context}", "cart"), "", "");
        assert_eq!((wrong.status(), wrong.header("content-type")), (405, Some("application/problem+json")));
        assert!(wrong.header("allow").unwrap().contains("GET"));
        read += 1;
    }
    assert!(read >= 12, "the document lists {read} paths");
    for target in ["/api/v1/audit?limit=0", "/api/v1/audit?limit=x", "/api/v1/history?limit=1001"] {
        let answer = served.ask("GET", target, "", "");
        assert_described(&document, "GET", target.split('?').next().unwrap(), &answer);
        assert_eq!(answer.status(), 400, "{target}");
    }
    let rows = served.ask("GET", "/api/v1/audit?context=cart&limit=2", "", "").json();
    assert_eq!(rows["items"][1]["to_state"], "reads 1.5%, writes service, dual-write off");
}

#[test]
fn without_its_token_nothing_is_told_but_health_and_an_empty_page() {
    let served = served("admin_token = 's3cret'");
    let document = served.ask("GET", "/api/openapi.json", "authorization: Bearer s3cret\r\n", "").json();
    for path in document["paths"].as_object().unwrap().keys() {
        let answer = served.ask("GET", &path.replace("{context}", "cart"), "", "");
        assert_eq!(answer.status(), 401, "{path}");
        assert_described(&document, "GET", path, &answer);
    }
    assert_eq!(served.ask("GET", "/health/live", "", "").status(), 200);
    let config = served.ask("GET", "/api/v1/config", "authorization: Bearer s3cret\r\n", "");
    assert!(config.status() == 200 && !config.text().contains("s3cret"), "{}", config.text());
    let page = served.ask("GET", "/", "", "");
    assert_eq!((page.status(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(
        !page.text().contains("://") && !page.text().contains("cart"),
        "the page tells or fetches something"
    );
    let unknown = served.ask("GET", "/nowhere", "authorization: Bearer s3cret\r\n", "");
    assert_eq!((unknown.status(), unknown.header("content-type")), (404, Some("application/problem+json")));
}
