//! `GET /api/v1/upstreams`: instances, their health, and breakers.
//!
//! Invariant: it only reads.

use actix_web::Responder;
use actix_web::web::{Data, Json};

use crate::admin::List;
use crate::server::Shared;
use crate::upstream::views::views;

pub(super) async fn list(shared: Data<Shared>) -> impl Responder {
    Json(List { items: views(&shared.plan(), &shared.names) })
}
