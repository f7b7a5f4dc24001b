//! Memory that connections and bodies hold.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::Binaries;

use super::peers::{PATH, Setup, start, upstream};
use super::{Measured, folder, ticks};
use crate::shell;

const CONNECTIONS: usize = 10_000;
const IDLE_MIB: f64 = 200.0;
const BODY_BYTES: usize = 1 << 30;
const BODY_MIB: f64 = 8.0;
const KIB_PER_MIB: f64 = 1024.0;
/// Descriptors that each of the two processes needs beside the connections.
const OTHER_FILES: usize = 500;

/// What the facade holds while so many clients, each answered once, say nothing.
pub(super) fn of_idle_connections(binaries: &Binaries) -> Result<Measured> {
    allow_files(CONNECTIONS + OTHER_FILES)?;
    let folder = folder()?;
    let (_upstream, port) = upstream(folder.path())?;
    let facade = start(binaries, folder.path(), &Setup::plain(port))?;
    let address = facade.url()?.trim_start_matches("http://").to_owned();
    let mut idle = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let connected = connect(&address).with_context(|| format!("connection {number}"));
        idle.push(connected?);
    }
    let held = ticks::resident_memory_kib(facade.pid()).context("the facade is gone")?;
    let open = idle.iter_mut().filter_map(|stream| is_open(stream).ok()).filter(|is_open| *is_open).count();
    ensure!(open == CONNECTIONS, "only {open} of {CONNECTIONS} connections stayed open");
    Ok(Measured::at_most(held as f64 / KIB_PER_MIB, IDLE_MIB))
}

/// A connection that has served a request and waits for the next.
fn connect(address: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {PATH} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let read = stream.read(&mut [0; 4096])?;
    ensure!(read > 0, "it was closed without an answer");
    Ok(stream)
}

fn is_open(stream: &mut TcpStream) -> Result<bool> {
    stream.set_nonblocking(true)?;
    // What is left of the answer may be read first.
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Ok(error.kind() == ErrorKind::WouldBlock),
        }
    }
}

/// Raises the limit of open files for this process and those that it starts, where it is too low.
fn allow_files(needed: usize) -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let soft = line.split_whitespace().nth(3).and_then(|soft| soft.parse::<usize>().ok());
    if soft.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let (pid, limit) = (std::process::id().to_string(), format!("--nofile={needed}:{needed}"));
    shell::run(Command::new("prlimit").args(["--pid", &pid, &limit]))
        .with_context(|| format!("{needed} open files are not allowed here; run `ulimit -n {needed}` first"))
}

/// What a body of 1 GiB adds at most, in the direction in which it adds more.
pub(super) fn of_a_large_body(binaries: &Binaries) -> Result<Measured> {
    let folder = folder()?;
    let port = serve_bodies()?;
    let facade = start(binaries, folder.path(), &Setup::plain(port))?;
    let address = facade.url()?.trim_start_matches("http://").to_owned();
    let mut most = 0.0;
    for (direction, transfer) in [("up", upload as fn(&str, usize) -> Result<()>), ("down", download)] {
        // A small one first, so that what every first request takes does not count.
        transfer(&address, 1 << 20)?;
        // Forgets the peak so far (man 5 proc).
        fs::write(format!("/proc/{}/clear_refs", facade.pid()), "5").context("cannot reset the peak")?;
        let before = ticks::resident_memory_kib(facade.pid()).context("the facade is gone")?;
        transfer(&address, BODY_BYTES).with_context(|| format!("1 GiB {direction}"))?;
        let peak = ticks::peak_memory_kib(facade.pid()).context("the facade is gone")?;
        let added = peak.saturating_sub(before) as f64 / KIB_PER_MIB;
        eprintln!("1 GiB {direction} adds {added:.2} MiB");
        most = f64::max(most, added);
    }
    Ok(Measured::at_most(most, BODY_MIB))
}

/// An upstream that sends as many bytes as a path says, and reads whatever it is sent, slower than it comes.
fn serve_bodies() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    // Ends with this process; a connection that fails is seen by the one at its other end.
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || body(stream))))
    });
    Ok(port)
}

fn body(mut stream: TcpStream) -> Result<()> {
    while let Some(head) = head(&mut stream)? {
        let bytes: usize = field(&head, "content-length:").unwrap_or_default();
        drain(&mut stream, bytes)?;
        let wanted: usize = head.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap_or_default();
        let wanted = if head.starts_with("get") { wanted } else { 2 };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {wanted}\r\n\r\n")?;
        fill(&mut stream, wanted)?;
    }
    Ok(())
}

fn upload(address: &str, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "PUT /body HTTP/1.1\r\nHost: {address}\r\nContent-Length: {bytes}\r\n\r\n")?;
    fill(&mut stream, bytes)?;
    let head = head(&mut stream)?.context("no answer")?;
    ensure!(head.starts_with("http/1.1 200"), "answered {head}");
    Ok(())
}

fn download(address: &str, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /{bytes} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let head = head(&mut stream)?.context("no answer")?;
    ensure!(head.starts_with("http/1.1 200"), "answered {head}");
    ensure!(field(&head, "content-length:") == Some(bytes), "not the whole body was announced");
    drain(&mut stream, bytes)
}

/// A head in lower case, without a byte of what follows it; none at the end of the connection.
fn head(stream: &mut TcpStream) -> Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return if head.is_empty() { Ok(None) } else { Err(anyhow!("a head broke off")) };
        }
        head.extend_from_slice(&byte);
    }
    Ok(Some(String::from_utf8_lossy(&head).to_ascii_lowercase()))
}

fn field(head: &str, name: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn fill(stream: &mut TcpStream, bytes: usize) -> Result<()> {
    let piece = vec![b'x'; 256 * 1024];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(piece.len());
        stream.write_all(piece.get(..size).unwrap_or_default())?;
        left -= size;
    }
    Ok(())
}

/// Reads slower than anybody writes, so that whoever stands between must wait or keep what came.
fn drain(stream: &mut TcpStream, bytes: usize) -> Result<()> {
    let (mut left, mut piece, mut since) = (bytes, vec![0; 256 * 1024], 0);
    while left > 0 {
        let size = left.min(piece.len());
        let read = stream.read(piece.get_mut(..size).unwrap_or_default())?;
        ensure!(read > 0, "{left} bytes are missing");
        (left, since) = (left - read, since + read);
        if since > 1 << 20 {
            since = 0;
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}
