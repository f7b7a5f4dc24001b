//! The table against a naive reading of its order, and spellings of paths against plain ones.

use std::cmp::Ordering;

use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;

fn rule(index: usize, host: &str, path: &str, methods: &[&str], headers: &[&str]) -> RouteRule {
    let names: Vec<String> = methods.iter().map(|name| (*name).to_owned()).collect();
    let condition =
        |name: &&str| HeaderCondition { name: name.parse().unwrap(), wanted: Wanted::Equal("1".to_owned()) };
    RouteRule {
        index,
        text: path.to_owned(),
        is_prefix: false,
        host: Host::parse(host).unwrap(),
        pattern: Pattern::template(path).unwrap(),
        methods: Methods::parse(&names).unwrap(),
        headers: headers.iter().map(condition).collect(),
        goal: Goal::Context(ContextId(index)),
    }
}

fn found(table: &RouteTable, host: &str, method: &str, path: &str, headers: &[&str]) -> Option<usize> {
    let mut map = HeaderMap::new();
    for name in headers {
        map.append(name.parse::<http::header::HeaderName>().unwrap(), "1".parse().unwrap());
    }
    let method: Method = method.parse().unwrap();
    let asked = Asked { host, method: &method, headers: &map };
    table.find(&normal(path), &asked).map(|rule| rule.index)
}

#[test]
fn the_longest_prefix_on_a_segment_boundary_wins() {
    let table = RouteTable::new(vec![
        rule(0, "", "/api/{r...}", &[], &[]),
        rule(1, "", "/api/users/{r...}", &[], &[]),
    ]);
    let of = |path| found(&table, "", "GET", path, &[]);
    assert_eq!([of("/api/users"), of("/api/users/7/x"), of("/api/users/")], [Some(1); 3]);
    assert_eq!([of("/api/users2"), of("/api")], [Some(0); 2]);
    assert_eq!([of("/apis"), of("/"), of("*")], [None; 3]);
}

#[test]
fn hosts_go_before_paths_and_names_before_wildcards() {
    let table = RouteTable::new(vec![
        rule(0, "", "/a/b", &[], &[]),
        rule(1, "*.example.com", "/{r...}", &[], &[]),
        rule(2, "shop.example.com", "/a", &[], &[]),
        rule(3, "*.eu.example.com", "/{r...}", &[], &[]),
    ]);
    for (host, path, index) in [
        ("shop.example.com", "/a", Some(2)),
        ("SHOP.Example.com", "/a", Some(2)),
        ("shop.example.com", "/a/b", Some(1)),
        ("x.eu.example.com", "/a/b", Some(3)),
        ("a.b.example.com", "/z", Some(1)),
        ("example.com", "/a/b", Some(0)),
        ("notexample.com", "/z", None),
    ] {
        assert_eq!(found(&table, host, "GET", path, &[]), index, "{host}{path}");
    }
}

#[test]
fn a_search_that_leads_nowhere_goes_back() {
    let table = RouteTable::new(vec![
        rule(0, "", "/a/b/c", &[], &[]),
        rule(1, "", "/{x}/b/d", &[], &[]),
        rule(2, "", "/a/b/{y}", &["POST"], &[]),
        rule(3, "", "/a/{r...}", &[], &["x-beta"]),
        rule(4, "", "/{r...}", &[], &[]),
    ]);
    let of = |method, path, headers: &[&str]| found(&table, "", method, path, headers);
    assert_eq!(of("GET", "/a/b/c", &[]), Some(0));
    assert_eq!(of("GET", "/a/b/d", &[]), Some(1));
    assert_eq!(of("POST", "/a/b/d", &[]), Some(2));
    assert_eq!(of("GET", "/a/b/e", &["x-beta"]), Some(3));
    assert_eq!(of("GET", "/a/b/e", &[]), Some(4));
}

#[test]
fn more_headers_and_named_methods_go_first() {
    let table = RouteTable::new(vec![
        rule(0, "", "/a", &[], &[]),
        rule(1, "", "/a", &["GET"], &[]),
        rule(2, "", "/a", &[], &["x-one"]),
        rule(3, "", "/a", &[], &["x-one", "x-two"]),
    ]);
    assert_eq!(found(&table, "", "POST", "/a", &[]), Some(0));
    assert_eq!(found(&table, "", "HEAD", "/a", &[]), Some(1));
    assert_eq!(found(&table, "", "GET", "/a", &["x-one"]), Some(2));
    assert_eq!(found(&table, "", "GET", "/a", &["x-two", "x-one"]), Some(3));
}

#[test]
fn routes_conflict_where_only_their_place_tells_them_apart() {
    let one = rule(0, "a", "/x/{id}", &["GET"], &["x-one"]);
    assert!(one.conflicts(&rule(1, "A", "/x/{name}/", &["POST", "HEAD"], &["X-One"])));
    for other in [
        rule(1, "b", "/x/{id}", &["GET"], &["x-one"]),
        rule(1, "a", "/x/y", &["GET"], &["x-one"]),
        rule(1, "a", "/x/{id}", &["PUT"], &["x-one"]),
        rule(1, "a", "/x/{id}", &[], &["x-one"]),
        rule(1, "a", "/x/{id}", &["GET"], &["x-two"]),
    ] {
        assert!(!one.conflicts(&other) && !other.conflicts(&one), "{other:?}");
    }
}

