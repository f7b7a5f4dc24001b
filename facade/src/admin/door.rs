//! Who may use the admin API.

use std::net::IpAddr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpRequest};
use platform::problem::Problem;
use platform::settings::Secret;
use subtle::ConstantTimeEq;

pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    if let Some(token) = request.app_data::<Data<Secret>>() {
        admit(request.request(), token)?;
    }
    next.call(request).await
}

fn admit(request: &HttpRequest, token: &Secret) -> Result<(), Problem> {
    if token.expose().is_empty() {
        return names_loopback(request);
    }
    let given = request.headers().get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
    if bool::from(given.ct_eq(token.expose().as_bytes())) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNAUTHORIZED)
        .detail("the admin API needs the bearer token of `admin_token`"))
}

fn names_loopback(request: &HttpRequest) -> Result<(), Problem> {
    let host = request.connection_info().host().to_owned();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback =
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_loopback {
        return Ok(());
    }
    let detail =
        format!("the host {name} is not a loopback address; set `admin_token` to use the admin API by name");
    Err(Problem::new(StatusCode::FORBIDDEN).detail(detail))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn status(headers: &[(&'static str, &'static str)], token: &str) -> u16 {
        let mut request = TestRequest::default();
        for header in headers {
            request = request.insert_header(*header);
        }
        admit(&request.to_http_request(), &Secret::new(token)).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn with_a_token_only_its_bearer_gets_in() {
        assert_eq!(status(&[("authorization", "Bearer s3cret")], "s3cret"), 200);
        assert_eq!(status(&[("authorization", "Bearer s3cres")], "s3cret"), 401);
        assert_eq!(status(&[], "s3cret"), 401);
    }

    #[test]
    fn without_a_token_only_loopback_names_get_in() {
        for host in ["127.0.0.1:8081", "localhost:8081", "[::1]:8081"] {
            assert_eq!(status(&[("host", host)], ""), 200, "{host}");
        }
        for host in ["evil.example", "10.0.0.1:8081", "127.0.0.1.evil.example"] {
            assert_eq!(status(&[("host", host)], ""), 403, "{host}");
        }
    }
}
