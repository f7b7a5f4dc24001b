//! What the tests of the workspace rely on when they ask for PostgreSQL.
//!
//! Invariant: every claim is tried on a real server.

#![cfg(test)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pg_harness::{Cluster, Mode, Programs, Server, shared, shared_database};

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn answers(url: &str) -> bool {
    let address = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    TcpStream::connect(address).is_ok()
}

/// A client in a process of its own, connected to that database.
fn client(program: &str, url: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(Programs::find().unwrap().path(program));
    command.args(["-d", url]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn two_databases_share_nothing() {
    let (one, other) = (shared_database().unwrap(), shared_database().unwrap());
    one.run("CREATE TABLE orders (id int)").unwrap();
    assert_eq!(one.run("SELECT count(*), 'x' FROM orders").unwrap(), "0|x");
    let error = other.run("SELECT * FROM orders").unwrap_err().to_string();
    assert!(error.contains("does not exist"), "{error}");
}

#[test]
fn a_database_is_dropped_under_its_connections_and_streams() {
    let database = shared_database().unwrap();
    let (name, url) = (database.name().to_owned(), database.url().to_owned());
    database.run("CREATE TABLE t (id int); CREATE PUBLICATION p FOR TABLE t").unwrap();
    let slot = format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')");
    database.run(&slot).unwrap();
    let mut sleeper = client("psql", &url, &["-c", "SELECT pg_sleep(600)"]);
    let options = ["--start", "--no-loop", "-f", "-", "-o", "proto_version=1", "-o", "publication_names=p"];
    let mut streamer = client("pg_recvlogical", &url, &[&["--slot", &name], &options[..]].concat());
    let count = |sql: &str| shared().unwrap().run("postgres", &[sql]).unwrap();
    let active = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}' AND active");
    until("the slot streams", || count(&active) == "1");

    drop(database);

    assert_eq!(count(&format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")), "0");
    assert!(!sleeper.wait().unwrap().success());
    assert!(!streamer.wait().unwrap().success());
}

#[test]
fn a_durable_cluster_keeps_its_address_and_what_it_acknowledged() {
    let cluster = Cluster::durable().unwrap();
    let database = cluster.create_database().unwrap();
    let settings = "SELECT name || setting FROM pg_settings WHERE name IN ('fsync', 'wal_level') ORDER BY 1";
    assert_eq!(database.run(settings).unwrap(), "fsyncon\nwal_levellogical");
    database.run("CREATE TABLE t AS SELECT 7 AS kept").unwrap();
    cluster.stop(Mode::Immediate).unwrap();
    assert!(!answers(database.url()));
    assert!(cluster.pid().is_err());
    cluster.start_again().unwrap();
    assert_eq!(database.run("SELECT kept FROM t").unwrap(), "7");
    cluster.restart(Mode::Fast).unwrap();
    assert_eq!(database.run("SELECT kept FROM t").unwrap(), "7");
}

#[test]
fn a_frozen_cluster_goes_on_where_it_was() {
    let cluster = Cluster::start().unwrap();
    let database = cluster.create_database().unwrap();
    let sql = "CREATE TABLE t (id int); SELECT pg_sleep(0.2); INSERT INTO t VALUES (1)";
    let mut psql = client("psql", database.url(), &["-c", sql]);
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until("the statement sleeps", || database.run(sleeping).unwrap() == "1");
    cluster.freeze().unwrap();
    let frozen = Instant::now();
    while frozen.elapsed() < Duration::from_millis(500) {
        assert!(psql.try_wait().unwrap().is_none(), "a frozen server answered");
        thread::sleep(Duration::from_millis(10));
    }
    cluster.thaw().unwrap();
    assert!(psql.wait().unwrap().success());
    assert_eq!(database.run("SELECT count(*) FROM t").unwrap(), "1");
}

#[test]
fn a_dropped_cluster_is_gone_even_if_it_was_frozen() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url("postgres");
    cluster.freeze().unwrap();
    assert!(answers(&url), "the kernel still accepts for it");
    drop(cluster);
    assert!(!answers(&url));
}

#[test]
fn no_server_survives_the_kill_of_its_owner() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_pg-harness"));
    let mut owner = owner.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening ").unwrap();
    let folder = Server::at(url).unwrap().run("postgres", &["SHOW unix_socket_directories"]).unwrap();
    assert!(std::path::Path::new(&folder).is_dir());
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the port is closed", || !answers(url));
    until("the folder is removed", || !std::path::Path::new(&folder).exists());
}
