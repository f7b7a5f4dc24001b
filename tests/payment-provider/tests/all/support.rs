//! The real binary in a folder of its own.

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running provider; killed when dropped.
pub(crate) struct Provider {
    pub(crate) url: String,
    pub(crate) client: Client,
    folder: TempDir,
    process: RefCell<Child>,
    variables: Vec<(&'static str, &'static str)>,
}

impl Provider {
    pub(crate) fn start(variables: &[(&'static str, &'static str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, url) = spawn(folder.path(), variables);
        Self {
            url,
            client: Client::new(),
            folder,
            process: RefCell::new(process),
            variables: variables.to_vec(),
        }
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&self) {
        let mut process = self.process.borrow_mut();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts it again on the same ledger, after [`Self::kill`].
    pub(crate) fn restart(&mut self) {
        let (process, url) = spawn(self.folder.path(), &self.variables);
        (self.process, self.url) = (RefCell::new(process), url);
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.ask(Method::POST, path).json(&json!({}))
    }

    pub(crate) fn authorize(&self, key: &str, payment_method: &str) -> RequestBuilder {
        let amount = json!({ "minor": 5, "currency": "GBP" });
        let body = json!({ "amount": amount, "payment_method": payment_method, "description": "order 7" });
        self.ask(Method::POST, "/v1/authorizations").header("idempotency-key", key).json(&body)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.ask(Method::GET, path)).await
    }

    pub(crate) async fn behave(&self, behaviour: Value) {
        let request = self.ask(Method::PUT, "/control/behaviour").json(&behaviour);
        assert_eq!(answer(request).await.0, 200, "{behaviour}");
    }

    /// The status of the record under a key, if there is one.
    pub(crate) async fn status_of(&self, key: &str) -> Option<String> {
        let (_, found) = self.get(&format!("/v1/authorizations?key={key}")).await;
        found["items"][0]["status"].as_str().map(str::to_owned)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Either may fail only because it has ended already.
        let process = self.process.get_mut();
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn spawn(folder: &Path, variables: &[(&str, &str)]) -> (Child, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_payment-provider"))
        .current_dir(folder)
        .env("BANYAN_HTTP__LISTEN", "127.0.0.1:0")
        .env("RUST_LOG", "off")
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (process, line.trim().strip_prefix("listening ").unwrap().to_owned())
}

/// Status and JSON of an answer.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Asks until the answer is the expected one.
pub(crate) async fn until<T: PartialEq + std::fmt::Debug>(expected: T, mut probe: impl AsyncFnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = probe().await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for {expected:?}; there is {found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
