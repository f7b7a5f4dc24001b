//! A shop for tests of the monolith itself: a database of its own, a payment provider, and any number of monoliths on them.
//!
//! Invariant: everything is started, killed and looked at from outside; what the database and the provider's ledger hold is
//! read by code that knows none of the stores.

mod books;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use pg_harness::Database;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{self, Answer, Ask};
use crate::process::{self, Launch, Output, Server};
use crate::{Binaries, binaries, databases, ports, wait};

pub use books::{Books, Rows};

/// How long a command or a wait may take where only a hang would take longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The schemas of the monolith in PostgreSQL.
const SCHEMAS: &str = "banyan, users, catalog, cart, inventory, orders, payments, shipping";

/// Which database a shop is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// A file of its own.
    Sqlite,
    /// A database of its own on the shared server.
    Postgres,
}

/// A database, a payment provider, and monoliths.
#[derive(Debug)]
pub struct Shop {
    binaries: Binaries,
    postgres: Option<Database>,
    provider_url: String,
    provider: Option<Server>,
    monoliths: Vec<Option<Server>>,
    // Last, so that the folder goes after the servers that write into it.
    folder: TempDir,
}

impl Shop {
    /// An empty shop with a well-behaved provider; no monolith runs yet.
    pub fn open(storage: Storage) -> Result<Self> {
        let postgres = match storage {
            Storage::Sqlite => None,
            Storage::Postgres => {
                let database = pg_harness::shared_database()?;
                // For queries from outside, which name tables alone: their names say whose they are.
                database
                    .run(&format!("ALTER DATABASE \"{}\" SET search_path = {SCHEMAS}", database.name()))?;
                Some(database)
            }
        };
        let folder = tempfile::Builder::new().prefix("banyan-shop-").tempdir()?;
        let provider_url = format!("http://127.0.0.1:{}", ports::free()?);
        let binaries = Binaries::find()?;
        let mut shop =
            Self { binaries, postgres, provider_url, provider: None, monoliths: Vec::new(), folder };
        shop.start_provider()?;
        Ok(shop)
    }

    /// The same with the sample data, every product in stock with so many units.
    pub fn stocked(storage: Storage, units: u32) -> Result<Self> {
        let shop = Self::open(storage)?;
        let file = binaries::workspace().join("monolith/app/data/online-retail.csv.gz");
        let (file, units) = (file.to_string_lossy(), units.to_string());
        shop.run(&["import", "online-retail", &file, "--rejects", "rejects.csv", "--opening-stock", &units])?
            .ok()?;
        Ok(shop)
    }

    /// Starts the provider on its ledger.
    pub fn start_provider(&mut self) -> Result<()> {
        let launch = Launch::new(self.binaries.path("payment-provider"), self.folder.path())
            .args(["serve"])
            .env("BANYAN_HTTP__LISTEN", self.provider_url.trim_start_matches("http://"))
            .env("BANYAN_LEDGER__PATH", self.folder.path().join("ledger").to_string_lossy())
            .named("payment-provider");
        self.provider = Some(Server::start(&launch, 1)?);
        Ok(())
    }

    /// Ends the provider with SIGKILL.
    pub fn kill_provider(&mut self) -> Result<()> {
        self.provider.take().context("the provider does not run")?.kill()
    }

    /// Tells the provider how to misbehave; `{}` for not at all.
    pub fn behave(&self, behaviour: &Value) -> Result<()> {
        let answer =
            http::call(&self.provider_url, Ask::new(Method::PUT, "/control/behaviour").json(behaviour))?;
        ensure!(answer.status == 200, "the provider refuses to behave so: {}", answer.text());
        Ok(())
    }

    /// The provider's ledger, whole.
    pub fn ledger(&self) -> Result<Vec<Value>> {
        ledger(&self.provider_url)
    }

    /// Starts one more monolith and returns its number.
    pub fn start(&mut self, settings: &[(&str, &str)]) -> Result<usize> {
        self.monoliths.push(None);
        let number = self.monoliths.len() - 1;
        self.start_again(number, settings)?;
        Ok(number)
    }

    /// Starts a monolith that was ended.
    pub fn start_again(&mut self, number: usize, settings: &[(&str, &str)]) -> Result<()> {
        let mut launch = self
            .launch(&["serve"])
            .env("BANYAN_HTTP__LISTEN", "127.0.0.1:0")
            .named(format!("monolith-{number}"));
        for (key, value) in settings {
            launch = launch.env(*key, *value);
        }
        let server = Server::start(&launch, 1)?;
        *self.monoliths.get_mut(number).context("there is no such monolith")? = Some(server);
        Ok(())
    }

