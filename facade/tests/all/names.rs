//! Upstreams by name, whose addresses change while the facade runs; and instances that settings add and remove.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use facade::server::{Facade, Resolve};
use facade::settings::Settings;

use crate::hosts::{Hosts, Server, servers};
use crate::served::Served;
use crate::support::{Fixture, Upstream, eventually};

fn named(hosts: &Hosts, port: u16) -> Fixture {
    resolving(Arc::new(hosts.clone()), |settings| {
        settings.upstreams.get_mut("monolith").unwrap().url = format!("http://shop.internal:{port}");
    })
}

fn resolving(resolver: Arc<dyn Resolve>, change: impl FnOnce(&mut Settings)) -> Fixture {
    let nobody = Upstream::nobody();
    let change = |settings: &mut Settings| {
        settings.dns.interval_ms = 5;
        change(settings);
    };
    Fixture::started(nobody, nobody, change, |settings| Facade::start_resolving(settings, resolver).unwrap())
}

fn is_asked(fixture: &Fixture, server: &Server) -> bool {
    (0..8).any(|_| fixture.get("/").text() == server.ip.to_string())
}

#[test]
fn every_address_of_a_name_is_an_instance_and_changes_are_followed() {
    let ([one, two, three], port) = servers();
    let hosts = Hosts::default();
    hosts.set(&[&one, &two]);
    let fixture = named(&hosts, port);
    assert!(is_asked(&fixture, &one) && is_asked(&fixture, &two) && !is_asked(&fixture, &three));
    hosts.set(&[&one, &two, &three]);
    eventually("the new address is asked", || is_asked(&fixture, &three));
    hosts.set(&[&three]);
    eventually("the others are not", || !is_asked(&fixture, &one) && !is_asked(&fixture, &two));
    (0..8).for_each(|_| assert_eq!(fixture.get("/").text(), three.ip.to_string()));
}

#[test]
fn an_address_that_goes_is_drained() {
    let ([one, two], port) = servers();
    let hosts = Hosts::default();
    hosts.set(&[&one]);
    let fixture = named(&hosts, port);
    (0..8).for_each(|_| assert_eq!(fixture.get("/").status(), 200));
    let mut slow = fixture.connect();
    slow.send("GET /slow HTTP/1.1\r\nhost: shop\r\n\r\n");
    eventually("the slow request is under way", || one.slow.load(SeqCst) == 1);
    hosts.set(&[&two]);
    // Without a request that would tell the workers.
    eventually("idle connections close, and the one in use stays", || one.open.load(SeqCst) == 1);
    eventually("requests go elsewhere", || fixture.get("/").text() == two.ip.to_string());
    one.may_end.store(1, SeqCst);
    let answer = slow.message().unwrap();
    assert_eq!((answer.status(), answer.text()), (200, one.ip.to_string()));
    eventually("its connection is not kept", || one.open.load(SeqCst) == 0);
}

#[test]
fn requests_do_not_notice_that_addresses_change() {
    let ([one, two], port) = servers();
    let hosts = Hosts::default();
    hosts.set(&[&one]);
    let fixture = named(&hosts, port);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = fixture.connect();
                    while !is_over.load(SeqCst) {
                        wire.send("POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 2\r\n\r\nhi");
                        assert_eq!(wire.message().unwrap().status(), 200);
                    }
                })
            })
            .collect();
        for round in 0..20 {
            let server = if round % 2 == 0 { &two } else { &one };
            hosts.set(&[server]);
            eventually("the change is followed", || {
                fixture.get("/").text() == server.ip.to_string()
                    || clients.iter().any(|client| client.is_finished())
            });
        }
        is_over.store(true, SeqCst);
    });
}

#[test]
fn a_name_that_fails_keeps_its_addresses() {
    let ([one, two], port) = servers();
    let hosts = Hosts::default();
    hosts.set(&[&one]);
    let fixture = named(&hosts, port);
    hosts.fail();
    let begun = Instant::now();
    // Long enough for several looks at the name, all of which fail.
    while begun.elapsed() < Duration::from_millis(200) {
        assert_eq!(fixture.get("/").text(), one.ip.to_string());
    }
    hosts.set(&[&two]);
    eventually("it is followed again", || is_asked(&fixture, &two));
}

#[test]
fn a_name_that_is_unknown_at_the_start_is_answered_with_503_until_it_is_known() {
    let ([one], port) = servers();
    let hosts = Hosts::default();
    let works = Upstream::saying("works");
    let fixture = resolving(Arc::new(hosts.clone()), |settings| {
        settings.upstreams.get_mut("monolith").unwrap().url = format!("http://shop.internal:{port}");
        settings.upstreams.get_mut("svc").unwrap().url = format!("http://{}", works.address);
        let route = facade::settings::RouteSettings {
            prefix: "/works".to_owned(),
            upstream: "svc".to_owned(),
            ..Default::default()
        };
        settings.routes.push(route);
    });
    let refused = fixture.get("/");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert_eq!(
        refused.json()["detail"],
        "the upstream monolith has no known address; its name cannot be resolved"
    );
    assert_eq!(fixture.get("/works").text(), "works");
    hosts.set(&[&one]);
    eventually("it is known", || fixture.get("/").text() == one.ip.to_string());
}

/// Answers only once it is told to.
struct Hung(Arc<AtomicBool>, Hosts);

impl Resolve for Hung {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        eventually("it may answer", || self.0.load(SeqCst));
        self.1.resolve(host, port)
    }
}

