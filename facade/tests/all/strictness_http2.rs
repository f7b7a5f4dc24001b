//! The table of malformed and hostile HTTP/2, against the facade and against nginx.
//!
//! Invariant: for every case the outcome is among those allowed, and whatever is forwarded reaches the upstream as the
//! messages that were answered. `BANYAN_REWRITE=1` writes nginx's outcomes anew; the page is written by
//! `strictness_table`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::counting::Counter;
use crate::frames::{ALL, Conversation, HEADERS, NEXT, PREFACE, SETTINGS, converse, fields, frame};
use crate::nginx::Nginx;
use crate::strictness_http2_cases::{Case, PATH, cases};
use crate::support::{Fixture, Upstream};

/// What a proxy made of a case.
struct Outcome {
    /// What each stream heard, then whether the connection served another request.
    heard: String,
    forwarded: usize,
    disagreement: Option<String>,
    explains: bool,
}

impl Outcome {
    fn short(&self) -> String {
        match (&self.disagreement, self.forwarded) {
            (Some(_), _) => format!("{}, disagrees with the upstream", self.heard),
            (None, 0) => self.heard.clone(),
            (None, forwarded) => format!("{}, {forwarded} forwarded", self.heard),
        }
    }
}

fn run(number: usize, case: &Case, proxy: SocketAddr, upstream: &Counter) -> Outcome {
    // What comes late of one case must not be taken for the next one's.
    let path = format!("/c{number:03}");
    let next = format!("/n{number:03}");
    let mut bytes = PREFACE.to_vec();
    // No dynamic table, so that a status is read without one.
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
    bytes.extend(replaced(&case.bytes, PATH.as_bytes(), path.as_bytes()));
    let head = [(":method", "GET"), (":scheme", "http"), (":path", next.as_str()), (":authority", "a")];
    bytes.extend(frame(HEADERS, ALL, NEXT, &fields(&head)));
    let streams: Vec<u32> = case.streams.iter().copied().chain([NEXT]).collect();
    let conversation = converse(proxy, bytes, &streams);
    let (requests, mut offences) = upstream.take();
    let counted = requests.iter().filter(|request| request.target.contains(&path)).count();
    let is_strange = |request: &&crate::counting::Request| {
        !["/c", "/n"].iter().any(|known| request.target.starts_with(known)) && request.target != "*"
    };
    offences.extend(requests.iter().find(is_strange).map(|request| format!("smuggled {request:?}")));
    judge(case, &conversation, counted, offences)
}

fn judge(case: &Case, conversation: &Conversation, counted: usize, offences: Vec<String>) -> Outcome {
    let heard_on = |stream: &u32| conversation.streams.get(stream).cloned().unwrap_or_default();
    let is_open = heard_on(&NEXT).statuses.last() == Some(&200);
    let mut words = Vec::new();
    let answers: Vec<_> = case.streams.iter().map(heard_on).collect();
    for heard in answers.iter().filter(|_| is_open) {
        words.push(match (heard.statuses.last(), heard.reset) {
            (Some(status), _) => status.to_string(),
            (None, Some(code)) => format!("reset({code})"),
            (None, None) => "silence".to_owned(),
        });
    }
    words.push(match (is_open, conversation.goaway) {
        (true, _) => "open".to_owned(),
        (false, Some(code)) => format!("goaway({code})"),
        (false, None) if conversation.closed => "close".to_owned(),
        (false, None) => "hangs".to_owned(),
    });
    let forwarded = answers.iter().filter(|heard| heard.statuses.last() == Some(&200)).count();
    let disagreement = match offences.first() {
        Some(offence) => Some(offence.clone()),
        // A connection that ended took answers with it.
        None if is_open && case.is_counted && forwarded != counted => {
            Some(format!("{forwarded} answered, {counted} counted"))
        }
        None => None,
    };
    let explains = answers.iter().filter(|heard| heard.statuses.last().is_some_and(|status| *status >= 400));
    let explains =
        explains.into_iter().all(|heard| heard.body.is_empty() || heard.body.starts_with(b"{\"type\":"));
    Outcome { heard: words.join(" "), forwarded: if is_open { forwarded } else { 0 }, disagreement, explains }
}

fn replaced(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = crate::counting::find(&bytes[at..], what) {
        bytes[at + found..at + found + what.len()].copy_from_slice(with);
        at += found + what.len();
    }
    bytes
}

fn facade(upstream: &Counter) -> Fixture {
    Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.timeouts.body_idle_ms = 300;
        settings.timeouts.client_header_ms = 2_000;
    })
}

#[test]
fn the_http2_table_is_as_large_as_promised() {
    let cases = cases();
    let ids: BTreeSet<_> = cases.iter().map(|case| case.id).collect();
    assert!(ids.len() == cases.len() && cases.len() >= 40, "{} {}", ids.len(), cases.len());
}

