//! A page for people: what `facade status` shows, in a browser.
//!
//! Invariant: it only reads, it fetches nothing but the API beside it, and it holds no figure itself, so that it may be
//! given to anybody: whoever has no token sees an empty table.

use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, Responder};

const PAGE: &str = include_str!("page.html");
/// What stands in the page itself may run, and it may ask its own server; nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page() -> impl Responder {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .body(PAGE)
}
