//! What a plan refuses, and that it says everything at once.

use control::ControlSettings;

use super::Plan;
use crate::settings::{ContextSettings, KeySource, RouteSettings, Settings, UpstreamSettings};

fn route(prefix: &str, context: &str) -> RouteSettings {
    RouteSettings { prefix: prefix.to_owned(), context: context.to_owned(), ..RouteSettings::default() }
}

fn settings() -> Settings {
    let upstream = |url: &str| UpstreamSettings { url: url.to_owned(), ..UpstreamSettings::default() };
    Settings {
        upstreams: [
            ("monolith".to_owned(), upstream("http://127.0.0.1:3000")),
            ("svc".to_owned(), upstream("http://svc")),
        ]
        .into(),
        contexts: [(
            "users".to_owned(),
            ContextSettings { service: "svc".to_owned(), ..ContextSettings::default() },
        )]
        .into(),
        routes: vec![route("/users/", "users")],
        control: ControlSettings { path: "control.db".into(), ..ControlSettings::default() },
        ..Settings::default()
    }
}

#[test]
fn sound_settings_become_a_plan() {
    let plan = Plan::new(&settings()).unwrap();
    assert_eq!(plan.context_names().collect::<Vec<_>>(), ["users"]);
    assert_eq!(plan.upstreams.iter().find(|u| u.name == "svc").unwrap().url(), "http://svc:80");
    assert_eq!(plan.routes.iter().map(|rule| rule.text.as_str()).collect::<Vec<_>>(), ["/users/"]);
}

#[test]
fn every_error_is_told_at_once() {
    let mut settings = settings();
    settings.monolith = "monolit".to_owned();
    settings.admin_listen = "0.0.0.0:8081".to_owned();
    settings.timeouts.connect_ms = 0;
    settings.workers = 513;
    settings.private = ["/", "/a", "/a/", "/%61", "/users"].map(str::to_owned).into();
    settings.fallback.statuses = vec![200];
    settings.upstreams.insert(
        "bad".to_owned(),
        UpstreamSettings { url: "https://x/y".to_owned(), ..UpstreamSettings::default() },
    );
    settings.routes.push(route("/users", "users"));
    settings.routes.push(route("orders", "order"));
    let users = settings.contexts.get_mut("users").unwrap();
    users.service = "nobody".to_owned();
    users.key = vec![KeySource::Header("x y".to_owned())];
    let error = Plan::new(&settings).unwrap_err().to_string();
    for part in [
        "`monolit`",
        "admin_token",
        "timeouts.connect_ms",
        "`workers` is 513; at most 512",
        "`private[0]` is `/`",
        "`private[2]` is `/a/` again",
        "`private[3]` is `/%61`",
        "route 1 `/users/` lies under `/users` in setting `private`",
        "`fallback.statuses[0]` is 200",
        "upstreams.bad.url",
        "route 2 `/users` claims the same requests as route 1 `/users/`",
        "route 3 `orders`, `prefix`: a prefix",
        "route 3 `orders`, `context`: the context `order` does not exist",
        "upstream `nobody`",
        "`x y` is no header name",
    ] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
}

#[test]
fn an_upstream_with_path_or_user_or_other_scheme_is_refused() {
    for url in ["http://a/b", "http://u@a", "ftp://a", "a:1", "", "http://"] {
        let mut settings = settings();
        settings.upstreams.insert(
            "svc".to_owned(),
            UpstreamSettings { url: url.to_owned(), ..UpstreamSettings::default() },
        );
        assert!(Plan::new(&settings).unwrap_err().to_string().contains("upstreams.svc.url"), "{url}");
    }
}