#[test]
fn over_http2_the_facade_answers_as_allowed_and_counts_what_the_upstream_counts() {
    let upstream = Counter::start();
    let fixture = facade(&upstream);
    let mut wrong = String::new();
    for (number, case) in cases().iter().enumerate() {
        let Outcome { heard, forwarded, disagreement, explains } =
            run(number, case, fixture.facade.address(), &upstream);
        if !case.allow.contains(&heard.as_str()) || !explains || disagreement.is_some() {
            let _ = writeln!(
                wrong,
                "{}: {heard} instead of {:?}, {forwarded} forwarded, problem+json: {explains}, {disagreement:?}",
                case.id, case.allow
            );
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[derive(Deserialize)]
struct Measured {
    version: String,
    answers: BTreeMap<String, String>,
}

fn measured_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/strictness/nginx_http2.toml")
}

fn outcomes(address: SocketAddr, upstream: &Counter) -> BTreeMap<&'static str, String> {
    let cases = cases();
    cases
        .iter()
        .enumerate()
        .map(|(number, case)| (case.id, run(number, case, address, upstream).short()))
        .collect()
}

#[test]
fn nginx_answers_http2_as_it_did_when_it_was_measured() {
    let upstream = Counter::start();
    let Some(nginx) = Nginx::start_http2(upstream.address) else {
        return eprintln!("there is no nginx to compare with");
    };
    let outcomes = outcomes(nginx.address, &upstream);
    if std::env::var_os("BANYAN_REWRITE").is_some() {
        return rewrite(&nginx.version, &outcomes);
    }
    let measured = fs::read_to_string(measured_file()).unwrap();
    let measured: Measured = toml::from_str(&measured).unwrap();
    // How far a flood comes before it is cut off is a matter of time.
    let floods: BTreeSet<_> =
        cases().iter().filter(|case| case.streams.is_empty()).map(|case| case.id).collect();
    let differ: Vec<_> = outcomes
        .iter()
        .filter(|(id, _)| !floods.contains(*id))
        .filter(|(id, outcome)| measured.answers.get(**id).map(|was| answer(was)) != Some(answer(outcome)))
        .map(|(id, outcome)| format!("{id}: {outcome}, and not {:?}", measured.answers.get(*id)))
        .collect();
    if measured.version != nginx.version {
        return eprintln!("{} was measured; {} differs: {differ:#?}", measured.version, nginx.version);
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

/// Without what nginx had passed on by the time that it gave up: that is a matter of time, too.
fn answer(outcome: &str) -> &str {
    outcome.trim_end_matches(", disagrees with the upstream")
}

fn rewrite(version: &str, nginx: &BTreeMap<&'static str, String>) {
    let mut text = format!(
        "# What nginx makes of each HTTP/2 case.\n\
         # Written by BANYAN_REWRITE=1 cargo test -p facade strictness\n\nversion = \"{version}\"\n\n[answers]\n"
    );
    for (id, outcome) in nginx {
        let _ = writeln!(text, "{} = {}", toml::Value::from(*id), toml::Value::from(outcome.as_str()));
    }
    fs::write(measured_file(), text).unwrap();
}

/// The second half of the page.
pub(crate) fn page() -> String {
    let upstream = Counter::start();
    let nginx = Nginx::start_http2(upstream.address);
    let peers = nginx.as_ref().map(|nginx| outcomes(nginx.address, &upstream)).unwrap_or_default();
    let fixture = facade(&upstream);
    let cases = cases();
    let mut page = format!(
        "\n# What the facade makes of malformed and hostile HTTP/2\n\n\
         {} cases of raw frames over cleartext, each followed by another request on the same connection.\n\
         An outcome is what each stream of the case heard (a status, or a reset and its code), then whether the \
         connection served the request behind (open) or was ended (goaway and its code, or close).\n",
        cases.len()
    );
    let mut class = "";
    for (number, case) in cases.iter().enumerate() {
        if class != case.class {
            class = case.class;
            let _ = write!(
                page,
                "\n## {class} (HTTP/2)\n\n| case | RFC | allowed | facade | nginx |\n|---|---|---|---|---|\n"
            );
        }
        let ours = run(number, case, fixture.facade.address(), &upstream).short();
        let why = if case.why.is_empty() { String::new() } else { format!(" ({})", case.why) };
        let nginx = peers.get(case.id).map_or("", String::as_str);
        let _ = writeln!(
            page,
            "| {} | {} | {}{why} | {ours} | {nginx} |",
            case.id,
            case.section,
            case.allow.join(", or ")
        );
    }
    page
}
