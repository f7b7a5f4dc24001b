//! What handlers read off a request besides its body: the call context and the id in the path.
//!
//! Invariant: a path part that is no id is refused before any port is called.

use std::future::{Ready, ready};
use std::str::FromStr;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use contracts::{CallContext, IdError};
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

impl<Id: FromStr<Err = IdError>> FromRequest for PathId<Id> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request))
    }
}

fn read<Id: FromStr<Err = IdError>>(request: &HttpRequest) -> Result<PathId<Id>, Problem> {
    let text = request.match_info().query("id");
    let id = text.parse().map_err(|error: IdError| bad_parameter("id", error.to_string()))?;
    Parameters::parse(request, &[])?;
    Ok(PathId(id))
}
