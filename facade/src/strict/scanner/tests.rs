//! What the scanner makes of bytes, whole and in pieces.
//!
//! Invariant: how the bytes are cut changes nothing.

use super::*;

const HEAD: &str = "POST /a HTTP/1.1\r\nHost: a\r\n";

/// Bytes that passed, heads among them, and why it stopped; fed in pieces of this size.
fn feed(bytes: &[u8], piece: usize) -> (usize, u64, Option<Stop>) {
    let mut scanner = Scanner::new(Limits::default());
    let (mut held, mut total) = (Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        held.extend_from_slice(piece);
        let (passed, stop) = scanner.scan(&held);
        total += passed;
        held.drain(..passed);
        if stop.is_some() {
            return (total, scanner.heads(), stop);
        }
    }
    (total, scanner.heads(), None)
}

fn everywhere(bytes: &str) -> (usize, u64, Option<Stop>) {
    let whole = feed(bytes.as_bytes(), bytes.len());
    for piece in 1..bytes.len().min(40) {
        assert_eq!(feed(bytes.as_bytes(), piece), whole, "{piece}: {bytes:?}");
    }
    whole
}

fn assert_passes(bytes: &str, heads: u64) {
    assert_eq!(everywhere(bytes), (bytes.len(), heads, None), "{bytes:?}");
}

#[test]
fn messages_pass_whole_one_after_another() {
    assert_passes("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.0\r\n\r\n", 2);
    assert_passes(&format!("{HEAD}Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 2);
    let chunked =
        "Transfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
    assert_passes(&format!("{HEAD}{chunked}\r\n{HEAD}\r\n"), 2);
}

#[test]
fn an_incomplete_unit_is_kept_back() {
    assert_eq!(everywhere("GET / HTTP/1.1\r\nHost: a\r\n\r").0, 0);
    let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    assert_eq!(everywhere(&format!("{head}5")).0, head.len());
    assert_eq!(everywhere(&format!("{head}5\r\nhell")).0, head.len() + 7);
}

#[test]
fn a_refusal_begins_with_its_message() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (bad, status) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nTransfer_Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n", 501),
    ] {
        let (passed, heads, stop) = everywhere(&format!("{good}{bad}{good}"));
        assert_eq!((passed, heads), (good.len(), 1), "{bad:?}");
        assert!(
            matches!(stop, Some(Stop::Head { fault, is_head: false }) if fault.status == status),
            "{bad:?}"
        );
    }
    let (_, _, stop) = everywhere("HEAD / HTTP/1.1\r\nbad\r\n\r\n");
    assert!(matches!(stop, Some(Stop::Head { is_head: true, .. })), "{stop:?}");
}

#[test]
fn chunked_framing_is_read_to_the_letter() {
    let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    for bad in [
        "5\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX0\r\n\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
        "0\r\nHost: b\r\n\r\n",
        "0\r\n: b\r\n\r\n",
    ] {
        let (_, _, stop) = everywhere(&format!("{head}{bad}"));
        assert!(matches!(stop, Some(Stop::Body(_))), "{bad:?}");
    }
}

#[test]
fn what_follows_a_request_to_upgrade_is_left_alone() {
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(everywhere(&format!("{ask}\x01\x02")), (ask.len(), 1, Some(Stop::Upgrade)));
    let ask = format!("{HEAD}Upgrade: h2c\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(everywhere(&format!("{ask}GET")), (ask.len(), 1, Some(Stop::Upgrade)));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_complete() {
    let status = |bytes: &str| match feed(bytes.as_bytes(), 1_000).2 {
        Some(Stop::Head { fault, .. } | Stop::Body(fault)) => fault.status.as_u16(),
        other => panic!("{other:?}"),
    };
    assert_eq!(status(&format!("GET /{}", "a".repeat(9_000))), 414);
    assert_eq!(status(&format!("{HEAD}X: {}", "a".repeat(70_000))), 431);
    assert_eq!(status(&format!("{HEAD}{}", "A: b\r\n".repeat(101))), 431);
    let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    assert_eq!(status(&format!("{head}5;{}", "a".repeat(70_000))), 400);
    assert_eq!(
        status(&format!("{head}{}", "1;a=0123456789012345678901234567890\r\nx\r\n".repeat(10_000))),
        400
    );
    assert_eq!(status(&format!("{head}0\r\n{}", "A: b\r\n".repeat(101))), 400);
}

/// How long a scan takes; printed for whoever wonders, since a debug build says little.
#[test]
fn a_usual_head_costs_little() {
    let head = "GET /api/v1/products/1234?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef0123456789abcdef\r\nConnection: keep-alive\r\n\r\n";
    let rounds = if cfg!(debug_assertions) { 1_000 } else { 1_000_000 };
    let mut scanner = Scanner::new(Limits::default());
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        let (passed, stop) = scanner.scan(std::hint::black_box(head.as_bytes()));
        assert_eq!((passed, stop), (head.len(), None));
    }
    println!("{} ns per head of {} bytes", begun.elapsed().as_nanos() / rounds, head.len());
}
