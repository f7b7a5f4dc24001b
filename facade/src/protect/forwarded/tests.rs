//! Who is believed, and what upstreams are told.

use super::*;

fn plan(trusted: &[&str], source: ForwardedSource) -> ForwardedPlan {
    let settings = ForwardedSettings {
        trusted: trusted.iter().map(|&network| network.to_owned()).collect(),
        source,
        ..ForwardedSettings::default()
    };
    let mut errors = Vec::new();
    let plan = ForwardedPlan::new(&settings, vec![HeaderName::from_static("x-user-id")], &mut errors);
    assert_eq!(errors, Vec::<String>::new());
    plan
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn hop(plan: &ForwardedPlan, peer: &str) -> Hop {
    Hop::new(plan, peer.parse().unwrap(), "http", 8080)
}

fn client(trusted: &[&str], source: ForwardedSource, peer: &str, pairs: &[(&str, &str)]) -> String {
    let plan = plan(trusted, source);
    plan.client(&hop(&plan, peer), &headers(pairs)).ip.to_string()
}

fn rewritten(trusted: &[&str], source: ForwardedSource, peer: &str, pairs: &[(&str, &str)]) -> HeaderMap {
    let plan = plan(trusted, source);
    let mut headers = headers(pairs);
    plan.rewrite(&mut headers, &hop(&plan, peer));
    headers
}

const FOR: ForwardedSource = ForwardedSource::XForwardedFor;
const RFC: ForwardedSource = ForwardedSource::Forwarded;

#[test]
fn what_a_trusted_proxy_says_so_that_it_may_be_taken_for_something_else_is_what_we_see() {
    let nets = ["10.0.0.0/8"];
    for (name, bad, seen) in [
        ("x-forwarded-host", "evil\"; for=9.9.9.9", "shop"),
        ("x-forwarded-host", "a/b", "shop"),
        ("x-forwarded-host", "front, ", "shop"),
        ("x-forwarded-host", "", "shop"),
        ("x-forwarded-proto", "https;x=y", "http"),
        ("x-forwarded-proto", "javascript", "http"),
        ("x-forwarded-port", "99999", "8080"),
        ("x-forwarded-port", "0", "8080"),
        ("x-forwarded-port", "+443", "8080"),
    ] {
        let headers = rewritten(&nets, FOR, "10.0.0.1", &[("host", "shop"), (name, bad)]);
        assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [seen], "{name}: {bad}");
    }
    for (name, good) in [
        ("x-forwarded-host", "front.example:8443"),
        ("x-forwarded-host", "[2001:db8::1], inner"),
        ("x-forwarded-proto", "HTTPS"),
        ("x-forwarded-proto", "wss,http"),
        ("x-forwarded-port", "443, 80"),
    ] {
        let headers = rewritten(&nets, FOR, "10.0.0.1", &[("host", "shop"), (name, good)]);
        assert_eq!(headers[name], good);
    }
    let twice = [("host", "shop"), ("x-forwarded-host", "front"), ("x-forwarded-host", "e;vil")];
    assert_eq!(rewritten(&nets, FOR, "10.0.0.1", &twice)["x-forwarded-host"], "shop");
    let quoted = [("host", "shop"), ("forwarded", "for=192.0.2.9;host=\"e;vil\";proto=\"x y\"")];
    let headers = rewritten(&nets, RFC, "10.0.0.1", &quoted);
    assert_eq!(headers["x-forwarded-host"], "shop");
    assert_eq!(headers["x-forwarded-proto"], "http");
}

