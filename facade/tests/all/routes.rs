//! Routes by host, path, method and header, over real sockets.

use std::fs;
use std::process::Command;

use facade::settings::{HeaderSettings, RouteSettings, UpstreamSettings};

use crate::support::{Fixture, Upstream};

fn route() -> RouteSettings {
    RouteSettings { context: "users".to_owned(), ..RouteSettings::default() }
}

#[test]
fn a_request_goes_where_its_host_path_method_and_headers_say() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let assets = Upstream::saying("assets");
    let to_assets = || RouteSettings { upstream: "assets".to_owned(), ..RouteSettings::default() };
    let fixture = Fixture::with(monolith.address, service.address, |settings| {
        let url = format!("http://{}", assets.address);
        settings
            .upstreams
            .insert("assets".to_owned(), UpstreamSettings { url, ..UpstreamSettings::default() });
        let beta = HeaderSettings {
            name: "x-beta".to_owned(),
            equals: Some("1".to_owned()),
            ..HeaderSettings::default()
        };
        settings.routes = vec![
            RouteSettings { path: "/api/{version}/items/{id}".to_owned(), ..route() },
            RouteSettings { prefix: "/static".to_owned(), ..to_assets() },
            RouteSettings { prefix: "/".to_owned(), host: "*.cdn.example".to_owned(), ..to_assets() },
            RouteSettings { prefix: "/upload".to_owned(), methods: vec!["PUT".to_owned()], ..to_assets() },
            RouteSettings { prefix: "/beta".to_owned(), headers: vec![beta], ..to_assets() },
        ];
    });
    fixture.set("100", None);
    let ask = |method: &str, path: &str, host: &str, headers: &str| {
        fixture.request(&format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n{headers}\r\n"
        ))
    };
    for (method, path, host, headers, goal) in [
        ("GET", "/api/v1/items/7", "a", "", "service"),
        ("GET", "/api/v1/items/7/", "a", "", "service"),
        ("GET", "/api/v1/items", "a", "", "monolith"),
        ("GET", "/api/v1/items/7/x", "a", "", "monolith"),
        ("GET", "/static/a.css", "a", "", "assets"),
        ("GET", "/x/%2e%2e/%73tatic;v=1/a.css", "a", "", "assets"),
        ("GET", "/anything", "eu.CDN.example:80", "", "assets"),
        ("GET", "/anything", "cdn.example", "", "monolith"),
        ("PUT", "/upload/1", "a", "", "assets"),
        ("GET", "/upload/1", "a", "", "monolith"),
        ("GET", "/beta", "a", "X-Beta: 1\r\n", "assets"),
        ("GET", "/beta", "a", "X-Beta: 2\r\n", "monolith"),
    ] {
        assert_eq!(ask(method, path, host, headers).text(), goal, "{method} {host}{path} {headers}");
    }
    assert_eq!(ask("GET", "/static", "a", "").header("banyan-side"), None);
    assert_eq!(ask("GET", "/other", "a", "").header("banyan-side"), Some("monolith"));
}

#[test]
fn a_path_with_two_readings_of_different_routes_is_refused() {
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::saying("service"));
    let fixture = Fixture::new(monolith.address, service.address);
    for path in [
        "/x%2F..%2fusers/7",
        "/%2575sers/7",
        "/x/%252e%252e/users",
        "/users%2f7",
        "/users/..%2fx",
        "/x\\..\\users",
    ] {
        assert_eq!(fixture.get(path).status(), 400, "{path}");
    }
    for path in ["/users/a%2Fb", "/x/a%2Fb", "/x/%C3%A9%20", "/users/50%25"] {
        assert_eq!(fixture.get(path).status(), 200, "{path}");
    }
    assert!(service.seen().is_empty());
}

#[test]
fn the_table_is_printed_in_the_order_of_match_and_explained_alike() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[control]\npath = 'control.db'\n[upstreams.monolith]\nurl = 'http://127.0.0.1:1'\n\
        [upstreams.assets]\nurl = 'http://127.0.0.1:2'\n\
        [[routes]]\nprefix = '/'\n[[routes]]\nprefix = '/a'\nupstream = 'assets'\n\
        [[routes]]\npath = '/{x}'\nhost = 'b.example'\nmethods = ['POST']\nupstream = 'assets'\n\
        [[routes]]\npath = '/a/{id}'\nheaders = [{ name = 'X-Beta', prefix = 'on' }]\n";
    fs::write(folder.path().join("facade.toml"), text).unwrap();
    let facade = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_facade"))
            .current_dir(folder.path())
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_else(|_| panic!("{error}"))
    };
    let table = facade(&["routes"]);
    let paths: Vec<_> =
        table.as_array().unwrap().iter().map(|route| route["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/{x}", "/a/{id}", "/a", "/", "/"]);
    assert_eq!((&table[0]["host"], &table[0]["methods"][0]), (&"b.example".into(), &"POST".into()));
    assert_eq!(table[1]["headers"][0], "x-beta: on…");
    for (arguments, index, upstream) in [
        (&["explain", "GET", "/a/7", "-H", "x-beta: only"][..], 3, "monolith"),
        (&["explain", "GET", "/a/7"][..], 1, "assets"),
        (&["explain", "POST", "http://b.example/x"][..], 2, "assets"),
        (&["explain", "POST", "/x", "-H", "Host: b.example:81"][..], 2, "assets"),
        (&["explain", "GET", "http://b.example/x"][..], 0, "monolith"),
    ] {
        let told = facade(arguments);
        assert_eq!(
            (&told["route_index"], &told["upstream"]),
            (&index.into(), &upstream.into()),
            "{arguments:?}"
        );
    }
    let told = facade(&["explain", "GET", "/x%2f..%2fa"]);
    assert!(told["why"].as_str().unwrap().contains("400"), "{told}");
}
