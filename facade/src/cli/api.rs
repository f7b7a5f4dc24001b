//! Talks to the admin API of a running facade.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use facade::settings::Settings;
use reqwest::{Client, Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::AdminArgs;

/// Longer than any gate takes to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Sends one request and reads the answer; an error is the API's own words.
pub(crate) fn call<T: DeserializeOwned>(
    settings: &Settings,
    arguments: &AdminArgs,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<T> {
    let base = arguments.admin.clone().unwrap_or_else(|| facade::admin::url(settings));
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let mut request = client.request(method, &url);
        if !settings.admin_token.expose().is_empty() {
            request = request.bearer_auth(settings.admin_token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| unreachable(&base, &error))?;
        read(response).await
    })
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T> {
    let status = response.status();
    let bytes = response.bytes().await.context("the admin API's answer broke off")?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).context("the admin API's answer is not what a facade says");
    }
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let words = ["detail", "title"].iter().find_map(|name| problem.get(name)?.as_str());
    match (status, words) {
        (StatusCode::UNAUTHORIZED, Some(words)) => bail!("{words}; set BANYAN_ADMIN_TOKEN"),
        (_, Some(words)) => bail!("{words}"),
        (status, None) => bail!("the admin API answered {status}"),
    }
}

fn unreachable(base: &str, error: &reqwest::Error) -> anyhow::Error {
    if error.is_builder() {
        return anyhow!("`{base}` is no URL; write --admin http://127.0.0.1:8081");
    }
    let what = if error.is_timeout() { "did not answer in time" } else { "cannot be reached" };
    anyhow!("the admin API at {base} {what}; start it with `facade serve`, or name another with --admin")
}

/// A context's name as one segment of a path, whatever was typed.
pub(crate) fn in_path(context: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    context.bytes().map(escape).collect()
}