    /// Ends a monolith with SIGKILL.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.take(number)?.kill()
    }

    /// Asks a monolith to end and waits for it.
    pub fn stop(&mut self, number: usize) -> Result<()> {
        self.take(number)?.stop()
    }

    /// The running server of that number.
    pub fn server(&mut self, number: usize) -> Result<&mut Server> {
        self.monoliths.get_mut(number).and_then(Option::as_mut).context("this monolith does not run")
    }

    /// Where a monolith can be reached.
    pub fn url(&self, number: usize) -> Result<&str> {
        self.monoliths.get(number).and_then(Option::as_ref).context("this monolith does not run")?.url()
    }

    /// Sends a request to a monolith.
    pub fn ask(&self, number: usize, ask: Ask) -> Result<Answer> {
        http::call(self.url(number)?, ask)
    }

    /// Posts a document to a monolith; another status than the one that is due is an error.
    pub fn post(&self, number: usize, target: &str, body: &Value, due: u16) -> Result<Value> {
        let answer = self.ask(number, Ask::new(Method::POST, target).json(body))?;
        ensure!(answer.status == due, "{target} was answered {}: {}", answer.status, answer.text());
        answer.json()
    }

    /// Runs a command of the monolith to its end.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        process::run(&self.launch(args).named("command"), PATIENCE)
    }

    /// The rows of a query that both databases understand, each value as text; nothing is empty.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        if let Some(database) = &self.postgres {
            let rows = database.run(sql)?;
            return Ok(rows.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect());
        }
        databases::rows(&self.folder.path().join("monolith.db"), sql)
    }

    /// The one number that a query yields.
    pub fn number(&self, sql: &str) -> Result<i64> {
        let rows = self.rows(sql)?;
        let value =
            rows.first().and_then(|row| row.first()).with_context(|| format!("`{sql}` yields nothing"))?;
        value.parse().with_context(|| format!("`{sql}` yields {value}"))
    }

    /// Changes the database behind the monoliths' backs.
    pub fn change(&self, sql: &str) -> Result<()> {
        if let Some(database) = &self.postgres {
            return database.run(sql).map(drop);
        }
        let connection = rusqlite::Connection::open(self.folder.path().join("monolith.db"))?;
        connection.busy_timeout(PATIENCE)?;
        Ok(connection.execute_batch(sql)?)
    }

    /// Waits until no checkout is under way and no event waits, dead letters aside.
    pub fn wait_until_settled(&self) -> Result<()> {
        wait::until("all checkouts and events are settled", PATIENCE, || {
            Ok((self.number(UNSETTLED)? == 0).then_some(()))
        })
    }

    /// The folder that everything is in.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    fn launch(&self, args: &[&str]) -> Launch {
        let launch = Launch::new(self.binaries.path("monolith"), self.folder.path())
            .args(args.iter().copied())
            .env("BANYAN_PAYMENTS__PROVIDER__URL", &self.provider_url)
            .env("BANYAN_PAYMENTS__PROVIDER__TIMEOUT_MS", "400")
            .env("BANYAN_BACKGROUND__POLL_MS", "50")
            .env("BANYAN_BACKGROUND__LEASE_MS", "2000");
        match &self.postgres {
            Some(database) => launch.env("BANYAN_DATABASE__URL", database.url()),
            None => {
                launch.env("BANYAN_DATABASE__PATH", self.folder.path().join("monolith.db").to_string_lossy())
            }
        }
    }

    fn take(&mut self, number: usize) -> Result<Server> {
        self.monoliths.get_mut(number).and_then(Option::take).context("this monolith does not run")
    }
}

/// The ledger of the payment provider at this address, whole.
pub fn ledger(provider_url: &str) -> Result<Vec<Value>> {
    let (mut records, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = http::get_json(provider_url, &format!("/v1/ledger?limit=1000{cursor}"))?;
        records.extend(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default());
        let Some(next) = page.get("next").and_then(Value::as_str) else { return Ok(records) };
        cursor = format!("&cursor={next}");
    }
}

/// A query for how many checkouts are under way and events wait, dead letters aside.
pub const UNSETTLED: &str = "SELECT (SELECT count(*) FROM banyan_sagas WHERE phase IN ('running', 'compensating')) \
                             + (SELECT count(*) FROM banyan_outbox WHERE dead_at_ms IS NULL)";

/// What an order over one product says.
pub fn order(user_id: i64, product_id: i64, quantity: i64, payment_method: &str) -> Value {
    json!({
        "user_id": user_id,
        "lines": [{ "product_id": product_id, "quantity": quantity }],
        "payment_method": payment_method,
    })
}

impl Drop for Shop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // A failed test is understood by what the servers said last.
        let monoliths = self.monoliths.iter().flatten().enumerate();
        for (name, server) in monoliths.map(|(number, server)| (format!("monolith {number}"), server)) {
            eprintln!("--- last words of {name}:\n{}", server.log_tail());
        }
    }
}
