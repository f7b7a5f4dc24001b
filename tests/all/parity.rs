//! The extracted service answers byte for byte as the monolith does, to good requests and to bad ones.
//!
//! Invariant: both sides hold the same data and get the same requests in the same order; only instants of changes made
//! here and request ids may differ.

use harness::http::{Answer, Ask};
use harness::{Cluster, Part, databases};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{Lone, cluster, copy_users, switch};

/// The service as the owner, and beside it a monolith alone with a copy of the data that moved.
fn two_sides() -> (Lone, Cluster) {
    let cluster = cluster(300);
    let mut lone = Lone::prepare();
    let copy = lone.database().to_string_lossy().into_owned();
    databases::open(&cluster.monolith_db()).unwrap().execute("VACUUM INTO ?1", [copy]).unwrap();
    lone.serve();
    copy_users(&cluster);
    switch(&cluster, "service");
    (lone, cluster)
}

/// An answer without what may differ: instants become `T` where `changed` says that the request writes.
fn comparable(answer: &Answer, changed: bool) -> String {
    let headers = ["content-type", "location", "retry-after", "allow", "content-length"];
    let headers: Vec<String> = headers
        .into_iter()
        .filter_map(|name| answer.header(name).map(|value| format!("{name}: {value}")))
        .collect();
    let mut body = answer.text();
    if changed {
        body = without_instants(&body);
    }
    if let Some(request_id) = answer.header("x-request-id") {
        body = body.replace(request_id, "REQUEST");
    }
    format!("{}\n{}\n\n{body}", answer.status, headers.join("\n"))
}

/// Pages are long; what differs is shown with a little of what comes before.
fn from_first_difference(left: &str, right: &str) -> (String, String) {
    let same = left.chars().zip(right.chars()).take_while(|(left, right)| left == right).count();
    let part = |text: &str| text.chars().skip(same.saturating_sub(80)).take(400).collect();
    (part(left), part(right))
}

fn without_instants(body: &str) -> String {
    let mut out = body.to_owned();
    for field in ["created_at", "updated_at"] {
        let marker = format!("\"{field}\":\"");
        if let Some(start) = out.find(&marker).map(|start| start + marker.len()) {
            let end = start + "2010-12-01T08:26:00.000Z".len();
            if out.get(end..end + 1) == Some("\"") {
                out.replace_range(start..end, "T");
            }
        }
    }
    out
}

fn post(body: &Value) -> Ask {
    Ask::new(Method::POST, "/api/v1/users").json(body)
}

fn put(id: i64, body: &Value) -> Ask {
    Ask::new(Method::PUT, format!("/api/v1/users/{id}")).json(body)
}

fn bad_requests() -> Vec<Ask> {
    let target = "/api/v1/users";
    let mut asks: Vec<Ask> = ["abc", "0", "-1", "01", "9223372036854775808", "1.5", "%20", "1/2"]
        .iter()
        .map(|id| Ask::get(format!("{target}/{id}")))
        .collect();
    let queries = ["limit=0", "limit=201", "limit=x", "cursor=abc", "cursor=", "offset=1", "limit=1&limit=2"];
    asks.extend(queries.iter().map(|query| Ask::get(format!("{target}?{query}"))));
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "\"text\"",
        r#"{"name":"A"}"#,
        r#"{"name":"A","email":"a@b.c","age":3}"#,
        r#"{"name":1,"email":"a@b.c"}"#,
        r#"{"name":"","email":"a@b.c"}"#,
        r#"{"name":" A","email":"not an address"}"#,
        r#"{"name":"A","email":"a@b.c","phone":""}"#,
        r#"{"name":"A","email":"a@b.c","addresses":[{"label":"home"}]}"#,
        r#"{"name":"A","email":"a@b.c","addresses":[{"label":"home","country":"","planet":"Mars"}]}"#,
        r#"{"name":"A","name":"B","email":"a@b.c"}"#,
        r#"{"name":"A\u0007","email":"a@b.c"}"#,
    ];
    for body in bodies {
        asks.push(Ask::new(Method::POST, target).text(body));
        asks.push(Ask::new(Method::PUT, format!("{target}/1")).text(body));
    }
    asks.push(Ask::new(Method::POST, target).text("x".repeat(1024 * 1024 + 1)));
    asks.push(Ask { headers: vec![("content-type".into(), "text/plain".into())], ..post(&json!({})) });
    for (method, target) in [
        (Method::DELETE, "/api/v1/users"),
        (Method::PATCH, "/api/v1/users/1"),
        (Method::GET, "/api/v1/users/999999999"),
        (Method::DELETE, "/api/v1/users/999999999"),
        (Method::GET, "/api/v1/nothing"),
    ] {
        asks.push(Ask::new(method, target));
    }
    asks.push(put(999_999_999, &json!({ "name": "A", "email": "nobody@example.com" })));
    asks
}

