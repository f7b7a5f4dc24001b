//! A PostgreSQL server: its URL, how each connection is prepared, and whether it still answers.
//!
//! Invariant: no text that leaves here holds the password, and a session reads only, unless its transaction says
//! otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

use crate::DatabaseSettings;
use crate::liveness::Liveness;

/// The names of all schemas become the search path, so that a table is found in the schema of its context. The password's
/// owner may create schemas, so nobody else's can come between.
const SEARCH_PATH: &str = "SELECT set_config('search_path', coalesce(string_agg(quote_ident(nspname), ', '
    ORDER BY nspname = 'public', nspname), 'public'), false) FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'";

/// One database of a server.
pub(crate) struct Server {
    url: String,
    secret: String,
    prepare: String,
    layout: AtomicU64,
    pub(crate) liveness: Liveness,
}

impl Server {
    pub(crate) fn new(settings: &DatabaseSettings) -> Self {
        let url = settings.url.expose();
        let prepare = format!(
            "SET standard_conforming_strings = on; SET default_transaction_read_only = on;
             SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = 30000;
             {SEARCH_PATH}",
            settings.statement_timeout_ms, settings.lock_timeout_ms
        );
        Self {
            url: with_parameters(url, settings),
            secret: password(url).to_owned(),
            prepare,
            layout: AtomicU64::new(0),
            liveness: Liveness::new(),
        }
    }

    /// A new connection, and the layout of schemas that it knows.
    pub(crate) fn connect(&self) -> Result<(PgConnection, u64), String> {
        let layout = self.layout();
        let mut conn = PgConnection::establish(&self.url).map_err(|error| self.scrub(error.to_string()))?;
        conn.batch_execute(&self.prepare).map_err(|error| self.scrub(error.to_string()))?;
        Ok((conn, layout))
    }

    /// Counts how often the schemas changed: a connection of an older layout does not find new tables.
    pub(crate) fn layout(&self) -> u64 {
        self.layout.load(Ordering::Acquire)
    }

    pub(crate) fn schemas_changed(&self) {
        self.layout.fetch_add(1, Ordering::Release);
    }

    /// [`Liveness::wait`], asking the server for one connection more.
    pub(crate) async fn wait<T>(
        self: &Arc<Self>,
        task: impl Future<Output = T>,
        began: Instant,
        patience: Duration,
    ) -> Option<T> {
        let server = Arc::clone(self);
        self.liveness.wait(task, began, patience, move || server.accepts()).await
    }

    /// Whether the server accepts a connection now.
    fn accepts(&self) -> bool {
        match PgConnection::establish(&self.url) {
            Ok(_) => true,
            // A refusal is an answer too; that of a server without a free connection above all.
            Err(error) => error.to_string().contains("FATAL"),
        }
    }

    /// The client library quotes a URL that it cannot read, password and all.
    fn scrub(&self, text: String) -> String {
        if self.secret.is_empty() || !text.contains(&self.secret) {
            return text;
        }
        "the client library cannot read it; see that special characters are percent-encoded".to_owned()
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

/// Ours first: where the URL says something else, it wins.
fn with_parameters(url: &str, settings: &DatabaseSettings) -> String {
    let (base, theirs) = url.split_once('?').unwrap_or((url, ""));
    let connect_timeout = settings.connect_timeout_ms.div_ceil(1000);
    // A peer that vanished is noticed within seconds, whether bytes are under way or an answer is waited for.
    format!(
        "{base}?application_name=banyan&connect_timeout={connect_timeout}&keepalives=1&keepalives_idle=2\
         &keepalives_interval=1&keepalives_count=3&tcp_user_timeout=5000&{theirs}"
    )
    .trim_end_matches('&')
    .to_owned()
}

#[cfg(test)]
mod tests {
    use platform::settings::Secret;

    use super::*;

    fn at(url: &str) -> DatabaseSettings {
        DatabaseSettings { url: Secret::new(url), ..DatabaseSettings::default() }
    }

    #[test]
    fn the_place_of_a_database_holds_neither_user_nor_password() {
        assert_eq!(place("postgres://shop:a@b@db.example:5432/shop?sslmode=disable"), "db.example:5432/shop");
    }

    #[test]
    fn what_the_url_says_wins_over_our_parameters() {
        let url = with_parameters("postgres://h/n?application_name=mine", &at(""));
        assert!(url.starts_with("postgres://h/n?application_name=banyan&connect_timeout=2&"), "{url}");
        assert!(url.ends_with("&application_name=mine"), "{url}");
    }

    #[test]
    fn an_unreadable_url_is_refused_without_its_password() {
        for url in ["postgres://shop:hush%zz@h/n", "postgres://shop:hush@[h/n", "postgres://shop:hush@h:x/n"]
        {
            let refused = Server::new(&at(url)).connect().err().unwrap();
            assert!(!refused.contains("hush"), "{refused}");
        }
    }
}
