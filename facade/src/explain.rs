//! Why a request goes where it goes.
//!
//! Invariant: it asks the phases that a real request passes, so it cannot say other than what would be done.

use std::net::IpAddr;

use control::{Flag, Side, Stage, bucket};
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri};
use serde::Serialize;

use crate::answer::Refusal;
use crate::key::Keyed;
use crate::overrides::Outcome;
use crate::phases::admit;
use crate::phases::decide::{Choice, Why, choose_read, choose_write, is_read, outcome, upstream_of};
use crate::phases::route::route;
use crate::plan::{ContextPlan, Plan, UpstreamId};
use crate::strict::{Fault, check_head};

/// A request to be explained.
#[derive(Debug, Clone)]
pub struct Question {
    /// Method.
    pub method: String,
    /// Path, or a whole URL, whose path counts.
    pub target: String,
    /// Headers as `name: value`.
    pub headers: Vec<String>,
    /// The client's address.
    pub client: String,
}

/// Where it goes, and why.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// The path of the route, as written; of a private path, the prefix.
    pub route: Option<String>,
    /// The place of that route among those of the settings, from 0.
    pub route_index: Option<usize>,
    /// The context of that route.
    pub context: Option<String>,
    /// The flag as it stands.
    pub flag: Option<String>,
    /// Where the context stands on its way.
    pub stage: Option<Stage>,
    /// Where the key was found.
    pub key_from: Option<String>,
    /// The sticky key.
    pub key: Option<String>,
    /// Its bucket, 0 to 9999.
    pub bucket: Option<u16>,
    /// The side that the key is pinned to.
    pub pin: Option<Side>,
    /// What came of a signed override in the request.
    #[serde(rename = "override")]
    pub wish: Option<String>,
    /// Which side answers; none for a private path, or where the route names an upstream.
    pub side: Option<Side>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// Its URL.
    pub url: Option<String>,
    /// The reason in words.
    pub why: String,
}

/// Explains a request under the flags that `flag_of` knows.
pub fn explain(
    plan: &Plan,
    question: &Question,
    flag_of: impl FnOnce(&str) -> Flag,
) -> Result<Explanation, String> {
    let client: IpAddr = question.client.parse().map_err(|_| {
        format!("`{}` is no address of a client; write it as 192.0.2.7 or 2001:db8::7", question.client)
    })?;
    let client = client.to_canonical().to_string();
    let headers = headers(&question.headers)?;
    let parts = match admitted(plan, question, headers) {
        Ok(parts) => parts,
        Err(refusal) => {
            let why = format!(
                "the request itself is refused ({}), so the answer is {}",
                refusal.detail(),
                refusal.status().as_u16()
            );
            return Ok(Explanation { why, ..Explanation::default() });
        }
    };
    let route = route(plan, &parts);
    let rule = route.index.and_then(|index| plan.routes.of_index(index));
    let explanation = Explanation {
        route: route.private.map(str::to_owned).or_else(|| rule.map(|rule| rule.text.clone())),
        route_index: route.index.filter(|_| route.private.is_none()),
        ..Explanation::default()
    };
    if let Some(prefix) = route.private {
        let why = format!("the path is private by `{prefix}`, so nobody gets it and the answer is 404");
        return Ok(Explanation { why, ..explanation });
    }
    if let Some(reading) = &route.other_reading {
        let why = format!(
            "the path can also be read as `{reading}`, which belongs to another route, so the answer is 400"
        );
        return Ok(Explanation { why, ..explanation });
    }
    let to = |id: UpstreamId, explanation: Explanation| {
        let upstream = plan.upstream(id);
        Explanation {
            upstream: upstream.map(|upstream| upstream.name.clone()),
            url: upstream.map(crate::plan::Upstream::url),
            ..explanation
        }
    };
    if let Some(context) = route.context.and_then(|id| plan.context(id)) {
        let keyed =
            Keyed { path: &route.path, headers: &parts.headers, client: client.as_bytes(), claims: None };
        let flag = flag_of(&context.name);
        let (side, told) = of_context(plan, context, &flag, &parts, &keyed, explanation);
        return Ok(to(upstream_of(plan, context, side), told));
    }
    let (side, why) = match route.upstream {
        Some(_) => (None, "the route names its upstream, whatever the flags say"),
        None => (Some(Side::Monolith), "no route claims this request, so the monolith answers"),
    };
    let explanation = Explanation { side, why: why.to_owned(), ..explanation };
    Ok(to(route.upstream.unwrap_or(plan.monolith), explanation))
}