#[test]
fn a_name_server_that_hangs_delays_the_start_by_the_timeout_and_its_late_answer_counts() {
    let ([one], port) = servers();
    let (may_answer, hosts) = (Arc::new(AtomicBool::new(false)), Hosts::default());
    hosts.set(&[&one]);
    let fixture = resolving(Arc::new(Hung(Arc::clone(&may_answer), hosts)), |settings| {
        settings.dns.timeout_ms = 20;
        settings.upstreams.get_mut("monolith").unwrap().url = format!("http://shop.internal:{port}");
    });
    assert_eq!(fixture.get("/").status(), 503);
    may_answer.store(true, SeqCst);
    eventually("the answer counts", || fixture.get("/").status() == 200);
}

#[test]
fn the_systems_names_work_whatever_families_they_have() {
    let upstream = Upstream::saying("here");
    let fixture = Fixture::with(upstream.address, upstream.address, |settings| {
        let url = format!("http://localhost:{}", upstream.address.port());
        settings.upstreams.get_mut("monolith").unwrap().url = url;
    });
    (0..20).for_each(|_| assert_eq!(fixture.get("/").text(), "here"));
}

#[test]
fn an_instance_that_the_settings_remove_is_drained_and_the_others_keep_their_connections() {
    let ([one, two, three], port) = servers();
    let urls =
        |servers: &[&Server]| servers.iter().map(|server| format!("http://{}:{port}", server.ip)).collect();
    let mut given = None;
    let fixture = Fixture::with(Upstream::nobody(), Upstream::nobody(), |settings| {
        let upstream = settings.upstreams.get_mut("monolith").unwrap();
        upstream.url.clear();
        upstream.instances = urls(&[&one, &two]);
        settings.workers = 1;
        given = Some(settings.clone());
    });
    let mut settings = given.unwrap();
    eventually("both have connections", || fixture.get("/").status() == 200 && two.open.load(SeqCst) == 1);
    let mut slow: Vec<_> = (0..2).map(|_| fixture.connect()).collect();
    slow.iter_mut().for_each(|wire| wire.send("GET /slow HTTP/1.1\r\nhost: shop\r\n\r\n"));
    eventually("each has a slow request", || [&one, &two].iter().all(|one| one.slow.load(SeqCst) == 1));
    eventually("another connection of the first is idle", || {
        fixture.get("/").status() == 200 && one.open.load(SeqCst) > 1
    });
    eventually("and one of the second", || fixture.get("/").status() == 200 && two.open.load(SeqCst) == 2);
    settings.upstreams.get_mut("monolith").unwrap().instances = urls(&[&two, &three]);
    fixture.facade.reloader().reload(|| Ok(settings)).unwrap();
    eventually("idle connections close", || one.open.load(SeqCst) == 1);
    assert!(!is_asked(&fixture, &one) && is_asked(&fixture, &two) && is_asked(&fixture, &three));
    assert_eq!(two.open.load(SeqCst), 2);
    [&one, &two].iter().for_each(|server| server.may_end.store(1, SeqCst));
    slow.iter_mut().for_each(|wire| assert_eq!(wire.message().unwrap().status(), 200));
    eventually("its last connection closes", || one.open.load(SeqCst) == 0);
}

#[test]
fn a_name_that_cannot_be_resolved_is_seen_in_table_metrics_and_admin_api() {
    let works = Upstream::saying("works");
    let served = Served::start(works.address, works.address, "dns.timeout_ms = 100");
    let path = served.folder.path().join("facade.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let more = "[upstreams.lost]\nurl = 'http://no-such-host.invalid'\n[[routes]]\nprefix = '/lost'\nupstream = 'lost'\n";
    std::fs::write(&path, format!("{text}{more}")).unwrap();
    let ask = |path: &str| served.ask("GET", path, "", "");
    let lost = || {
        let upstreams = ask("/api/v1/upstreams").json()["items"].clone();
        upstreams.as_array().unwrap().iter().find(|upstream| upstream["name"] == "lost").cloned()
    };
    eventually("the settings are taken over", || {
        served.signal("-HUP");
        lost().is_some()
    });
    let mut wire = crate::support::Wire::connect(served.address);
    wire.send("GET / HTTP/1.1\r\nhost: shop\r\n\r\n");
    assert_eq!(wire.message().unwrap().text(), "works");
    let name = lost().unwrap()["names"][0].clone();
    assert_eq!(
        (&name["name"], &name["addresses"]),
        (&"no-such-host.invalid:80".into(), &serde_json::json!([]))
    );
    assert!(name["failures"].as_u64().unwrap() > 0 && name["last_error"].is_string(), "{name}");
    let metrics = ask("/metrics").text();
    let labels = "{upstream=\"lost\",name=\"no-such-host.invalid:80\"}";
    assert!(metrics.contains(&format!("banyan_facade_upstream_name_resolved{labels} 0\n")), "{metrics}");
    let counted = format!("requests_total{{upstream=\"monolith\",instance=\"{}\"}} 1\n", works.address);
    assert!(metrics.contains(&format!("banyan_facade_upstream_{counted}")), "{metrics}");
    let table = String::from_utf8(served.run(&["upstreams"]).stdout).unwrap();
    let row = table.lines().find(|line| line.contains("no-such-host")).unwrap();
    assert!(row.contains("unresolved"), "{table}");
    assert!(table.lines().any(|line| line.contains(&works.address.to_string()) && line.contains("healthy")));
}
