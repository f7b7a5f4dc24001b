//! Pins: keys whose reads stay at one side.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Json, Path, Query};
use control::{Pin, Side};
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::views::{FlagView, List, instant};
use crate::admin::{blocking, body};
use crate::server::Shared;

/// A key that is pinned, by whom, when and why.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PinView {
    /// The pin.
    #[serde(flatten)]
    pub pin: Pin,
    /// When it was set.
    pub at: String,
}

impl From<Pin> for PinView {
    fn from(pin: Pin) -> Self {
        Self { at: instant(pin.at_ms), pin }
    }
}

/// Where the reads of a key are to stay.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PinChange")]
pub(super) struct Change {
    /// The sticky key, to the letter.
    #[schemars(length(min = 1, max = 1000))]
    key: String,
    /// The side that answers its reads in canary; null lets the key go where the weight says.
    #[schemars(with = "Option<Side>")]
    side: Option<String>,
    /// Why, for the audit trail.
    #[schemars(length(min = 1, max = 500))]
    reason: String,
    /// Who, for the audit trail.
    #[schemars(length(min = 1, max = 500))]
    actor: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    context: Option<String>,
}

pub(super) async fn list(
    shared: Data<Shared>,
    search: Query<Search>,
) -> Result<Json<List<PinView>>, Problem> {
    found(shared, search.into_inner().context).await
}

pub(super) async fn list_of(
    shared: Data<Shared>,
    context: Path<String>,
) -> Result<Json<List<PinView>>, Problem> {
    found(shared, Some(context.into_inner())).await
}

async fn found(shared: Data<Shared>, context: Option<String>) -> Result<Json<List<PinView>>, Problem> {
    let pins = blocking(move || shared.store.pins(context.as_deref())).await?;
    Ok(Json(List { items: pins.into_iter().map(PinView::from).collect() }))
}

pub(super) async fn change(
    shared: Data<Shared>,
    context: Path<String>,
    bytes: Bytes,
) -> Result<Json<FlagView>, Problem> {
    let Change { key, side, reason, actor } = body::read(&bytes)?;
    let side = side.map(|side| body::side("side", &side)).transpose()?;
    let who = body::who(actor, reason)?;
    if side.is_some() && has_no_keys(&shared, &context) {
        let detail = format!("the setting `contexts.{context}.key` is empty, so no request has a key");
        return Err(Problem::new(StatusCode::CONFLICT).detail(detail));
    }
    let poke = shared.poke.clone();
    let flag = blocking(move || shared.store.set_pin(&context, &key, side, &who)).await?;
    // In effect at once here; other facades see it at their next look.
    poke.poke();
    Ok(Json(FlagView::from(flag)))
}

fn has_no_keys(shared: &Shared, context: &str) -> bool {
    let plan = shared.plan();
    plan.contexts.iter().any(|known| known.name == context && known.keys.is_empty() && !known.is_retired)
}
