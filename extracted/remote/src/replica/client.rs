//! The sending end of dual-write.
//!
//! Invariant: sends once; trying again is the relay's business, which knows the order.

use std::time::Duration;

use async_trait::async_trait;
use contracts::Unavailable;
use contracts::replication::{Applied, Image, ReplicaError, ReplicaSink};
use platform::settings::Secret;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::{CONFLICT, Delete, HOLDER, OWNER, Put, Taken};
use crate::peer::{Answer, Peer, PeerError};

/// The other side of a context, as a sink for images.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    context: String,
    timeout: Duration,
}

impl Client {
    /// A client for the process at `url`; nothing is sent yet. `timeout` bounds each image.
    pub fn new(url: &str, token: &Secret, context: &str, timeout: Duration) -> Result<Self, PeerError> {
        Ok(Self { peer: Peer::new(url, token)?, context: context.to_owned(), timeout })
    }

    fn unavailable(&self, reason: impl Into<String>, maybe_done: bool) -> ReplicaError {
        Unavailable { context: self.context.clone(), reason: reason.into(), maybe_done }.into()
    }

    fn explain(&self, version: i64, id: String, answer: &Answer) -> ReplicaError {
        let document: Document = serde_json::from_slice(&answer.body).unwrap_or_default();
        let detail = document.detail.unwrap_or_else(|| answer.status.to_string());
        match answer.status {
            StatusCode::CONFLICT if document.type_ == CONFLICT => {
                let holder = document.errors.into_iter().find(|error| error.field == HOLDER);
                ReplicaError::Conflict { version, id, holder: holder.map_or(detail, |error| error.message) }
            }
            StatusCode::CONFLICT if document.type_ == OWNER => {
                ReplicaError::Owner { context: self.context.clone() }
            }
            StatusCode::UNPROCESSABLE_ENTITY => ReplicaError::Malformed { version, id, reason: detail },
            StatusCode::UNAUTHORIZED => {
                self.unavailable("it does not know our token; give both sides the same one", false)
            }
            status => self.unavailable(format!("it answered {status}"), status.is_server_error()),
        }
    }
}

/// What we read of a problem document.
#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(rename = "type", default)]
    type_: String,
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    field: String,
    message: String,
}

#[async_trait]
impl ReplicaSink for Client {
    async fn apply(&self, image: Image) -> Result<Applied, ReplicaError> {
        let Image { version, id, state } = image;
        let path = ["replica", &self.context, &id];
        let sent = match state {
            Some(state) => {
                self.peer.send(Method::PUT, &path, &Put { version, state }, self.timeout, None).await
            }
            None => self.peer.send(Method::DELETE, &path, &Delete { version }, self.timeout, None).await,
        };
        let answer = sent.map_err(|silence| self.unavailable(silence.reason, silence.maybe_done))?;
        if answer.status != StatusCode::OK {
            return Err(self.explain(version, id, &answer));
        }
        let taken: Taken = serde_json::from_slice(&answer.body)
            .map_err(|error| self.unavailable(format!("its answer is not understood: {error}"), true))?;
        Ok(taken.applied)
    }
}
