//! A plain HTTP/1.1 client over one kept connection. It never retries and follows nothing: what a test counts is what
//! happened on the wire.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long an answer may take. Longer than any deadline in the system, so that the system's own answer is seen.
const LIMIT: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Headers besides `host`.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Bytes,
}

impl Ask {
    /// A request without headers and body.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// A GET.
    pub fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.text(body.to_string())
    }

    /// With a body that calls itself JSON, whatever it is.
    #[must_use]
    pub fn text(mut self, body: impl Into<String>) -> Self {
        self.body = Bytes::from(body.into());
        self.header("content-type", "application/json")
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The value of a header, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {} with a body that is no JSON: {}", self.status, self.text()))
    }
}

/// One kept connection.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// A connection to `http://HOST:PORT`, opened by the first request.
    pub fn to(base_url: &str) -> Self {
        let authority = base_url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self { authority, sender: None }
    }

    /// Sends one request and reads the whole answer. A connection that was closed before the request is opened anew,
    /// which is no retry: nothing had been sent.
    pub async fn send(&mut self, ask: Ask) -> Result<Answer> {
        match tokio::time::timeout(LIMIT, self.send_now(ask)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.sender = None;
                Err(error)
            }
            Err(_) => {
                self.sender = None;
                Err(anyhow!("no answer from {} within {} s", self.authority, LIMIT.as_secs()))
            }
        }
    }

    async fn send_now(&mut self, ask: Ask) -> Result<Answer> {
        let mut sender = match self.sender.take() {
            Some(mut kept) => match kept.ready().await {
                Ok(()) => kept,
                Err(_) => self.open().await?,
            },
            None => self.open().await?,
        };
        let mut request =
            Request::builder().method(ask.method).uri(ask.target).header("host", self.authority.as_str());
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let answer = sender.send_request(request.body(Full::new(ask.body))?).await.context("no answer")?;
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let body = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
        self.sender = Some(sender);
        Ok(Answer { status, headers, body })
    }

    async fn open(&self) -> Result<http1::SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .with_context(|| format!("cannot connect to {}", self.authority))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // A fault of the connection is seen by the request that it hits.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// Sends one request on a connection of its own and waits for the answer. Not for use inside a runtime.
pub fn call(base_url: &str, ask: Ask) -> Result<Answer> {
    let line = format!("{} {base_url}{}", ask.method, ask.target);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Connection::to(base_url).send(ask)).with_context(|| line)
}

/// Fetches JSON; any other status than 200 is an error.
pub fn get_json(base_url: &str, target: &str) -> Result<Value> {
    let answer = call(base_url, Ask::get(target))?;
    if answer.status != 200 {
        return Err(anyhow!("GET {base_url}{target} was answered {}: {}", answer.status, answer.text()));
    }
    answer.json()
}
