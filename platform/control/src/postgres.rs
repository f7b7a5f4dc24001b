//! The store on a PostgreSQL server, shared by processes of many machines.
//!
//! Invariants: no call lasts longer than its patience, whatever the server does; no text that leaves here holds the
//! password.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::R2D2Connection;

use crate::clock::{Ahead, store_now_ms};
use crate::conn::Conn;
use crate::error::ControlError;
use crate::schema;
use crate::settings::ControlSettings;
use crate::transaction::{self, Access, Ending};

/// Connections kept for the next call.
const MOST_IDLE: usize = 4;
/// Calls under way at the same time, those that were given up included: a frozen server must not gather threads.
const MOST_CALLS: usize = 32;
/// A transaction whose process was stopped in its middle keeps the others waiting no longer.
const IDLE_IN_TRANSACTION_MS: u64 = 2_000;

pub(crate) struct Server {
    url: String,
    secret: String,
    place: String,
    prepare: String,
    patience: Duration,
    idle: Mutex<Vec<Conn>>,
    /// Held once by each call under way.
    turns: Arc<()>,
    ahead: Ahead,
    /// What to do where there are no tables, and whether it was seen that there are.
    missing: Missing,
    is_ready: AtomicBool,
}

/// What to do where there are no tables yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

impl Server {
    /// Connects, and sees that the tables are there.
    pub(crate) fn open(settings: &ControlSettings, missing: Missing) -> Result<Arc<Self>, ControlError> {
        let server = Self::later(settings, missing);
        let opening = Arc::clone(&server);
        let opened = server.within(move || {
            opening.keep(Conn::Postgres(opening.connect()?));
            Ok(())
        });
        opened.map_err(|error| match error {
            ControlError::CannotOpen { .. } | ControlError::Missing { .. } => error,
            error => ControlError::CannotOpen {
                path: server.place.clone(),
                reason: platform::error::chain(&error),
            },
        })?;
        Ok(server)
    }

