//! The access log, as a file and as a stream.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::served::Served;
use crate::support::{Fixture, Upstream, Wire, eventually};

fn started(format: &str) -> Served {
    let settings = format!("access_log = {{ format = '{format}', path = 'access.log' }}");
    Served::start(Upstream::saying("monolith").address, Upstream::saying("service").address, &settings)
}

fn file(served: &Served) -> PathBuf {
    served.folder.path().join("access.log")
}

fn lines(path: &PathBuf, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(path).unwrap_or_default();
    eventually("the lines are written", || read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}

fn get(served: &Served, path: &str, headers: &str) {
    let mut wire = Wire::connect(served.address);
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n"));
    wire.message().unwrap();
}

#[test]
fn each_request_is_one_json_line_with_its_ids_and_no_secret() {
    let served = started("json");
    let trace =
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx-request-id: r-7\r\n";
    get(&served, "/cart/1?token=s3cret&x=1", trace);
    get(&served, "/elsewhere", "");
    let lines = lines(&file(&served), 2);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    for (name, expected) in [
        ("client", Value::from("127.0.0.1")),
        ("method", "GET".into()),
        ("target", "/cart/1?token=***&x=1".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("bytes", 8.into()),
        ("context", "cart".into()),
        ("side", "monolith".into()),
        ("upstream", "monolith".into()),
        ("request_id", "r-7".into()),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
        ("fell_back", false.into()),
    ] {
        assert_eq!(line[name], expected, "{name} in {line}");
    }
    assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{line}");
    let other: Value = serde_json::from_str(&lines[1]).unwrap();
    assert!(other["context"].is_null() && other["trace_id"].as_str().unwrap().len() == 32, "{other}");
}

#[test]
fn a_request_that_is_refused_as_malformed_is_told_with_what_could_be_read_of_it() {
    let served = started("json");
    for (bytes, method, target, status) in [
        ("POST /cart?token=s3cret HTTP/1.1\r\nbad\r\n\r\n", "POST", "/cart?token=***", 400),
        ("GET /cart HTTP/3.0\r\n\r\n", "GET", "/cart", 505),
        ("TRACE /cart HTTP/1.1\r\nhost: a\r\n\r\n", "TRACE", "/cart", 501),
        ("GET /a\tb HTTP/1.1\r\n\r\n", "GET", "-", 400),
    ] {
        let mut wire = Wire::connect(served.address);
        wire.send(bytes);
        assert_eq!(wire.message().unwrap().status(), status, "{bytes:?}");
        drop(wire);
        let lines = || fs::read_to_string(file(&served)).unwrap_or_default();
        let is_told = || {
            lines().lines().any(|line| {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                (&line["method"], &line["target"], &line["status"])
                    == (&method.into(), &target.into(), &status.into())
            })
        };
        eventually(&format!("{bytes:?} is told"), is_told);
    }
}

#[test]
fn a_hangup_lets_a_renamed_file_go() {
    let served = started("common");
    get(&served, "/cart", "");
    let (path, renamed) = (file(&served), served.folder.path().join("access.log.1"));
    let old = lines(&path, 1);
    assert!(
        old[0].starts_with("127.0.0.1 - - [") && old[0].ends_with("\"GET /cart HTTP/1.1\" 200 8"),
        "{old:?}"
    );
    fs::rename(&path, &renamed).unwrap();
    served.signal("-HUP");
    eventually("a new file is there", || path.exists());
    get(&served, "/users/1", "");
    assert!(lines(&path, 1)[0].contains("/users/1"));
    assert_eq!(fs::read_to_string(&renamed).unwrap().lines().count(), 1);
}

#[test]
fn what_is_queued_at_the_end_is_written() {
    let mut served = started("json");
    for number in 0..50 {
        get(&served, &format!("/cart/{number}"), "");
    }
    served.signal("-TERM");
    assert!(served.process.wait().unwrap().success());
    assert_eq!(fs::read_to_string(file(&served)).unwrap().lines().count(), 50);
}

#[test]
fn a_reader_that_stands_still_costs_lines_and_no_requests() {
    let settings = "access_log = { format = 'json', path = 'stdout', queue_lines = 1 }";
    let served = Served::start(Upstream::saying("m").address, Upstream::nobody(), settings);
    let mut wire = Wire::connect(served.address);
    // Nobody reads the pipe, which holds 64 KiB; each line takes more than 2 KiB.
    let target = format!("/cart/{}", "x".repeat(2_000));
    for _ in 0..150 {
        wire.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!(wire.message().unwrap().status(), 200);
    }
    let text = served.ask("GET", "/metrics", "", "").text();
    let dropped = text.lines().find_map(|line| line.strip_prefix("banyan_facade_access_log_dropped_total "));
    assert!(dropped.unwrap().parse::<u64>().unwrap() > 0);
}

#[test]
fn an_answer_of_the_monolith_for_a_failing_service_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let (monolith, service) = (Upstream::saying("monolith"), Upstream::nobody());
    let fixture = Fixture::with(monolith.address, service, |settings| {
        settings.access_log.format = facade::settings::AccessLogFormat::Json;
        settings.access_log.path.clone_from(&path);
    });
    fixture.set("100", None);
    assert_eq!(fixture.get("/users/1").text(), "monolith");
    let line: Value = serde_json::from_str(&lines(&path, 1)[0]).unwrap();
    assert_eq!((&line["fell_back"], &line["side"]), (&true.into(), &"monolith".into()), "{line}");
    assert_eq!((&line["context"], &line["upstream"]), (&"users".into(), &"monolith".into()), "{line}");
}
