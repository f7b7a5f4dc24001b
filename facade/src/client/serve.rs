//! One connection: which protocol it speaks, its requests, and its end.
//!
//! Invariant: a connection ends when it is told to by [`Order`], and every request on it is answered through
//! [`phases::answer`], whatever the protocol.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Version, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::body::{BoxError, ResponseBody};
use crate::client::accept::Reception;
use crate::client::stats::count;
use crate::client::stream::Stream;
use crate::client::traffic::Order;
use crate::client::watched::Watched;
use crate::client::websocket::Tunnel;
use crate::client::{Client, Scheme, UnderWay, hints, refuse, tls, translate, upgrade};
use crate::phases;
use crate::strict::Guarded;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// As many bytes of a request as a connection reads before it asks for a buffer.
const WAKING_BYTES: usize = 64;
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Runs the tasks of an HTTP/2 connection on its worker's thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

/// Serves a connection to its end. Holds `drain` until then: whoever stops the facade waits for that.
pub(crate) async fn serve(
    reception: Rc<Reception>,
    client: Rc<Client>,
    stream: TcpStream,
    _drain: watch::Receiver<bool>,
) {
    let opened = match client.scheme {
        Scheme::Http => Box::pin(open(&reception, &client, stream)).await,
        Scheme::Https => return Box::pin(serve_tls(reception, client, stream)).await,
    };
    match opened {
        Some((stream, Version::HTTP_2)) => Box::pin(http2(reception, client, stream)).await,
        Some((stream, _)) => http1(reception, client, stream).await,
        None => (),
    }
}

/// Looks at the first bytes: a client that knows we speak HTTP/2 begins with its preface.
async fn open(
    reception: &Reception,
    client: &Client,
    mut stream: TcpStream,
) -> Option<(Watched<TcpStream>, Version)> {
    let watched = |stream, first| Watched::new(stream, first, &client.traffic);
    if !reception.plan().http2.enabled {
        return Some((watched(stream, Bytes::new()), Version::HTTP_11));
    }
    let first = timeout(reception.plan().head, first_bytes(&mut stream)).await.ok()?.ok()?;
    let version = if *first == *PREFACE { Version::HTTP_2 } else { Version::HTTP_11 };
    Some((watched(stream, first), version))
}

/// As many as it takes to know; an HTTP/1.1 client's first two letters do.
async fn first_bytes(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let left = PREFACE.len() - first.len();
        if stream.take(left as u64).read_buf(&mut first).await? == 0 {
            break;
        }
    }
    Ok(first.into())
}

async fn serve_tls(reception: Rc<Reception>, client: Rc<Client>, stream: TcpStream) {
    let Some(plan) = &reception.plan().tls else { return };
    match tls::accept(plan, stream).await {
        Ok((stream, version)) => {
            let stream = Watched::new(stream, Bytes::new(), &client.traffic);
            match version {
                Version::HTTP_2 => Box::pin(http2(Rc::clone(&reception), client, stream)).await,
                _ => Box::pin(http1(Rc::clone(&reception), client, stream)).await,
            }
        }
        Err(error) => {
            count(&reception.worker.clients.failed_handshakes);
            tracing::debug!(%error, "a TLS handshake failed: {error}");
        }
    }
}

async fn http1<S>(reception: Rc<Reception>, client: Rc<Client>, mut stream: Watched<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    loop {
        reception.watch.wakes_up();
        let Some(idle) = requests(&reception, &client, stream).await else { return };
        let Some(woken) = rest(&client, idle).await else { return };
        stream = woken;
    }
}

/// Serves requests until the connection ends, or has been idle for so long that it may rest.
async fn requests<S>(reception: &Rc<Reception>, client: &Rc<Client>, stream: Watched<S>) -> Option<Watched<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, incoming) = request.into_parts();
        answer(Rc::clone(reception), Rc::clone(client), Box::new(parts), incoming)
    });
    let stream = Guarded::new(stream, reception.plan().strict(), Arc::clone(&client.door));
    let mut connection = reception.http1.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let traffic = &client.traffic;
    let mut obeyed = Order::None;
    loop {
        let order = match next(&mut connection, client, &mut obeyed).await {
            Event::Ended(ended) => {
                log(ended);
                return None;
            }
            Event::Order(order) => order,
        };
        let is_idle = traffic.in_flight() == 0 && !traffic.is_reading();
        match order {
            // A request may have come since the order was given.
            Order::Rest if !is_idle => {
                traffic.wake_up();
                obeyed = Order::None;
            }
            Order::Drain | Order::Close if traffic.in_flight() > 0 => {
                Pin::new(&mut connection).graceful_shutdown();
            }
            // One may be on its way, and hyper would close at once. The answer to it says that it is the last one.
            Order::None | Order::Drain => (),
            Order::Close if !is_idle => (),
            Order::Rest => {
                let parts = connection.into_parts()?;
                let mut stream = parts.io.into_inner().between_requests()?;
                // Copied, because even an empty part of the buffer would keep all of it.
                stream.put_back(Bytes::copy_from_slice(&parts.read_buf));
                return Some(stream);
            }
            Order::TooSlow | Order::Close | Order::Cut => {
                let stream = connection.into_parts()?.io.into_inner().into_inner();
                Box::pin(end(stream, order)).await;
                return None;
            }
        }
    }
}

