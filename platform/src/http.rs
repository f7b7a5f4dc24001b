//! Serving HTTP with actix-web: the same limits, health checks, metrics, request ids, security headers and error
//! documents in every process.
//!
//! Invariant: whatever goes wrong around a handler is answered as problem+json as well. Only what is no HTTP request at
//! all never gets here: the HTTP library refuses that with a bare 400, 408 or 431 and closes the connection.

mod compress;
mod cors;
mod fault;
mod headers;
mod health;
mod observe;
mod request;
mod settings;
mod stats;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use actix_web::http::{KeepAlive, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpResponse, HttpServer, Responder};

use crate::metrics::{self, Metrics};
use crate::table;

pub use health::Health;
pub use request::{RequestInfo, request_info};
pub use settings::HttpSettings;

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
    // Counted all the same: a measure that nobody asks for costs less than a second way through the middleware.
    run(listener, settings, health, &Metrics::new(), configure).await
}

/// The same with `GET /metrics`, which answers with `metrics` and those of HTTP itself.
pub async fn serve_with_metrics<F>(
    listener: TcpListener,
    settings: &HttpSettings,
    health: Health,
    metrics: &Metrics,
    configure: F,
) -> Result<(), ServeError>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let data = web::Data::new(metrics.clone());
    let configure = move |config: &mut ServiceConfig| {
        config.app_data(data.clone()).service(web::resource("/metrics").route(web::get().to(scrape)));
        configure(config);
    };
    run(listener, settings, health, metrics, configure).await
}

async fn run<F>(
    listener: TcpListener,
    settings: &HttpSettings,
    health: Health,
    metrics: &Metrics,
    configure: F,
) -> Result<(), ServeError>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let limit = settings.body_limit_bytes;
    let origins = settings.cors_origins.clone();
    let health = web::Data::new(health);
    let observe = observe::Observe::new(settings, metrics);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(health.clone())
            .app_data(web::PayloadConfig::new(limit))
            .app_data(BodyLimit(limit))
            .wrap(cors::layer(&origins))
            // The last one wraps all others: it sees what they answer, too.
            .wrap(observe.clone())
            .configure(health::routes)
            .configure(configure.clone())
    });
    let server = match settings.workers {
        0 => server,
        workers => server.workers(workers),
    };
    let keep_alive = match settings.keep_alive_s {
        0 => KeepAlive::Disabled,
        seconds => KeepAlive::Timeout(Duration::from_secs(seconds)),
    };
    server
        .keep_alive(keep_alive)
        .client_request_timeout(Duration::from_millis(settings.header_timeout_ms))
        .shutdown_timeout(settings.shutdown_timeout_s)
        .listen(listener)?
        .run()
        .await?;
    Ok(())
}

async fn scrape(metrics: web::Data<Metrics>) -> impl Responder {
    let text = metrics.render().await;
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, metrics::CONTENT_TYPE)).body(text)
}

/// The largest body in bytes, for extractors that read bodies themselves (`request.app_data::<BodyLimit>()`).
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

#[cfg(test)]
mod tests;
