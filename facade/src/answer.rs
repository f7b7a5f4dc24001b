//! Answers on their way to the client: an upstream's, or the facade's own refusal as problem+json (RFC 9457).

use std::collections::VecDeque;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRAILER};
use http::{Response, StatusCode, response};
use http_body::Frame;
use serde::Serialize;

use crate::body::{ResponseBody, UpstreamBody};
use crate::phases::record::Ticket;

/// A head, what is there of the body, and what is still to come. Goes from phase to phase in a box: moving it so often
/// costs more than that.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) parts: response::Parts,
    pub(crate) held: VecDeque<Frame<Bytes>>,
    pub(crate) rest: Option<UpstreamBody>,
}

impl Answer {
    pub(crate) fn streaming(parts: response::Parts, body: UpstreamBody) -> Box<Self> {
        Box::new(Self { parts, held: VecDeque::new(), rest: Some(body) })
    }

    /// For a status that has none, although its framing would have room for it: not every client reads it then.
    pub(crate) fn drop_content(&mut self) {
        self.rest = None;
        self.parts.headers.remove(CONTENT_LENGTH);
        self.parts.headers.remove(TRAILER);
    }

    pub(crate) fn into_response(self, ticket: Ticket) -> Response<Box<ResponseBody>> {
        Response::from_parts(self.parts, Box::new(ResponseBody::new(self.held, self.rest, ticket)))
    }
}

/// The facade's own answer where it does not forward, or cannot.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    detail: String,
    retry_after: Option<u16>,
    closes: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    type_: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    /// The request's id: what to look for in the logs.
    instance: &'a str,
}

impl Refusal {
    /// What is wrong, in words.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None, closes: false }
    }

    /// Says when trying again may help.
    pub(crate) fn retry_after(mut self, seconds: u16) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Closes the client's connection afterwards.
    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_answer(self, request_id: &HeaderValue) -> Box<Answer> {
        let document = Document {
            type_: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance: request_id.to_str().unwrap_or_default(),
        };
        let text = serde_json::to_vec(&document).unwrap_or_default();
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = self.status;
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            parts.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Box::new(Answer { parts, held: VecDeque::from([Frame::data(Bytes::from(text))]), rest: None })
    }
}
