//! The metrics, read as Prometheus reads them.

use std::collections::{BTreeMap, BTreeSet};

use crate::served::Served;
use crate::support::{Upstream, Wire, eventually};

/// A family by name: its type, and its samples by name and labels.
#[derive(Default)]
struct Family {
    kind: String,
    has_help: bool,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let family = families.entry(name.to_owned()).or_default();
            assert!(family.samples.is_empty(), "{name} is described after its samples");
            match what {
                "HELP" => family.has_help = !rest.is_empty(),
                "TYPE" => family.kind = rest.to_owned(),
                other => panic!("# {other}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(seen.insert(series.to_owned()), "{series} is there twice");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
            let (label, value) = pair.split_once('=').unwrap();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
            (label.to_owned(), value.to_owned())
        });
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let base = base.filter(|base| families.contains_key(*base)).unwrap_or(name);
        let family = families.get_mut(base).unwrap_or_else(|| panic!("{name} was not described"));
        family.samples.push((name.to_owned(), labels.collect(), value.parse().unwrap()));
    }
    families
}

fn well_formed(families: &BTreeMap<String, Family>) {
    for (name, family) in families {
        assert!(name.starts_with("banyan_facade_") && family.has_help, "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name} is a {}", family.kind);
        assert!(["counter", "gauge", "histogram"].contains(&family.kind.as_str()), "{name}");
        if family.kind == "histogram" {
            histograms(name, family);
        }
    }
}

/// Buckets grow, and the last one holds as many as are counted.
fn histograms(name: &str, family: &Family) {
    assert!(name.ends_with("_seconds"), "{name}");
    let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        if sample.ends_with("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            buckets.entry(labels).or_default().push((bound, *value));
        }
    }
    for (labels, buckets) in buckets {
        assert!(buckets.is_sorted(), "{name}{labels:?}: {buckets:?}");
        let of = |suffix: &str| {
            let found = |sample: &&(String, BTreeMap<String, String>, f64)| {
                sample.0 == format!("{name}{suffix}") && sample.1 == labels
            };
            family.samples.iter().find(found).unwrap().2
        };
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, of("_count")));
        assert!(of("_sum") >= 0.0);
    }
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = &families[&format!("banyan_facade_{name}")];
    let found = |sample: &&(String, BTreeMap<String, String>, f64)| {
        labels.iter().all(|(label, value)| sample.1.get(*label).is_some_and(|found| found == value))
    };
    let mut found = family.samples.iter().filter(found);
    let value = found.next().unwrap_or_else(|| panic!("{name} {labels:?}")).2;
    assert!(found.next().is_none(), "{name} {labels:?} is there several times");
    value
}

#[test]
fn the_exposition_is_well_formed_from_the_start_and_counts_what_happens() {
    let served = Served::start(Upstream::saying("12345").address, Upstream::nobody(), "");
    let read = || parse(&served.ask("GET", "/metrics", "", "").text());
    let start = read();
    well_formed(&start);
    let of = [("context", "cart"), ("side", "monolith")];
    let with = |more: &[(&'static str, &'static str)]| [&of[..], more].concat();
    assert_eq!(value(&start, "requests_total", &with(&[("kind", "read"), ("status_class", "2xx")])), 0.0);
    assert_eq!(value(&start, "flag_stage", &[("context", "users"), ("stage", "monolith")]), 1.0);
    assert_eq!(value(&start, "control_store_up", &[]), 1.0);

    let mut wire = Wire::connect(served.address);
    for _ in 0..3 {
        wire.send("POST /cart HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nabcd");
        assert_eq!(wire.message().unwrap().status(), 200);
    }
    let set = r#"{"reads":12.5,"reason":"r","actor":"a"}"#;
    assert_eq!(served.ask("PUT", "/api/v1/flags/cart", "", set).status(), 200);
    eventually("the flag is served", || value(&read(), "flag_reads_ratio", &of[..1]) == 0.125);
    let now = read();
    well_formed(&now);
    assert_eq!(value(&now, "requests_total", &with(&[("kind", "write"), ("status_class", "2xx")])), 3.0);
    assert_eq!(value(&now, "received_bytes_total", &of), 12.0);
    assert_eq!(value(&now, "sent_bytes_total", &of), 15.0);
    assert_eq!(value(&now, "requests_in_flight", &of), 0.0);
    assert_eq!(value(&now, "connections_open", &[]), 1.0);
    assert!(value(&now, "flag_token", &of[..1]) > 0.0);
    drop(wire);
    eventually("the connection counts as closed", || value(&read(), "connections_open", &[]) == 0.0);
}

#[test]
fn a_request_under_way_counts_at_its_side() {
    let (told, asked) = std::sync::mpsc::channel();
    let asked = std::sync::Mutex::new(asked);
    let monolith = Upstream::answering(move |_| {
        asked.lock().unwrap().recv().unwrap();
        crate::support::ok("late")
    });
    let served = Served::start(monolith.address, Upstream::nobody(), "");
    let read = |labels: &[(&str, &str)]| {
        value(&parse(&served.ask("GET", "/metrics", "", "").text()), "requests_in_flight", labels)
    };
    let of = [("context", "users"), ("side", "monolith")];
    let mut wire = Wire::connect(served.address);
    wire.send("GET /users/1 HTTP/1.1\r\nhost: a\r\n\r\n");
    eventually("it is under way", || read(&of) == 1.0);
    assert_eq!(read(&[("context", ""), ("side", "")]), 0.0);
    told.send(()).unwrap();
    wire.message().unwrap();
    eventually("it has ended", || read(&of) == 0.0);
}