fn of_context(
    plan: &Plan,
    context: &ContextPlan,
    flag: &Flag,
    parts: &Parts,
    keyed: &Keyed<'_>,
    explanation: Explanation,
) -> (Side, Explanation) {
    let key = crate::key::find(&context.keys, keyed);
    let pin = key.as_ref().and_then(|(key, _)| flag.pins.get(key));
    let wish = plan.wish(context, &parts.headers);
    let is_read = is_read(&parts.method);
    let choice = if is_read { choose_read(flag, context, keyed, wish) } else { choose_write(flag) };
    let explanation = Explanation {
        context: Some(context.name.clone()),
        flag: Some(format!("reads {}%, writes {}, token {}", flag.reads, flag.writes, flag.token)),
        stage: Some(flag.stage()),
        key_from: key.as_ref().map(|(_, rule)| rule.to_string()),
        key: key.as_ref().map(|(key, _)| String::from_utf8_lossy(key).into_owned()),
        bucket: key.as_ref().map(|(key, _)| bucket(&context.name, key)),
        pin,
        wish: outcome(wish, choice.side).map(|outcome| about_wish(outcome, is_read)),
        side: Some(choice.side),
        why: why(choice, flag) + &about_pin(choice, pin),
        ..explanation
    };
    (choice.side, explanation)
}

fn why(choice: Choice, flag: &Flag) -> String {
    let points = flag.reads.basis_points();
    match (choice.why, flag.hold) {
        (Why::Owner, Some(hold)) => format!("writes are held while ownership moves to the {}", hold.to),
        (Why::Owner, None) => format!("the {} owns the context, so it takes all writes", flag.writes),
        (Why::ServiceOwns, _) => "the service owns the context, so it answers all reads".to_owned(),
        (Why::Wished, _) => format!("a signed override asks for the {}", choice.side),
        (Why::NoReads, _) => "reads are at 0 %, so the monolith answers".to_owned(),
        (Why::Late, _) => "the monolith's writes reach the service late, so the monolith answers".to_owned(),
        (Why::AllReads, _) => {
            "reads are at 100 %, so the service answers; the monolith stands in if it fails".to_owned()
        }
        (Why::Pinned, _) => format!("the key is pinned to the {}", choice.side),
        (Why::NoKey, _) => {
            "there is no key in this request, and without one it moves only at 100 %".to_owned()
        }
        (Why::Bucket(bucket), _) if choice.side == Side::Service => {
            format!(
                "bucket {bucket} is below {points}, so the service answers; the monolith stands in if it fails"
            )
        }
        (Why::Bucket(bucket), _) => format!("bucket {bucket} is not below {points}, so the monolith answers"),
    }
}

/// Of a pin that does not count here; of writes nobody expects that it would.
fn about_pin(choice: Choice, pin: Option<Side>) -> String {
    match (choice.why, pin) {
        (Why::Owner | Why::Pinned, _) | (_, None) => String::new(),
        (Why::ServiceOwns, Some(side)) => {
            format!("; the key's pin to the {side} counts again when the monolith owns the context")
        }
        (Why::Wished, Some(side)) => format!(", which goes before the key's pin to the {side}"),
        (_, Some(side)) => {
            format!("; the key's pin to the {side} counts once reads are above 0 % and in time")
        }
    }
}

fn about_wish(outcome: Outcome, is_read: bool) -> String {
    match outcome {
        Outcome::Used => "used",
        Outcome::Refused if is_read => {
            "refused: the monolith's data is behind once the service owns the context"
        }
        Outcome::Refused => "refused: only the owner takes writes",
        Outcome::Invalid => "ignored: its signature is not of this facade's secret",
        Outcome::Expired => "ignored: its time is over",
    }
    .to_owned()
}

/// The request as the data plane sees it, once its bytes have passed as a client's do. Who names no host is taken to
/// name one that no route is for.
fn admitted(plan: &Plan, question: &Question, headers: HeaderMap) -> Result<Parts, Refusal> {
    let unreadable = || Fault::bad("the request line cannot be read").refusal();
    let Question { method, target, .. } = question;
    let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in &headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    check_head(&head, plan.clients.strict()).map_err(Fault::refusal)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| unreadable())?;
    parts.uri = target.parse::<Uri>().map_err(|_| unreadable())?;
    parts.headers = headers;
    let is_without = !parts.headers.contains_key(HOST);
    if is_without {
        let named = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        parts.headers.insert(HOST, named.unwrap_or(HeaderValue::from_static("localhost")));
    }
    admit::check(&parts)?;
    if is_without {
        parts.headers.remove(HOST);
    }
    Ok(parts)
}

fn headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let wrong = || format!("`{line}` is no header; write it as 'name: value'");
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
    }
    Ok(headers)
}
