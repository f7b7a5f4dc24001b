//! `facade upgrade`: a new process in the old one's place, under load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;

use crate::foreign::{curl, served};
use crate::support::{PATIENCE, Upstream, Wire, eventually};

const GET: &str = "GET / HTTP/1.1\r\nhost: shop\r\n\r\n";
const UPGRADABLE: &str = "upgrade_socket = 'facade.sock'";

/// Asks again and again; how often it was answered. Every failure is a panic.
fn ask(address: SocketAddr, per_connection: usize, count: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let mut wire = Wire::connect(address);
        for _ in 0..per_connection {
            wire.send(GET);
            let answer = wire.message().expect("the connection closed under a request");
            assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
            count.fetch_add(1, Relaxed);
            if answer.header("connection") == Some("close") || stop.load(Relaxed) {
                break;
            }
        }
    }
}

#[test]
fn an_upgrade_under_load_refuses_and_resets_nobody() {
    let upstream = Upstream::saying("hello");
    let mut served = served(&upstream, UPGRADABLE);
    let (count, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = [1, 1, 3, usize::MAX, usize::MAX]
        .map(|per_connection| {
            let (address, count, stop) = (served.address, Arc::clone(&count), Arc::clone(&stop));
            thread::spawn(move || ask(address, per_connection, &count, &stop))
        })
        .into_iter()
        .collect();
    for _ in 0..2 {
        let before = count.load(Relaxed);
        eventually("clients are served", || count.load(Relaxed) > before + 50);
        let mut old = served.upgrade();
        eventually("the old process has ended", || old.has_ended());
    }
    let before = count.load(Relaxed);
    eventually("clients are served", || count.load(Relaxed) > before + 50);
    stop.store(true, Relaxed);
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_successor_that_does_not_start_leaves_the_running_one_as_it_is() {
    let served = served(&Upstream::saying("hello"), UPGRADABLE);
    let path = served.folder.path().join("facade.toml");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{old}[upstreams.monolith2]\nurl = 'nonsense'\n")).unwrap();
    let mut upgrade = Command::new(env!("CARGO_BIN_EXE_facade"));
    let output = upgrade.arg("upgrade").arg("--config").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    for _ in 0..10 {
        let mut wire = served.connect();
        wire.send(GET);
        assert_eq!(wire.message().unwrap().text(), "hello");
    }
}

#[test]
fn without_a_running_facade_an_upgrade_says_what_to_do() {
    let mut served = served(&Upstream::saying("hello"), UPGRADABLE);
    served.process.signal("TERM");
    eventually("it has ended", || served.process.has_ended());
    let mut upgrade = Command::new(env!("CARGO_BIN_EXE_facade"));
    let output = upgrade
        .arg("upgrade")
        .arg("--config")
        .arg(served.folder.path().join("facade.toml"))
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("facade.sock") && error.contains("facade serve"), "{error}");
}

#[test]
fn a_draining_facade_that_could_be_upgraded_refuses_new_connections() {
    let (arrived, has_arrived) = mpsc::channel();
    let upstream = Upstream::raw(move |mut wire| {
        wire.head().unwrap();
        arrived.send(()).unwrap();
        thread::park();
    });
    let served = served(&upstream, UPGRADABLE);
    let mut busy = TcpStream::connect(served.address).unwrap();
    busy.set_read_timeout(Some(PATIENCE)).unwrap();
    busy.write_all(GET.as_bytes()).unwrap();
    has_arrived.recv_timeout(PATIENCE).unwrap();
    served.process.signal("TERM");
    eventually("it accepts no more", || TcpStream::connect(served.address).is_err());
    busy.set_nonblocking(true).unwrap();
    assert!(busy.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[test]
fn a_successor_takes_tls_over_and_settings_of_its_own() {
    let tls = "[tls]\nlisten = '127.0.0.1:0'\ncertificate = 'shop.pem'\nkey = 'shop.key'";
    let mut served = served(&Upstream::saying("hello"), &format!("{UPGRADABLE}\n{tls}"));
    let path = served.folder.path().join("facade.toml");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{old}[limits]\nrequests_per_connection = 1\n")).unwrap();
    let mut old = served.upgrade();
    eventually("the old process has ended", || old.has_ended());
    let mut wire = served.connect();
    wire.send(GET);
    assert_eq!(wire.message().unwrap().header("connection"), Some("close"));
    assert_eq!(curl(&["-k", &format!("https://{}/", served.tls.unwrap())]), "hello");
}