async fn end(stream: impl AsyncRead + AsyncWrite + Unpin, order: Order) {
    match order {
        Order::TooSlow => refuse::too_slow(stream).await,
        Order::Cut => (),
        _ => refuse::close(stream).await,
    }
}

/// Waits for the next request without what serving one takes: an idle connection holds a tenth of a busy one's memory.
async fn rest<S>(client: &Client, mut stream: Watched<S>) -> Option<Watched<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = [MaybeUninit::uninit(); WAKING_BYTES];
    let mut first = ReadBuf::uninit(&mut first);
    let is_read = poll_fn(|cx| {
        client.traffic.register(cx);
        if let Poll::Ready(read) = Pin::new(&mut stream).poll_read(cx, &mut first) {
            return Poll::Ready(read.is_ok());
        }
        if client.traffic.order() > Order::Rest { Poll::Ready(false) } else { Poll::Pending }
    })
    .await;
    if is_read && !first.filled().is_empty() {
        client.traffic.wake_up();
        stream.put_back(Bytes::copy_from_slice(first.filled()));
        return Some(stream);
    }
    Box::pin(end(stream, client.traffic.order())).await;
    None
}

async fn http2<S>(reception: Rc<Reception>, client: Rc<Client>, stream: Watched<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    client.traffic.is_multiplexed();
    let service = service_fn(|mut request: Request<Incoming>| {
        translate::to_http1(&mut request);
        let (parts, incoming) = request.into_parts();
        answer(Rc::clone(&reception), Rc::clone(&client), Box::new(parts), incoming)
    });
    let mut connection = reception.http2.serve_connection(TokioIo::new(stream), service);
    let mut obeyed = Order::None;
    loop {
        match next(&mut connection, &client, &mut obeyed).await {
            Event::Ended(ended) => return log(ended),
            Event::Order(Order::Cut) => return,
            // It keeps its state, which both sides have agreed on.
            Event::Order(Order::None | Order::Rest) => (),
            // GOAWAY: what has begun is answered, and the client takes the rest elsewhere.
            Event::Order(_) => Pin::new(&mut connection).graceful_shutdown(),
        }
    }
}

enum Event {
    Ended(hyper::Result<()>),
    Order(Order),
}

/// The connection's end, or an order greater than the one obeyed before.
async fn next<C>(connection: &mut C, client: &Client, obeyed: &mut Order) -> Event
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    let mut is_registered = false;
    poll_fn(|cx| {
        if !is_registered {
            // Once is enough: a connection stays in one task.
            client.traffic.register(cx);
            is_registered = true;
        }
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(Event::Ended(ended));
        }
        let order = client.traffic.order();
        if order > *obeyed {
            *obeyed = order;
            return Poll::Ready(Event::Order(order));
        }
        Poll::Pending
    })
    .await
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended: {error}");
    }
}

/// The head is boxed: hyper moves this future as a whole, with room for every argument that it hands on.
async fn answer(
    reception: Rc<Reception>,
    client: Rc<Client>,
    mut parts: Box<request::Parts>,
    incoming: Incoming,
) -> Result<Response<Served>, Infallible> {
    let number = client.traffic.begin();
    let under_way = UnderWay::begun(&client);
    let asks = parts.headers.contains_key(UPGRADE);
    let upgrade = asks.then(|| parts.extensions.remove::<OnUpgrade>()).flatten();
    let upgrade = upgrade.map(|upgrade| (upgrade, parts.extensions.get::<Tunnel>().is_some()));
    let worker = reception.workers.get();
    let mut response = phases::answer(worker, Rc::clone(&client), parts, incoming).await;
    if client.door.hints.is_filled() {
        Box::pin(hints::are_sent(&client.door)).await;
    }
    client.door.answered(response.status());
    if number >= reception.plan().requests_per_connection {
        client.traffic.tell(Order::Drain);
    }
    match upgrade {
        Some((upgrade, false)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            client.traffic.upgrade();
            upgrade::start(&reception, upgrade, &mut response, Rc::clone(&client));
        }
        Some((upgrade, true)) if response.status().is_success() => {
            // The stream is under way for as long as the tunnel is, or the connection would count as idle.
            upgrade::start(&reception, upgrade, &mut response, UnderWay::hold(&client));
        }
        _ if client.traffic.order() >= Order::Drain => {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        _ => (),
    }
    Ok(response.map(|body| Served { body: Kind::new(body, &reception, &client), _under_way: under_way }))
}

/// An answer's body on its last steps.
#[derive(Debug)]
pub(crate) struct Served {
    body: Kind,
    /// Kept for its drop.
    _under_way: UnderWay,
}

/// Whether an answer has its connection for itself.
#[derive(Debug)]
enum Kind {
    Alone(Box<ResponseBody>),
    Shared(Rc<Stream>),
}

impl Kind {
    fn new(body: Box<ResponseBody>, reception: &Reception, client: &Client) -> Self {
        if !client.traffic.shares() || body.is_end_stream() {
            return Self::Alone(body);
        }
        let stream = Rc::new(Stream::new(body));
        reception.watch.enter_stream(&stream);
        Self::Shared(stream)
    }
}

impl Body for Served {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.body {
            Kind::Alone(body) => Pin::new(body).poll_frame(cx),
            Kind::Shared(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kind::Alone(body) => body.is_end_stream(),
            Kind::Shared(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Alone(body) => body.size_hint(),
            Kind::Shared(stream) => stream.size_hint(),
        }
    }
}