fn good_writes(taken: &str) -> Vec<Ask> {
    let full = json!({
        "name": "نور الدين", "email": "Nour@Example.com", "phone": "+20 2 1234",
        "addresses": [
            { "label": "home", "street": "1 Nile St", "city": "Cairo", "postcode": "11511", "country": "Egypt" },
            { "label": "work", "country": "Egypt" },
        ],
    });
    vec![
        post(&full),
        post(&json!({ "name": "Ann", "email": "ann@parity.example.com" })),
        post(&json!({ "name": "Two  Blanks", "email": "blanks@parity.example.com", "phone": null })),
        post(&json!({ "name": "Taken", "email": taken })),
        put(1, &full),
        put(1, &json!({ "name": "One", "email": "one@parity.example.com" })),
        put(2, &json!({ "name": "Taken", "email": "one@parity.example.com" })),
        Ask::new(Method::DELETE, "/api/v1/users/3"),
        Ask::new(Method::DELETE, "/api/v1/users/3"),
        Ask::get("/api/v1/users/3"),
        Ask::new(Method::HEAD, "/api/v1/users/2"),
        Ask::new(Method::HEAD, "/api/v1/users"),
    ]
}

/// Sends a request to both and compares the answers.
fn compare(lone: &Lone, cluster: &mut Cluster, ask: Ask, told: &mut Vec<String>) -> Answer {
    let writes = ![Method::GET, Method::HEAD].contains(&ask.method);
    let line = format!(
        "{} {} {}",
        ask.method,
        ask.target,
        String::from_utf8_lossy(&ask.body[..ask.body.len().min(90)])
    );
    let monolith = lone.ask(ask.clone());
    let service = cluster.http(Part::Service, ask).unwrap();
    let (left, right) = (comparable(&monolith, writes), comparable(&service, writes));
    if left != right {
        let (left, right) = from_first_difference(&left, &right);
        told.push(format!("{line}\n--- monolith\n{left}\n--- service\n{right}"));
    }
    monolith
}

#[test]
fn the_service_answers_as_the_monolith_does() {
    let (lone, mut cluster) = two_sides();
    let mut told = Vec::new();
    let mut taken = String::new();
    let mut target = "/api/v1/users?limit=200".to_owned();
    let mut users = 0;
    loop {
        let page = compare(&lone, &mut cluster, Ask::get(target), &mut told).json().unwrap();
        let items = page["items"].as_array().unwrap();
        users += items.len();
        taken = items.last().map_or(taken, |user| user["email"].as_str().unwrap().to_owned());
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/api/v1/users?limit=200&cursor={next}");
    }
    assert!(users > 600, "only {users} users were compared");
    for id in [1, 2, 300, users] {
        compare(&lone, &mut cluster, Ask::get(format!("/api/v1/users/{id}")), &mut told);
    }
    for ask in good_writes(&taken).into_iter().chain(bad_requests()) {
        compare(&lone, &mut cluster, ask, &mut told);
    }
    assert!(told.is_empty(), "{} answers differ:\n{}", told.len(), told.join("\n\n"));
}
