//! Why a request goes where it goes: the same phases as for a real one, told instead of done.

use control::{Flag, Side, bucket};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use serde::Serialize;

use crate::key::Keyed;
use crate::phases::decide::{choose_read, is_read, upstream_of};
use crate::phases::route::route;
use crate::plan::Plan;

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
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The prefix that claims the path.
    pub route: Option<String>,
    /// The context of that route.
    pub context: Option<String>,
    /// The flag as it stands.
    pub flag: Option<String>,
    /// Where the key was found.
    pub key_from: Option<String>,
    /// The sticky key.
    pub key: Option<String>,
    /// Its bucket, 0 to 9999.
    pub bucket: Option<u16>,
    /// Which side answers; none for a private path.
    pub side: Option<Side>,
    /// Its URL.
    pub upstream: Option<String>,
    /// The reason in words.
    pub why: String,
}

/// Explains a request under the flags that `flag_of` knows.
pub fn explain(
    plan: &Plan,
    question: &Question,
    flag_of: impl FnOnce(&str) -> Flag,
) -> Result<Explanation, String> {
    let method: Method =
        question.method.to_uppercase().parse().map_err(|_| format!("`{}` is no method", question.method))?;
    let uri: Uri =
        question.target.parse().map_err(|_| format!("`{}` is no path and no URL", question.target))?;
    if !uri.path().starts_with('/') {
        return Err(format!("`{}` does not begin with a slash", question.target));
    }
    let headers = headers(&question.headers)?;
    let found = route(plan, uri.path());
    let url = |id| plan.upstream(id).map(crate::plan::Upstream::url);
    let nobody = Explanation {
        route: None,
        context: None,
        flag: None,
        key_from: None,
        key: None,
        bucket: None,
        side: None,
        upstream: None,
        why: String::new(),
    };
    if let Some(prefix) = found.private {
        let why = format!("the path is private by `{prefix}`, so nobody gets it and the answer is 404");
        return Ok(Explanation { route: Some(prefix.to_owned()), why, ..nobody });
    }
    let Some((id, context)) = found.context.and_then(|id| Some((id, plan.context(id)?))) else {
        return Ok(Explanation {
            side: Some(Side::Monolith),
            upstream: url(plan.monolith),
            why: "no route claims this path, so the monolith answers".to_owned(),
            ..nobody
        });
    };
    let flag = flag_of(&context.name);
    let keyed = Keyed { path: &found.path, headers: &headers, client: question.client.as_bytes() };
    let key = crate::key::find(&context.keys, &keyed);
    let bucket = key.map(|(key, _)| bucket(&context.name, key));
    let (side, why) = if is_read(&method) {
        (choose_read(&flag, context, &keyed), why_read(&flag, bucket))
    } else {
        (flag.side_of_write(), why_write(&flag))
    };
    let prefix = plan.routes.iter().find(|(prefix, route)| *route == id && found.path.starts_with(prefix));
    Ok(Explanation {
        route: prefix.map(|(prefix, _)| if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() }),
        context: Some(context.name.clone()),
        flag: Some(format!(
            "reads {}%, writes {}, stage {}, token {}",
            flag.reads,
            flag.writes,
            flag.stage(),
            flag.token
        )),
        key_from: key.map(|(_, rule)| rule.to_string()),
        key: key.map(|(key, _)| String::from_utf8_lossy(key).into_owned()),
        bucket,
        side: Some(side),
        upstream: url(upstream_of(plan, context, side)),
        why,
    })
}

fn why_read(flag: &Flag, bucket: Option<u16>) -> String {
    if flag.writes == Side::Service {
        return "the service owns the context, so it answers all reads".to_owned();
    }
    let points = flag.reads.basis_points();
    match bucket {
        _ if points == 0 => "reads are at 0 %, so the monolith answers".to_owned(),
        _ if points >= control::BUCKETS => {
            "reads are at 100 %, so the service answers; the monolith stands in if it fails".to_owned()
        }
        None => "there is no key in this request, and without one it moves only at 100 %".to_owned(),
        Some(bucket) if bucket < points => {
            format!(
                "bucket {bucket} is below {points}, so the service answers; the monolith stands in if it fails"
            )
        }
        Some(bucket) => format!("bucket {bucket} is not below {points}, so the monolith answers"),
    }
}

fn why_write(flag: &Flag) -> String {
    match flag.hold {
        Some(hold) => format!("writes are held while ownership moves to the {}", hold.to),
        None => format!("the {} owns the context, so it takes all writes", flag.writes),
    }
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