    /// A server to which the first call connects.
    pub(crate) fn later(settings: &ControlSettings, missing: Missing) -> Arc<Self> {
        let url = settings.url.expose();
        let (whole, half) = (settings.answer_timeout_ms, settings.answer_timeout_ms / 2);
        Arc::new(Self {
            url: with_parameters(url, settings.patience()),
            secret: password(url).to_owned(),
            place: place(url),
            prepare: format!(
                "SET standard_conforming_strings = on; SET search_path = {};
                 SET statement_timeout = {whole}; SET lock_timeout = {half};
                 SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS};
                 SELECT set_config('synchronous_commit', 'on', false)
                 WHERE current_setting('synchronous_commit') = 'off'",
                schema::NAMESPACE
            ),
            patience: settings.patience(),
            idle: Mutex::default(),
            turns: Arc::new(()),
            ahead: Ahead::default(),
            missing,
            is_ready: AtomicBool::new(false),
        })
    }

    /// One transaction on a thread of its own.
    pub(crate) fn transact<T: Send + 'static>(
        self: &Arc<Self>,
        access: Access,
        work: impl FnOnce(&mut Conn) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let (server, ending) = (Arc::clone(self), Ending::default());
        let shared = ending.clone();
        let outcome = self.within(move || {
            let mut conn = server.connection()?;
            let done = transaction::run(&mut conn, access, &shared, work);
            if !matches!(done, Err(ControlError::Database(_))) {
                server.keep(conn);
            }
            done
        });
        match outcome {
            Err(ControlError::Silent { place, waited_ms, .. }) => {
                let maybe_done = access != Access::Read && !ending.give_up();
                Err(ControlError::Silent { place, waited_ms, maybe_done })
            }
            outcome => outcome,
        }
    }

    /// Runs what may hang on a thread of its own, and waits for it no longer than the patience allows. The thread goes
    /// on to its end, which is that of the connection at the latest.
    pub(crate) fn within<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        if Arc::strong_count(&self.turns) > MOST_CALLS {
            return Err(self.silent());
        }
        let turn = Arc::clone(&self.turns);
        let (sender, receiver) = mpsc::sync_channel(1);
        let run = move || {
            let done = work();
            drop(turn);
            // The caller may have given up.
            let _ = sender.send(done);
        };
        thread::Builder::new().name("control-call".to_owned()).spawn(run).map_err(ControlError::Thread)?;
        receiver.recv_timeout(self.patience).unwrap_or_else(|_| Err(self.silent()))
    }

    /// A new connection, ready for use; the first one sees that the tables are there. It may block; call it within [`Self::within`].
    pub(crate) fn connect(&self) -> Result<PgConnection, ControlError> {
        let cannot =
            |error: String| ControlError::NoAnswer { place: self.place.clone(), reason: self.scrub(error) };
        let mut conn = PgConnection::establish(&self.url).map_err(|error| cannot(error.to_string()))?;
        conn.batch_execute(&self.prepare).map_err(|error| cannot(error.to_string()))?;
        if !self.is_ready.load(Ordering::Acquire) {
            schema::ensure_server(&mut conn, &self.place, self.missing)?;
            self.is_ready.store(true, Ordering::Release);
        }
        Ok(conn)
    }

    /// How far the server's clock is ahead of the machine's.
    pub(crate) fn ahead(&self) -> &Ahead {
        &self.ahead
    }

    /// A connection that answers: a kept one that was cut meanwhile is passed over, since nothing was done on it.
    fn connection(&self) -> Result<Conn, ControlError> {
        loop {
            let kept = self.lock().pop();
            let (mut conn, is_new) = match kept {
                Some(conn) => (conn, false),
                None => (Conn::Postgres(self.connect()?), true),
            };
            match store_now_ms(&mut conn) {
                Ok(now_ms) => {
                    self.ahead.learn(now_ms);
                    return Ok(conn);
                }
                Err(error) if is_new => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn keep(&self, mut conn: Conn) {
        let mut idle = self.lock();
        if !conn.is_broken() && idle.len() < MOST_IDLE {
            idle.push(conn);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) -> ControlError {
        let waited_ms = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        ControlError::Silent { place: self.place.clone(), waited_ms, maybe_done: false }
    }

    /// The client library quotes a URL that it cannot read, password and all.
    fn scrub(&self, text: String) -> String {
        if self.secret.is_empty() || !text.contains(&self.secret) {
            return text.trim_end().to_owned();
        }
        "the client library cannot read control.url; see that special characters are percent-encoded"
            .to_owned()
    }
}

/// What is wrong with a URL, as far as can be told without connecting.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(
            "control.url is no PostgreSQL URL; write postgres://user:password@host:port/name".to_owned()
        );
    }
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let mode = parameters.split('&').find_map(|parameter| parameter.strip_prefix("sslmode="));
    match mode {
        Some(mode @ ("require" | "verify-ca" | "verify-full")) => Err(format!(
            "control.url asks for sslmode={mode}, but this program connects to PostgreSQL without TLS; keep the \
             connection within a private network or lead it through a tunnel, and write sslmode=disable"
        )),
        _ => Ok(()),
    }
}

/// `host:port/name`, as messages call the database.
pub(crate) fn place(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split('?').next().unwrap_or(rest).to_owned()
}

fn password(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
    user.split_once(':').map_or("", |(_, password)| password)
}

/// Ours first: where the URL says something else, it wins. A peer that vanished is noticed within seconds.
fn with_parameters(url: &str, patience: Duration) -> String {
    let (base, theirs) = url.split_once('?').unwrap_or((url, ""));
    let connect_timeout = patience.as_millis().div_ceil(1000);
    format!(
        "{base}?application_name=banyan-control&connect_timeout={connect_timeout}&keepalives=1&keepalives_idle=2\
         &keepalives_interval=1&keepalives_count=3&tcp_user_timeout=5000&{theirs}"
    )
    .trim_end_matches('&')
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_for_tls_is_refused_in_words() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = check_url(&format!("postgres://h/n?sslmode={mode}")).unwrap_err();
            assert!(error.contains(mode) && error.contains("without TLS"), "{error}");
        }
        assert_eq!(check_url("postgres://h/n?sslmode=prefer"), Ok(()));
        assert!(check_url("host=h password=hush").unwrap_err().contains("postgres://user"));
    }

    #[test]
    fn what_the_url_says_wins_over_our_parameters() {
        let url = with_parameters("postgres://h/n?application_name=mine", Duration::from_millis(1_500));
        assert!(
            url.starts_with("postgres://h/n?application_name=banyan-control&connect_timeout=2&"),
            "{url}"
        );
        assert!(url.ends_with("&application_name=mine"), "{url}");
    }
}
