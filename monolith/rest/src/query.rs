//! Query strings: which part of a listing a client asks for.
//!
//! Invariant: a parameter that no one reads, or that stands there twice, is refused by name, so that a misspelt
//! filter never lists everything.

use std::fmt::Display;
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::web::Query;
use contracts::Page;
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::bad_parameter;
use crate::cursor;

/// Items of a page where the client does not say how many.
pub(crate) const LIMIT_DEFAULT: u32 = 50;
/// Most items of a page.
pub(crate) const LIMIT_MAX: u32 = 200;

/// The parameters of a request, each at most once, all of them known.
pub(crate) struct Parameters(Vec<(String, String)>);

/// Which part of a listing is wanted.
pub(crate) struct Window {
    /// The id after which to begin.
    pub(crate) after: Option<i64>,
    /// How many items at most.
    pub(crate) limit: u32,
}

/// One page as clients see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub(crate) struct Listing<T> {
    /// In ascending order.
    items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    next: Option<String>,
}

impl Parameters {
    /// The parameters of this request, which may be those of `known`.
    pub(crate) fn parse(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_query(request.query_string())
            .map_err(|_| bad_parameter("query", "is not a query string such as limit=10&cursor=abc"))?
            .into_inner();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(bad_parameter(name, unknown(known)));
            }
            if pairs.iter().take(index).any(|(earlier, _)| earlier == name) {
                return Err(bad_parameter(name, "stands there more than once"));
            }
        }
        Ok(Self(pairs))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of another type, where it is given.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parsed = self.get(name).map(|text| text.parse::<T>()).transpose();
        parsed.map_err(|error| bad_parameter(name, error.to_string()))
    }

    /// `limit` and `cursor`, for a listing of `kind`.
    pub(crate) fn window(&self, kind: &str) -> Result<Window, Problem> {
        let limit = match self.get("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => parse_limit(text).ok_or_else(|| {
                bad_parameter("limit", format!("must be a whole number from 1 to {LIMIT_MAX}"))
            })?,
        };
        let after = match self.get("cursor") {
            None => None,
            Some(text) => Some(cursor::decode(kind, text).ok_or_else(|| {
                bad_parameter(
                    "cursor",
                    "is not a cursor of this listing; use `next` of a page, or none to start",
                )
            })?),
        };
        Ok(Window { after, limit })
    }
}

impl<T> Listing<T> {
    /// Everything on one page.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The page in its public form. `id` tells an item's id, after which the next page begins.
    pub(crate) fn new<I>(kind: &str, page: Page<I>, id: impl Fn(&I) -> i64, view: impl Fn(I) -> T) -> Self {
        let next = page.items.last().filter(|_| page.more).map(|last| cursor::encode(kind, id(last)));
        Self { items: page.items.into_iter().map(view).collect(), next }
    }
}

fn unknown(known: &[&str]) -> String {
    match known {
        [] => "is not known; this resource takes no parameters".to_owned(),
        known => format!("is not known; this resource takes {}", known.join(", ")),
    }
}

fn parse_limit(text: &str) -> Option<u32> {
    let limit = text.parse::<u32>().ok()?;
    (limit.to_string() == text && (1..=LIMIT_MAX).contains(&limit)).then_some(limit)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn parse(query: &str) -> Result<Window, Problem> {
        let request = TestRequest::with_uri(&format!("/?{query}")).to_http_request();
        Parameters::parse(&request, &["limit", "cursor"])?.window("users")
    }

    fn field_at_fault(query: &str) -> String {
        parse(query).err().expect(query).errors[0].field.clone()
    }

    #[test]
    fn without_parameters_a_listing_starts_at_its_beginning() {
        let window = parse("").unwrap();
        assert_eq!((window.after, window.limit), (None, 50));
    }

    #[test]
    fn parameters_at_fault_are_named() {
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=+5", "limit"),
            ("limit=05", "limit"),
            ("limit=", "limit"),
            ("cursor=", "cursor"),
            ("cursor=abc", "cursor"),
            ("offset=3", "offset"),
            ("limit=1&limit=1", "limit"),
            ("%6Cimits=1", "limits"),
        ] {
            assert_eq!(field_at_fault(query), field, "{query}");
        }
    }

    #[test]
    fn a_page_with_more_to_come_says_where_to_go_on() {
        let listing = Listing::new("users", Page { items: vec![3, 7], more: true }, |id| *id, |id| id);
        let next = listing.next.unwrap();
        assert_eq!(parse(&format!("cursor={next}&limit=2")).unwrap().after, Some(7));
        let last = Listing::new("users", Page { items: vec![9], more: false }, |id| *id, |id| id);
        assert_eq!(serde_json::to_string(&last).unwrap(), r#"{"items":[9],"next":null}"#);
    }
}
