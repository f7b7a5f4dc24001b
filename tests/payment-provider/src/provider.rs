//! Commands on their way to the ledger, and what the behaviour makes of them.
//!
//! Invariant: work that has begun ends, whether or not the client still waits for it.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_web::http::StatusCode;
use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpResponse, rt};
use futures_util::{future, stream};
use platform::problem::Problem;

use crate::behaviour::{Behaviour, Dice, Ending, Work};
use crate::body::Failure;
use crate::book::{Book, Command};
use crate::ledger::{Done, Ledger};

pub(crate) struct Provider {
    ledger: Mutex<Ledger>,
    dice: Mutex<Dice>,
}

impl Provider {
    pub(crate) fn new(ledger: Ledger, behaviour: Behaviour) -> Self {
        Self { ledger: Mutex::new(ledger), dice: Mutex::new(Dice::new(behaviour)) }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries a command out and answers, or does only one of the two, or neither.
pub(crate) async fn perform(provider: Data<Provider>, command: Command) -> Result<HttpResponse, Failure> {
    let ending = provider.dice().draw();
    match ending {
        Ending::Answer => {
            let is_authorization = matches!(command, Command::Authorize { .. });
            let done = carry_out(provider, command).await?;
            let is_created = is_authorization && done.is_new;
            let status = if is_created { StatusCode::CREATED } else { StatusCode::OK };
            Ok(HttpResponse::build(status).json(done.record))
        }
        Ending::Fail(work) => {
            quietly(provider, command, work).await;
            Err(simulated(StatusCode::INTERNAL_SERVER_ERROR))
        }
        Ending::Cut(work, after) => {
            quietly(provider, command, work).await;
            rt::time::sleep(after).await;
            Ok(cut())
        }
        Ending::Late(after) => {
            rt::spawn(async move {
                rt::time::sleep(after).await;
                quietly(provider, command, Work::Now).await;
            });
            Err(simulated(StatusCode::GATEWAY_TIMEOUT))
        }
    }
}

/// Reads the book. Off the event loop, because the ledger is locked while it syncs.
pub(crate) async fn look<T: Send + 'static>(
    provider: Data<Provider>,
    read: impl FnOnce(&Book) -> T + Send + 'static,
) -> Result<T, Failure> {
    off_the_event_loop(move || read(&provider.ledger().book)).await
}

async fn carry_out(provider: Data<Provider>, command: Command) -> Result<Done, Failure> {
    Ok(off_the_event_loop(move || provider.ledger().carry_out(&command)).await??)
}

async fn off_the_event_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let stopped = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE).detail("the provider is stopping").into();
    web::block(work).await.map_err(stopped)
}

async fn quietly(provider: Data<Provider>, command: Command, work: Work) {
    if work == Work::Never {
        return;
    }
    if let Err(failure) = carry_out(provider, command).await {
        tracing::info!("what nobody waits for was refused: {failure}");
    }
}

fn simulated(status: StatusCode) -> Failure {
    Problem::new(status).detail("the provider misbehaves as it was told to").into()
}

/// No answer: a body that fails before its first byte makes the server close the connection with nothing sent.
fn cut() -> HttpResponse {
    let broken = io::Error::other("the provider closes the connection as it was told to");
    HttpResponse::Ok().streaming(stream::once(future::ready(Err::<Bytes, _>(broken))))
}