#[test]
fn the_client_is_the_first_that_is_not_trusted_from_the_right() {
    let nets = ["10.0.0.0/8", "::1/128"];
    for (peer, chain, expected) in [
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("::1", "198.51.100.9, 10.1.2.3", "198.51.100.9"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.9, 10.1.2.3", "198.51.100.9"),
        ("10.0.0.1", "10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("10.0.0.1", "198.51.100.9, garbage, 10.1.2.3", "10.1.2.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::7", "2001:db8::7"),
    ] {
        let found = client(&nets, FOR, peer, &[("x-forwarded-for", chain)]);
        assert_eq!(found, expected, "{peer} {chain}");
    }
}

#[test]
fn several_lines_of_a_header_are_one_list() {
    let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.9, 10.0.0.2")];
    assert_eq!(client(&["10.0.0.0/8"], FOR, "10.0.0.1", &lines), "198.51.100.9");
}

#[test]
fn only_the_header_that_counts_counts() {
    let both = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.2")];
    assert_eq!(client(&["10.0.0.0/8"], FOR, "10.0.0.1", &both), "198.51.100.1");
    assert_eq!(client(&["10.0.0.0/8"], RFC, "10.0.0.1", &both), "198.51.100.2");
    let told = rewritten(&["10.0.0.0/8"], FOR, "10.0.0.1", &both);
    assert_eq!(told["forwarded"], "for=198.51.100.1, for=10.0.0.1;proto=http");
    let told = rewritten(&["10.0.0.0/8"], RFC, "10.0.0.1", &both);
    assert_eq!(told["x-forwarded-for"], "198.51.100.2, 10.0.0.1");
}

#[test]
fn what_an_untrusted_client_says_of_its_origin_is_replaced() {
    let told = rewritten(
        &["10.0.0.0/8"],
        FOR,
        "2001:db8::7",
        &[
            ("host", "shop:8080"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/evil"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-user_id", "1"),
            ("x-kept_as_it_is", "1"),
        ],
    );
    assert_eq!(told["forwarded"], "for=\"[2001:db8::7]\";proto=http;host=\"shop:8080\"");
    assert_eq!(told["x-forwarded-for"], "2001:db8::7");
    assert_eq!(
        (&told["x-forwarded-proto"], &told["x-forwarded-host"]),
        (&"http".parse().unwrap(), &told["host"])
    );
    assert_eq!(told["x-forwarded-port"], "8080");
    for gone in ["x-forwarded-prefix", "x_forwarded_for", "x-real-ip", "x-user_id"] {
        assert!(!told.contains_key(gone), "{gone}");
    }
    assert!(told.contains_key("x-kept_as_it_is"));
}

#[test]
fn what_a_trusted_proxy_says_stays_and_is_gone_on_with() {
    let told = rewritten(
        &["10.0.0.0/8"],
        FOR,
        "10.0.0.1",
        &[
            ("host", "inner"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-real-ip", "198.51.100.1"),
            ("x-user-id", "1"),
        ],
    );
    assert_eq!(told["x-forwarded-for"], "198.51.100.1, 10.0.0.2, 10.0.0.1");
    assert_eq!(
        (&told["x-forwarded-proto"], &told["x-forwarded-host"]),
        (&"https".parse().unwrap(), &"shop".parse().unwrap())
    );
    assert!(told.contains_key("x-real-ip") && !told.contains_key("x_forwarded_for"));
    assert!(!told.contains_key("x-user-id"), "nobody outside writes what only the facade may say");
}

#[test]
fn forwarded_of_a_trusted_proxy_speaks_for_the_others() {
    let told = rewritten(
        &["10.0.0.0/8"],
        RFC,
        "10.0.0.1",
        &[
            ("forwarded", "for=\"[2001:db8::1]\";proto=https;host=shop"),
            ("x-forwarded-proto", "ftp"),
            ("x-forwarded-port", "1"),
        ],
    );
    assert_eq!(told["forwarded"], "for=\"[2001:db8::1]\";proto=https;host=shop, for=10.0.0.1;proto=http");
    assert_eq!(told["x-forwarded-for"], "2001:db8::1, 10.0.0.1");
    assert_eq!(
        (&told["x-forwarded-proto"], &told["x-forwarded-host"]),
        (&"https".parse().unwrap(), &"shop".parse().unwrap())
    );
    assert_eq!(told["x-forwarded-port"], "8080");
}

#[test]
fn another_host_on_the_same_connection_is_told() {
    let plan = plan(&[], FOR);
    let hop = hop(&plan, "192.0.2.1");
    for host in ["a", "a", "b", "a"] {
        let mut headers = headers(&[("host", host)]);
        plan.rewrite(&mut headers, &hop);
        assert_eq!(headers["forwarded"], format!("for=192.0.2.1;proto=http;host=\"{host}\""));
    }
}

#[test]
fn a_request_that_was_here_too_often_is_a_loop() {
    let plan = plan(&[], FOR);
    let passes = |lines: &[&str]| {
        plan.check_loop(&headers(&lines.iter().map(|line| ("via", *line)).collect::<Vec<_>>())).is_ok()
    };
    assert!(passes(&[]) && passes(&["1.1 banyan, 1.1 banyan", "1.1 banyan", "1.1 banyan, 1.1 other"]));
    assert!(!passes(&["1.1 banyan,2.0  banyan", "1.1 banyan (x)", "HTTP/1.1 banyan, 1.0 banyan"]));
    assert!(passes(&["1.1 banyans, 1.1 a, 1.1 b, 1.1 c, 1.1 d, 1.1 e"]));
}

#[test]
fn what_is_switched_off_is_not_told() {
    let off = ForwardedSettings {
        forwarded: false,
        x_forwarded_for: false,
        x_forwarded_host: false,
        x_forwarded_port: false,
        x_forwarded_proto: false,
        via: false,
        trusted: vec!["10.0.0.1".to_owned()],
        ..ForwardedSettings::default()
    };
    let plan = ForwardedPlan::new(&off, Vec::new(), &mut Vec::new());
    for peer in ["192.0.2.1", "10.0.0.1"] {
        let mut headers =
            headers(&[("host", "shop"), ("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")]);
        plan.rewrite(&mut headers, &hop(&plan, peer));
        plan.append_via(&mut headers, Version::HTTP_11);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host"], "{peer}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = ForwardedSettings {
        trusted: vec!["10.0.0.0/33".to_owned()],
        removed: vec!["a b".to_owned()],
        pseudonym: "a b".to_owned(),
        ..ForwardedSettings::default()
    };
    let mut errors = Vec::new();
    ForwardedPlan::new(&wrong, Vec::new(), &mut errors);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(
        errors[0].contains("10.0.0.0/33") && errors[1].contains("a b") && errors[2].contains("pseudonym")
    );
}
