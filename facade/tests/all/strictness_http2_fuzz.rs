//! Valid HTTP/2 requests with odd pieces put into their fields at random: facade and upstream count the same messages.
//!
//! Invariant: the same seed makes the same frames; a failure prints them.

use std::thread;

use crate::counting::Counter;
use crate::frames::{
    ALL, DATA, END_HEADERS, END_STREAM, HEADERS, NEXT, PREFACE, SETTINGS, converse, fields, frame,
};
use crate::strictness_fuzz::{PIECES, Random};
use crate::support::{Fixture, Upstream};

const SEED: u64 = 0x5eed_0000_0000_0011;
const THREADS: u64 = 4;
const CASES_PER_THREAD: u64 = 500;

type Fields = Vec<(String, String)>;

fn head(random: &mut Random) -> Fields {
    let method = random.pick(&["GET", "POST", "PUT", "HEAD", "OPTIONS"]);
    let length = random.pick(&["0", "4", "4", "5"]);
    let mut list = vec![(":method", method), (":scheme", "http"), (":path", "/case"), (":authority", "a")];
    for field in
        [("content-length", length), ("x-a", "1"), ("cookie", "a=b"), ("te", "trailers"), ("host", "a")]
    {
        if random.below(3) == 0 {
            list.push(field);
        }
    }
    list.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Puts a piece into a name or a value, or a field into the list, twice, or elsewhere.
fn mutate(random: &mut Random, list: &mut Fields) {
    let at = random.below(list.len());
    let piece = random.pick(&PIECES);
    let put = |random: &mut Random, text: &mut String| text.insert_str(random.below(text.len() + 1), piece);
    match random.below(6) {
        0 => put(random, &mut list[at].0),
        1 | 2 => put(random, &mut list[at].1),
        3 => list.push(list[at].clone()),
        4 => list.insert(at, ("x-b".to_owned(), piece.to_owned())),
        _ => {
            let name =
                random.pick(&["transfer-encoding", "content-length", "transfer_encoding", "connection"]);
            list.push((name.to_owned(), random.pick(&["chunked", "4", "0", "close", "04"]).to_owned()));
        }
    }
}

fn check(seed: u64, upstream: &Counter, facade: &Fixture) {
    let mut random = Random(seed);
    let mut list = head(&mut random);
    for _ in 0..=random.below(2) {
        mutate(&mut random, &mut list);
    }
    let pairs = |list: &Fields| {
        let pairs: Vec<_> = list.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        fields(&pairs)
    };
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])].concat();
    let body = random.pick(&["", "body", "bodyGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", "0\r\n\r\n"]);
    if body.is_empty() {
        bytes.extend(frame(HEADERS, ALL, 1, &pairs(&list)));
    } else {
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &pairs(&list)));
        bytes.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
    }
    let next = [(":method", "GET"), (":scheme", "http"), (":path", "/next"), (":authority", "a")];
    bytes.extend(frame(HEADERS, ALL, NEXT, &fields(&next)));
    let conversation = converse(facade.facade.address(), bytes, &[1, NEXT]);
    let (requests, offences) = upstream.take();
    let context = || format!("seed {seed:#x}, {list:?}, body {body:?}: {conversation:?}, {requests:?}");
    assert!(offences.is_empty(), "{offences:?} by {}", context());
    let is_fine = |stream: &u32| {
        conversation.streams.get(stream).is_some_and(|heard| heard.statuses.last() == Some(&200))
    };
    let answered = [1, NEXT].iter().filter(|stream| is_fine(stream)).count();
    // A connection that ended took answers with it.
    if conversation.goaway.is_none() {
        assert!(is_fine(&NEXT), "the connection does not go on: {}", context());
        assert_eq!(answered, requests.len(), "{}", context());
        let body_of =
            |request: &crate::counting::Request| (request.target != "/next").then(|| request.body.clone());
        assert!(requests.iter().filter_map(body_of).all(|found| found == body.as_bytes()), "{}", context());
    }
}

#[test]
fn http2_requests_with_odd_pieces_are_counted_alike() {
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            thread::spawn(move || {
                // Its own pair, so that what comes late is nobody else's.
                let upstream = Counter::start();
                let facade =
                    Fixture::with(upstream.address, Upstream::nobody(), |settings| settings.workers = 1);
                for case in 0..CASES_PER_THREAD {
                    check(SEED + number * CASES_PER_THREAD + case, &upstream, &facade);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
