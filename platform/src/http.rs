//! Serving HTTP with actix-web: the same limits, health checks, request ids and error documents in every process.
//!
//! Invariant: whatever goes wrong before a handler runs is answered as problem+json as well.

mod health;
mod request;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::table;

pub use health::Health;
pub use request::{RequestInfo, request_info};

/// Where and how a process serves HTTP.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Address and port; port 0 takes a free one, which is printed.
    pub listen: String,
    /// Largest request body in bytes; larger ones are refused with 413.
    #[serde(deserialize_with = "crate::settings::within::<1, 1_073_741_824, _, _>")]
    pub body_limit_bytes: usize,
    /// Threads that handle requests; 0 means one per core.
    #[serde(deserialize_with = "crate::settings::within::<0, 512, _, _>")]
    pub workers: usize,
    /// Milliseconds within which a client must send its request's headers.
    #[serde(deserialize_with = "crate::settings::within::<1, 3_600_000, _, _>")]
    pub header_timeout_ms: u64,
    /// Seconds that requests in flight get to end at shutdown.
    #[serde(deserialize_with = "crate::settings::within::<0, 3_600, _, _>")]
    pub shutdown_timeout_s: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:3000".to_owned(),
            body_limit_bytes: 1024 * 1024,
            workers: 0,
            header_timeout_ms: 10_000,
            shutdown_timeout_s: 10,
        }
    }
}

/// Why a process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The setting is not an address with a port.
    #[error("`{listen}` is not an address to listen on; write it as 127.0.0.1:3000 (setting {setting})")]
    NoAddress {
        /// What stood there.
        listen: String,
        /// Where it was set.
        setting: &'static str,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}: {reason}; stop the other process or set {setting}")]
    CannotListen {
        /// The address.
        listen: String,
        /// Why, in the system's words.
        reason: String,
        /// Which setting names another one.
        setting: &'static str,
    },
    /// The server stopped with an error.
    #[error("the HTTP server failed")]
    Failed(#[from] io::Error),
}

/// Binds a listener, with an error that names address, reason and the `setting` that chooses another.
pub fn bind(listen: &str, setting: &'static str) -> Result<TcpListener, ServeError> {
    let address = listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address: SocketAddr =
        address.ok_or_else(|| ServeError::NoAddress { listen: listen.to_owned(), setting })?;
    let cannot = |error: io::Error| {
        let text = error.to_string().to_lowercase();
        let reason = text.split(" (os error").next().unwrap_or(&text).to_owned();
        ServeError::CannotListen { listen: listen.to_owned(), reason, setting }
    };
    let listener = TcpListener::bind(address).map_err(cannot)?;
    listener.set_nonblocking(true).map_err(cannot)?;
    Ok(listener)
}

/// Prints where a listener can be reached, as the one line on standard output that scripts wait for.
pub fn announce(word: &str, listener: &TcpListener) -> io::Result<()> {
    table::print_line(&format!("{word} http://{}", listener.local_addr()?));
    Ok(())
}

/// Serves on a bound listener until SIGTERM or SIGINT, then lets requests in flight end.
///
/// `configure` adds the routes; everything else (health, request ids, limits, error documents) comes with it.
pub async fn serve<F>(
    listener: TcpListener,
    settings: &HttpSettings,
    health: Health,
    configure: F,
) -> Result<(), ServeError>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let limit = settings.body_limit_bytes;
    let health = web::Data::new(health);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(health.clone())
            .app_data(web::PayloadConfig::new(limit))
            .app_data(BodyLimit(limit))
            .wrap(from_fn(request::observe))
            .configure(health::routes)
            .configure(configure.clone())
            .default_service(web::to(not_found))
    });
    let server = match settings.workers {
        0 => server,
        workers => server.workers(workers),
    };
    server
        .client_request_timeout(Duration::from_millis(settings.header_timeout_ms))
        .shutdown_timeout(settings.shutdown_timeout_s)
        .listen(listener)?
        .run()
        .await?;
    Ok(())
}

/// The largest body in bytes, for extractors that read bodies themselves (`request.app_data::<BodyLimit>()`).
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

async fn not_found(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::new(StatusCode::NOT_FOUND).detail(format!("there is nothing at {}", request.path())))
}
