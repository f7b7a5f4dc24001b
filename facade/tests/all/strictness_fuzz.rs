//! Valid requests, mutated and cut into pieces at random: facade and upstream still count the same messages.
//!
//! Invariant: the same seed makes the same bytes; a failure prints the seed and the bytes.

use std::fmt::Write;
use std::thread;

use crate::counting::{Answered, Counter, exchange};
use crate::support::{Fixture, Upstream};

const SEED: u64 = 0x5eed_0000_0000_0009;
const THREADS: u64 = 8;
const CASES_PER_THREAD: u64 = 400;

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What mutations put in, besides single bytes.
pub(crate) const PIECES: [&str; 24] = [
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "\0",
    "\r\n\r\n",
    "0\r\n\r\n",
    ";",
    "\"",
    ",",
    "chunked",
    "Content-Length: 3\r\n",
    "Content-Length: 30\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: b\r\n",
    "Upgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    " HTTP/1.0",
    "\r\n ",
];

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

fn request(random: &mut Random, number: usize) -> String {
    let method = random.pick(&["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]);
    let mut request = format!("{method} /{number} HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..random.below(4) {
        request.push_str(random.pick(&["X-A: 1\r\n", "X-B:\r\n", "Accept: */*\r\n", "Cookie: a=b; c=d\r\n"]));
    }
    let body = "abcdefghijklmnopqrstuvwxyz".split_at(random.below(27)).0;
    match random.below(3) {
        0 => request.push_str("\r\n"),
        1 => {
            let _ = write!(request, "Content-Length: {}\r\n\r\n{body}", body.len());
        }
        _ => {
            request.push_str("Transfer-Encoding: chunked\r\n\r\n");
            let mut rest = body;
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at(1 + random.below(rest.len()));
                let extension = random.pick(&["", "", ";a=b", ";a=\"b\""]);
                let _ = write!(request, "{:x}{extension}\r\n{chunk}\r\n", chunk.len());
                rest = after;
            }
            request.push_str("0\r\n");
            request.push_str(random.pick(&["", "", "X-Sum: 1\r\n"]));
            request.push_str("\r\n");
        }
    }
    request
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => {
            bytes.remove(at);
        }
        1 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
        2 => {
            let end = (at + 1 + random.below(20)).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        3 => {
            let end = (at + 1 + random.below(8)).min(bytes.len());
            bytes.drain(at..end);
        }
        // At the beginning of a line most pieces do more harm.
        4 => {
            let line = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(at, |end| at + end + 1);
            bytes.splice(line..line, random.pick(&PIECES).bytes());
        }
        _ => {
            bytes.splice(at..at, random.pick(&PIECES).bytes());
        }
    }
}

fn cut<'a>(mut bytes: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for _ in 0..random.below(6) {
        let (piece, rest) = bytes.split_at(random.below(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

/// What is wrong with how a case went.
fn check(answers: &[Answered], upstream: &Counter) -> Result<(), String> {
    let (requests, offences) = upstream.take();
    let counted: Vec<_> = requests.into_iter().map(|request| request.target).collect();
    let forwarded: Vec<_> = answers.iter().filter_map(|answer| answer.counted.clone()).collect();
    if counted != forwarded || !offences.is_empty() {
        return Err(format!("forwarded {forwarded:?}, counted {counted:?}, {offences:?}"));
    }
    let refused = answers.iter().position(|answer| answer.counted.is_none());
    if refused.is_some_and(|refused| refused + 1 < answers.len() || !answers[refused].is_problem) {
        return Err(format!("more answers behind a refusal, or one unexplained: {answers:?}"));
    }
    Ok(())
}

fn fuzz(seed: u64) -> (usize, usize) {
    let upstream = Counter::start();
    let fixture = Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.workers = 1;
        settings.timeouts.body_idle_ms = 60;
        settings.timeouts.client_header_ms = 2_000;
    });
    let (mut refused, mut served) = (0, 0);
    for case in 0..CASES_PER_THREAD {
        let mut random = Random(seed.wrapping_add(case));
        let count = 1 + random.below(3);
        let mut sent: Vec<u8> =
            (0..count).flat_map(|number| request(&mut random, number).into_bytes()).collect();
        let mutations = random.below(4);
        (0..mutations).for_each(|_| mutate(&mut sent, &mut random));
        sent.extend_from_slice(NEXT.as_bytes());
        let pieces = cut(&sent, &mut random);
        let shown = || format!("seed {:#x}: {:?}", seed + case, String::from_utf8_lossy(&sent));
        let answers = exchange(fixture.facade.address(), &pieces, false)
            .unwrap_or_else(|garbage| panic!("{garbage}\n{}", shown()));
        check(&answers, &upstream).unwrap_or_else(|wrong| panic!("{wrong}\n{}", shown()));
        // Where the machine is busy, pieces may come too slowly.
        if mutations == 0 && answers.iter().all(|answer| answer.status != 408) {
            assert_eq!(answers.len(), count + 1, "{}", shown());
        }
        refused += answers.iter().filter(|answer| answer.counted.is_none()).count();
        served += answers.iter().filter(|answer| answer.counted.is_some()).count();
    }
    (refused, served)
}

#[test]
fn mutated_requests_are_counted_alike() {
    println!("seed {SEED:#x}, {} cases", THREADS * CASES_PER_THREAD);
    let threads: Vec<_> =
        (0..THREADS).map(|number| thread::spawn(move || fuzz(SEED + (number << 32)))).collect();
    for thread in threads {
        let (refused, served) = thread.join().unwrap();
        // A generator whose cases all pass, or all fail, tests little.
        let cases = usize::try_from(CASES_PER_THREAD).unwrap();
        assert!(refused > cases / 10 && served > cases / 2, "{refused} refused, {served} served");
    }
}
