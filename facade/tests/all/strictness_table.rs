//! The table of malformed, smuggling and odd requests, against the facade and against nginx.
//!
//! Invariant: for every case the answers are among those allowed, and what was forwarded and what the upstream
//! counted are the same messages. `BANYAN_REWRITE=1` writes nginx's answers, and the table as Markdown, anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::counting::{Counter, exchange};
use crate::nginx::Nginx;
use crate::support::{Fixture, Upstream};

/// Behind every case: answered only by who takes the connection to be good for another request.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[derive(Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    class: String,
    section: String,
    raw: String,
    allow: Vec<String>,
    #[serde(default)]
    ends: bool,
    #[serde(default)]
    why: String,
}

/// What a proxy made of a case.
struct Outcome {
    /// Statuses, then `open` or `close`.
    answers: String,
    forwarded: usize,
    /// Where proxy and upstream disagree, or the upstream was sent something unreadable.
    disagreement: Option<String>,
    /// Its own answers are problem+json.
    explains: bool,
}

impl Outcome {
    fn short(&self) -> String {
        match (&self.disagreement, self.forwarded) {
            (Some(_), _) => format!("{}, disagrees with the upstream", self.answers),
            (None, 0) => self.answers.clone(),
            (None, forwarded) => format!("{}, {forwarded} forwarded", self.answers),
        }
    }
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(folder().join("cases.toml")).unwrap();
    toml::from_str::<Table>(&text).unwrap().case
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/strictness")
}

/// Each character a byte, and ⟦x×3⟧ three times x.
pub(crate) fn bytes(raw: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('⟦') {
        let (repeated, after) = after.split_once('⟧').unwrap();
        let (what, times) = repeated.split_once('×').unwrap();
        bytes.extend(latin(before));
        bytes.extend(latin(what).repeat(times.parse().unwrap()));
        rest = after;
    }
    bytes.extend(latin(rest));
    bytes
}

fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
}

fn run(case: &Case, proxy: SocketAddr, upstream: &Counter) -> Outcome {
    let mut sent = bytes(&case.raw);
    if !case.ends {
        sent.extend_from_slice(NEXT.as_bytes());
    }
    let answers = exchange(proxy, &[&sent], case.ends);
    let (requests, offences) = upstream.take();
    let counted: Vec<_> = requests.into_iter().map(|request| request.target).collect();
    let answers = match answers {
        Ok(answers) => answers,
        Err(garbage) => {
            let forwarded = counted.len();
            let explains = garbage == "HTTP/2";
            return Outcome { answers: garbage, forwarded, disagreement: None, explains };
        }
    };
    let forwarded: Vec<_> = answers.iter().filter_map(|answer| answer.counted.clone()).collect();
    let disagreement = match offences.first() {
        Some(offence) => Some(offence.clone()),
        None if forwarded != counted => Some(format!("forwarded {forwarded:?}, counted {counted:?}")),
        None => None,
    };
    let is_next = |target: &String| target == "/next";
    let is_open = forwarded.last().is_some_and(is_next);
    let mut words: Vec<_> = answers.iter().map(|answer| answer.status.to_string()).collect();
    if is_open {
        words.pop();
    }
    words.push(if is_open { "open" } else { "close" }.to_owned());
    Outcome {
        answers: words.join(" "),
        forwarded: forwarded.iter().filter(|target| !is_next(target)).count(),
        disagreement,
        explains: answers.iter().all(|answer| answer.is_problem || answer.counted.is_some()),
    }
}

fn facade(upstream: &Counter) -> Fixture {
    Fixture::with(upstream.address, Upstream::nobody(), |settings| {
        settings.timeouts.body_idle_ms = 300;
        settings.timeouts.client_header_ms = 2_000;
    })
}

#[test]
fn the_table_is_as_large_as_promised() {
    let cases = cases();
    let classes: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.class).collect();
    let odd = cases.iter().filter(|case| case.allow.iter().all(|allow| allow.starts_with("200"))).count();
    assert!(
        cases.len() >= 120 && classes.len() >= 25 && odd >= 20,
        "{} {} {odd}",
        cases.len(),
        classes.len()
    );
    let ids: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.id).collect();
    assert_eq!(ids.len(), cases.len());
}

