//! What handlers read off a request besides its body: the call context and the id in the path.
//!
//! Invariant: a path part that is no id is refused before any port is called.

use std::fmt::Display;
use std::future::{Ready, ready};
use std::str::FromStr;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use contracts::CallContext;
use platform::http::request_info;
use platform::problem::Problem;

use crate::answer::bad_parameter;
use crate::query::Parameters;

/// How long a request may take; longer than a change of owner holds writes, shorter than clients wait.
const BUDGET: Duration = Duration::from_secs(5);

/// The call context for ports that this request is passed on to.
pub(crate) fn call(request: &HttpRequest) -> CallContext {
    let info = request_info(request);
    CallContext { traceparent: info.traceparent, ..CallContext::new(info.request_id, BUDGET) }
}

/// The `{id}` of the path, for resources that take no query parameters.
#[derive(Debug)]
pub(crate) struct PathId<Id>(pub(crate) Id);

impl<Id> FromRequest for PathId<Id>
where
    Id: FromStr<Err: Display>,
{
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Parameters::parse(request, &[]).and_then(|_| part(request, "id")).map(Self))
    }
}

/// A named part of the path.
pub(crate) fn part<T>(request: &HttpRequest, name: &str) -> Result<T, Problem>
where
    T: FromStr<Err: Display>,
{
    let text = request.match_info().query(name);
    text.parse().map_err(|error: T::Err| bad_parameter(name, error.to_string()))
}
