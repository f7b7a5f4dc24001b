//! What is where: `/v1` for the shop, `/control` for whoever tests it.
//!
//! Invariant: without the token, where one is set, nothing is read and nothing is done.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{Error, HttpRequest, HttpResponse, Resource, ResponseError, Route, rt};
use platform::problem::Problem;
use platform::settings::Secret;
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::behaviour::{Behaviour, Dice};
use crate::body::{Body, Failure, query};
use crate::book::{Book, Command, Refusal, Terms};
use crate::provider::{Provider, look, perform};
use crate::settings::ProviderSettings;

type Answer = Result<HttpResponse, Failure>;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
const KEY_MAX: usize = 255;

/// Adds all routes.
pub(crate) fn configure(config: &mut ServiceConfig, provider: Data<Provider>, settings: &ProviderSettings) {
    let token = Data::new(settings.token.clone());
    config.app_data(provider).app_data(token).service(
        web::scope("/v1")
            .wrap(from_fn(slowed))
            .wrap(from_fn(guarded))
            .service(resource(
                "/authorizations",
                "GET, POST",
                [web::post().to(authorize), web::get().to(find)],
            ))
            .service(resource("/authorizations/{id}", "GET", [web::get().to(read)]))
            .service(resource("/authorizations/{id}/capture", "POST", [web::post().to(capture)]))
            .service(resource("/keys/{key}/void", "POST", [web::post().to(void)]))
            .service(resource("/ledger", "GET", [web::get().to(list)]))
            .service(resource("/ledger/summary", "GET", [web::get().to(summary)])),
    );
    if settings.control {
        let control = [web::get().to(behaviour), web::put().to(behave)];
        config.service(web::scope("/control").wrap(from_fn(guarded)).service(resource(
            "/behaviour",
            "GET, PUT",
            control,
        )));
    }
}

fn resource<const N: usize>(path: &str, methods: &'static str, routes: [Route; N]) -> Resource {
    let refuse = move |method: Method| async move {
        let detail = format!("{method} is not known here; use {methods}");
        Err::<HttpResponse, _>(Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail(detail).allow(methods))
    };
    routes.into_iter().fold(web::resource(path), Resource::route).default_service(web::to(refuse))
}

async fn guarded(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let token = request.app_data::<Data<Secret>>().map(|token| token.expose().to_owned()).unwrap_or_default();
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if token.is_empty() || bool::from(given.as_bytes().ct_eq(token.as_bytes())) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let problem =
        Problem::new(StatusCode::UNAUTHORIZED).detail("send the bearer token of the setting provider.token");
    Ok(request.into_response(problem.error_response()))
}

async fn slowed(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let provider = request.app_data::<Data<Provider>>().cloned();
    let answer = next.call(request).await;
    if let Some(latency) = provider.map(|provider| provider.dice().behaviour.latency()) {
        rt::time::sleep(latency).await;
    }
    answer
}

/// A body of `{}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn authorize(request: HttpRequest, provider: Data<Provider>, body: Body<Terms>) -> Answer {
    query::<Nothing>(&request)?;
    let mut keys = request.headers().get_all("idempotency-key");
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => checked_key(key.to_str().unwrap_or_default())?,
        _ => return Err(bad_key("send exactly one Idempotency-Key header").into()),
    };
    perform(provider, Command::Authorize { key, terms: body.0 }).await
}

async fn capture(provider: Data<Provider>, id: Path<String>, _: Body<Nothing>) -> Answer {
    perform(provider, Command::Capture { id: id.into_inner() }).await
}

async fn void(provider: Data<Provider>, key: Path<String>, _: Body<Nothing>) -> Answer {
    let key = checked_key(&key)?;
    perform(provider, Command::Void { key }).await
}

fn checked_key(key: &str) -> Result<String, Problem> {
    if (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key.to_owned());
    }
    Err(bad_key(&format!("a key has from 1 to {KEY_MAX} visible ASCII characters")))
}

fn bad_key(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST).detail(detail).field("Idempotency-Key", detail)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByKey {
    key: String,
}

async fn find(request: HttpRequest, provider: Data<Provider>) -> Answer {
    let ByKey { key } = query(&request)?;
    let found = look(provider, move |book| book.by_key(&key).cloned()).await?;
    let items: Vec<_> = found.into_iter().collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items })))
}

async fn read(provider: Data<Provider>, id: Path<String>) -> Answer {
    let id = id.into_inner();
    let found = look(provider, move |book| book.by_id(&id).cloned().ok_or(Refusal::NotFound { id })).await?;
    Ok(HttpResponse::Ok().json(found?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    #[serde(default)]
    cursor: usize,
    limit: Option<usize>,
}

async fn list(request: HttpRequest, provider: Data<Provider>) -> Answer {
    let Window { cursor, limit } = query(&request)?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("limit must be a whole number from 1 to {LIMIT_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST).detail(detail).into());
    }
    let (items, next) = look(provider, move |book| book.page(cursor, limit)).await?;
    let next = next.map(|next| next.to_string());
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next })))
}

async fn summary(provider: Data<Provider>) -> Answer {
    Ok(HttpResponse::Ok().json(look(provider, Book::summary).await?))
}

async fn behaviour(provider: Data<Provider>) -> Answer {
    Ok(HttpResponse::Ok().json(&provider.dice().behaviour))
}

async fn behave(provider: Data<Provider>, body: Body<Behaviour>) -> Answer {
    let Body(behaviour) = body;
    behaviour.check().map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .detail(error.to_string())
            .field("body", error.to_string())
    })?;
    *provider.dice() = Dice::new(behaviour.clone());
    Ok(HttpResponse::Ok().json(behaviour))
}