#[test]
fn the_facade_answers_as_allowed_and_counts_what_the_upstream_counts() {
    let upstream = Counter::start();
    let fixture = facade(&upstream);
    let mut wrong = String::new();
    for case in cases() {
        let outcome = run(&case, fixture.facade.address(), &upstream);
        let is_allowed = case.allow.contains(&outcome.answers);
        if !is_allowed || !outcome.explains || outcome.disagreement.is_some() {
            let Outcome { answers, forwarded, disagreement, explains } = outcome;
            let Case { id, allow, .. } = case;
            let _ = writeln!(
                wrong,
                "{id}: {answers} instead of {allow:?}, {forwarded} forwarded, problem+json: {explains}, {disagreement:?}"
            );
        }
    }
    let (late, offences) = upstream.take();
    assert_eq!((late, offences), (Vec::new(), Vec::new()), "came late");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[derive(Deserialize)]
struct Measured {
    version: String,
    answers: BTreeMap<String, String>,
}

#[test]
fn nginx_answers_as_it_did_when_it_was_measured() {
    let upstream = Counter::start();
    let Some(nginx) = Nginx::start(upstream.address) else {
        return eprintln!("there is no nginx to compare with");
    };
    let cases = cases();
    let outcomes: BTreeMap<_, _> =
        cases.iter().map(|case| (case.id.clone(), run(case, nginx.address, &upstream).short())).collect();
    if std::env::var_os("BANYAN_REWRITE").is_some() {
        return rewrite(&cases, &nginx.version, &outcomes);
    }
    let measured = fs::read_to_string(folder().join("nginx.toml")).unwrap();
    let measured: Measured = toml::from_str(&measured).unwrap();
    let differ: Vec<_> = outcomes
        .iter()
        .filter(|(id, outcome)| measured.answers.get(*id) != Some(outcome))
        .map(|(id, outcome)| format!("{id}: {outcome}, and not {:?}", measured.answers.get(id)))
        .collect();
    if measured.version != nginx.version {
        return eprintln!("{} was measured; {} differs: {differ:#?}", measured.version, nginx.version);
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

fn rewrite(cases: &[Case], version: &str, nginx: &BTreeMap<String, String>) {
    let mut text = format!(
        "# What nginx makes of each case: statuses, whether the connection stays open, requests that it forwarded.\n\
         # Written by BANYAN_REWRITE=1 cargo test -p facade strictness_table\n\n\
         version = \"{version}\"\n\n[answers]\n"
    );
    for (id, outcome) in nginx {
        let _ =
            writeln!(text, "{} = {}", toml::Value::from(id.as_str()), toml::Value::from(outcome.as_str()));
    }
    fs::write(folder().join("nginx.toml"), text).unwrap();
    let upstream = Counter::start();
    let fixture = facade(&upstream);
    let mut page = format!(
        "# What the facade makes of malformed and odd requests\n\n\
         {} cases of raw bytes, each sent to the facade and to {version} in front of the same counting upstream, with \
         another request right behind it.\n\
         An outcome is the statuses of the answers, whether the connection served the request behind (open) or not \
         (close), and how many requests reached the upstream.\n",
        cases.len()
    );
    let mut class = "";
    for case in cases {
        if class != case.class {
            class = &case.class;
            let _ = write!(
                page,
                "\n## {class}\n\n| case | RFC | allowed | facade | nginx |\n|---|---|---|---|---|\n"
            );
        }
        let ours = run(case, fixture.facade.address(), &upstream).short();
        let why = if case.why.is_empty() { String::new() } else { format!(" ({})", case.why) };
        let Case { id, section, allow, .. } = case;
        let _ = writeln!(
            page,
            "| {id} | {section} | {}{why} | {ours} | {} |",
            allow.join(", or "),
            nginx.get(id).map_or("", String::as_str)
        );
    }
    page.push_str(&crate::strictness_http2::page());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/strictness.md");
    fs::write(path, page).unwrap();
}