/// The documented order, compared by hand: of all routes that match, the one that no other precedes.
fn naive<'r>(rules: &'r [RouteRule], host: &str, path: &str, asked: &Asked<'_>) -> Option<&'r RouteRule> {
    let host = host.to_ascii_lowercase();
    let matches =
        |rule: &&RouteRule| rule.host.matches(&host) && rule.pattern.matches(path) && rule.is_for(asked);
    rules.iter().filter(matches).min_by(|left, right| precedes(left, right, path))
}

/// Which of two routes that match a path comes first, told by what each takes every segment of that path for.
fn precedes(left: &RouteRule, right: &RouteRule, path: &str) -> Ordering {
    let host = |rule: &RouteRule| match &rule.host {
        Host::Exact(_) => (0, Reverse(0)),
        Host::Under(_, name) => (1, Reverse(name.len())),
        Host::Any => (2, Reverse(0)),
    };
    let count = path.split('/').filter(|part| !part.is_empty()).count();
    let kinds = |rule: &RouteRule| -> Vec<u8> {
        let kind = |at| match rule.pattern.segments.get(at) {
            Some(pattern::Segment::Literal(_)) => 0,
            Some(pattern::Segment::Parameter) => 1,
            None if !rule.pattern.has_tail => 2,
            None => 3,
        };
        (0..=count).map(kind).collect()
    };
    host(left)
        .cmp(&host(right))
        .then_with(|| kinds(left).cmp(&kinds(right)))
        .then_with(|| right.headers.len().cmp(&left.headers.len()))
        .then_with(|| left.methods.is_all().cmp(&right.methods.is_all()))
        .then_with(|| left.index.cmp(&right.index))
}

fn paths() -> impl Strategy<Value = String> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("c"), Just("{}")];
    (proptest::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(segments, tail)| {
        let named = segments.iter().enumerate().map(|(at, part)| match *part {
            "{}" => format!("/{{p{at}}}"),
            part => format!("/{part}"),
        });
        let path: String = named.collect();
        match (tail, path.is_empty()) {
            (true, _) => format!("{path}/{{rest...}}"),
            (false, true) => "/".to_owned(),
            (false, false) => path,
        }
    })
}

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(names, 0..=names.len())
}

const HOSTS: [&str; 6] = ["", "", "a.x.y", "*.x.y", "*.y", "x.y"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const HEADERS: [&str; 2] = ["h-one", "h-two"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_table_agrees_with_a_naive_reading(
        routes in proptest::collection::vec((0..HOSTS.len(), paths(), some_of(&METHODS), some_of(&HEADERS)), 0..30),
        requests in proptest::collection::vec(
            ("(/[abcd]){0,5}/?", proptest::sample::select(&["a.x.y", "b.a.x.y", "X.y", "y", "q"][..]),
             proptest::sample::select(&["GET", "HEAD", "POST", "PUT", "DELETE"][..]), some_of(&HEADERS)),
            1..10),
    ) {
        let rules: Vec<RouteRule> = routes
            .iter()
            .enumerate()
            .map(|(index, (host, path, methods, headers))| rule(index, HOSTS[*host], path, methods, headers))
            .collect();
        let table = RouteTable::new(rules.clone());
        for (path, host, method, headers) in requests {
            let path = if path.is_empty() { "/" } else { &path };
            let method: Method = method.parse().unwrap();
            let mut map = HeaderMap::new();
            headers.iter().for_each(|name| { map.insert(*name, "1".parse().unwrap()); });
            let asked = Asked { host, method: &method, headers: &map };
            let expected = naive(&rules, host, path, &asked).map(|rule| rule.index);
            prop_assert_eq!(table.find(path, &asked).map(|rule| rule.index), expected, "{} {}{}", method, host, path);
        }
    }

    /// Other spellings of a path: an unreserved character encoded, parameters, a dot segment, a slash twice.
    #[test]
    fn no_spelling_leads_around_a_route(parts in proptest::collection::vec("[a-z0-9._~-]{1,6}", 1..5), how in any::<u64>()) {
        let is_dots = |part: &String| part == "." || part == "..";
        prop_assume!(!parts.iter().any(is_dots));
        let plain: String = parts.iter().map(|part| format!("/{part}")).collect();
        let mut spelt = String::new();
        for (at, part) in parts.iter().enumerate() {
            spelt.push_str(["/", "//", "/./", "/x/../", "/%2E/", "/x;y/%2e%2E/", "/;v/"][(how >> (at * 6)) as usize % 7]);
            let encoded: String = part
                .bytes()
                .enumerate()
                .map(|(place, byte)| match (how >> (place % 60)) & 1 {
                    0 => char::from(byte).to_string(),
                    _ => format!("%{byte:02x}"),
                })
                .collect();
            spelt.push_str(&encoded);
            spelt.push_str(["", ";", ";a=b", ";a;b=/"][(how >> (at * 3 + 7)) as usize % 3]);
        }
        prop_assert_eq!(normal(&spelt), plain);
    }
}
