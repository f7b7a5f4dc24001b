//! A request's way through the facade, phase by phase:
//! identify → admit → route → protect → decide → forward → fall back → record.
//!
//! Invariant: phases run in this order, each once; what a later phase needs of an earlier one stands in its arguments.

pub(crate) mod admit;
pub(crate) mod decide;
pub(crate) mod fallback;
pub(crate) mod forward;
pub(crate) mod identify;
pub(crate) mod protect;
pub(crate) mod record;
pub(crate) mod route;

use std::rc::Rc;

use control::Side;
use http::header::{CONNECTION, HeaderName, HeaderValue, TRAILER};
use http::uri::{Parts as UriParts, PathAndQuery, Uri};
use http::{Response, Version, request};
use hyper::body::Incoming;

use crate::answer::{Answer, Refusal};
use crate::body::{RequestBody, ResponseBody};
use crate::client::Client;
use crate::client::websocket::Tunnel;
use crate::client::{expect, limits, upgrade};
use crate::headers;
use crate::outgoing::Outgoing;
use crate::protect::marks::Marks;
use crate::upload::Upload;
use crate::worker::Worker;
use decide::Decision;
use record::Ticket;

const SIDE: HeaderName = HeaderName::from_static("banyan-side");
const FALLBACK: HeaderName = HeaderName::from_static("banyan-fallback");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const MONOLITH: HeaderValue = HeaderValue::from_static("monolith");
const SERVICE: HeaderValue = HeaderValue::from_static("service");

/// Answers one request. Whatever happens, there is an answer, and it is recorded.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    client: Rc<Client>,
    mut parts: Box<request::Parts>,
    incoming: Incoming,
) -> Response<Box<ResponseBody>> {
    let mut ticket = Ticket::begin(&worker, &client, &parts);
    // Before anything is added to it.
    let within = limits::check(&worker.plan.clients, &parts);
    headers::obey_connection(&mut parts.headers);
    let identity = identify::identify(&worker.ids, &mut parts.headers);
    ticket.identified(&identity);
    let request_id = identity.request_id;
    let upload = Upload::new(incoming, &parts, &worker.plan, &client);
    ticket.received = upload.as_ref().map(|upload| upload.received());
    let mut marks = Marks::default();
    let tunnel = parts.extensions.get::<Tunnel>().cloned();
    let done = match within {
        Ok(()) => through(&worker, &client, parts, upload.as_ref(), &mut ticket, &mut marks).await,
        Err(refusal) => Err(Refused { refusal, routed: false }),
    };
    let done = match (tunnel, done) {
        (Some(tunnel), Ok(answer)) => {
            tunnel.settle(*answer).map(Box::new).map_err(|refusal| Refused { refusal, routed: true })
        }
        (_, done) => done,
    };
    let (mut answer, routed) = match done {
        Ok(answer) => (answer, true),
        Err(Refused { refusal, routed }) => {
            // Nothing more comes of a write that was refused; a switch need not wait until its body is read.
            ticket.write = None;
            let refusal = Box::pin(read_away(upload.as_deref(), refusal)).await;
            (refusal.into_answer(&request_id), routed)
        }
    };
    if routed && !ticket.is_sideless {
        let side = if ticket.side == Side::Service { SERVICE } else { MONOLITH };
        answer.parts.headers.insert(SIDE, side);
    }
    if ticket.fell_back {
        answer.parts.headers.insert(FALLBACK, MONOLITH);
    }
    if !ticket.takes_trailers {
        // Nobody waits in vain for what hyper will not send.
        answer.parts.headers.remove(TRAILER);
    }
    marks.apply(&mut answer.parts.headers);
    answer.parts.headers.entry(identify::REQUEST_ID).or_insert(request_id);
    if upload.is_some_and(|upload| upload.is_awaited()) {
        // The client may send its body now or never: what it sends next could be read in two ways.
        answer.parts.headers.insert(CONNECTION, CLOSE);
    }
    ticket.status = Some(answer.parts.status.as_u16());
    answer.into_response(ticket)
}

/// A client hears the answer for certain once it has sent its body; what is too long for that is cut off after it.
async fn read_away(upload: Option<&Upload>, refusal: Refusal) -> Refusal {
    match upload {
        Some(upload) if !refusal.closes() && !upload.discard().await => refusal.closing(),
        _ => refusal,
    }
}

/// A refusal, and whether a side had been chosen by then.
struct Refused {
    refusal: Refusal,
    routed: bool,
}

async fn through(
    worker: &Rc<Worker>,
    client: &Client,
    mut parts: Box<request::Parts>,
    upload: Option<&Rc<Upload>>,
    ticket: &mut Ticket,
    marks: &mut Marks,
) -> Result<Box<Answer>, Refused> {
    let unrouted = |refusal| Refused { refusal, routed: false };
    if let Err(refusal) = admit::admit(client, &parts) {
        ticket.stands_for(client.door.asked(&parts.uri));
        return Err(unrouted(refusal));
    }
    expect::settle(&mut parts, upload).map_err(unrouted)?;
    worker.plan.forwarded.check_loop(&parts.headers).map_err(unrouted)?;
    let address = worker.plan.forwarded.client(&client.hop, &parts.headers);
    ticket.came_from(&address);
    let route = route::route(&worker.plan, &parts);
    if let Some(refusal) = route.refusal() {
        return Err(unrouted(refusal));
    }
    (ticket.context, ticket.is_sideless) = (route.context, route.upstream.is_some());
    let claims = protect::protect(worker, route.index, &parts, &address, marks).await.map_err(unrouted)?;
    let decision = decide::decide(worker, &route, &parts, &address, claims.as_ref()).await;
    let Decision { side, upstream, canary, write } =
        decision.map_err(|refusal| Refused { refusal, routed: false })?;
    ticket.decided(side, upstream, write);
    drop(route);

    let protocols = upgrade::wanted(&parts).filter(|_| upload.is_none());
    if let Some(overrides) = &worker.plan.overrides {
        overrides.strip(&mut parts.headers);
    }
    // HTTP/1.0 knows no interim answers, and hyper cannot send them over HTTP/2.
    let hints = (parts.version == Version::HTTP_11).then_some(&*client.door);
    ticket.takes_trailers =
        headers::to_upstream(&mut parts, &worker.plan.forwarded, &client.hop, claims.as_ref());
    if let Some(protocols) = &protocols {
        upgrade::ask(&mut parts.headers, protocols.clone());
    }
    parts.uri = origin_form(parts.uri);
    let body = RequestBody::new(upload, &worker.plan.clients.body);
    let mut request = Outgoing::new(&parts, protocols, body);
    drop(parts);
    let falls_back = canary && request.is_repeatable();
    let limits = &worker.plan.limits;
    let limit = if falls_back { limits.canary_header } else { limits.header };
    let sent = forward::forward(worker, upstream, &mut request, hints, limit).await;
    let answer = match ticket.context {
        Some(context) if falls_back => {
            fallback::settle(worker, context, sent, &mut request, hints, ticket).await
        }
        _ => sent.map_err(|failure| failure.refusal(worker, upstream)),
    };
    answer.map_err(|refusal| Refused { refusal, routed: true })
}

/// An absolute target means the same as its path with the host beside it, which the upstream gets either way.
fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let mut parts = UriParts::default();
    parts.path_and_query = uri.path_and_query().cloned().or_else(|| Some(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}
