//! What the provider says, in our words.
//!
//! Invariant: an answer that cannot be understood is never taken for a refusal: it leaves open what was done.

use contracts::Unavailable;
use contracts::payments::{Charge, ChargeStatus, ProviderError};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{silence, unavailable};

/// A clear answer: done, declined or refused.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

/// What the provider holds under a key. What was never authorised has no id.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    id: Option<String>,
    status: Status,
}

/// What was found.
#[derive(Debug, Deserialize)]
pub(super) struct Items {
    pub(super) items: Vec<Record>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Authorized,
    Captured,
    Voided,
    Refunded,
    Declined,
}

/// What we read of a problem document.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    detail: Option<String>,
    code: Option<String>,
}

impl Answer {
    /// Reads an answer to its end; a failure where it says nothing about the request.
    pub(super) async fn read(response: Response) -> Result<Self, Unavailable> {
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(unavailable("it does not know our token; set payments.provider.token", false));
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                return Err(unavailable(format!("it answered {status}"), false));
            }
            _ if status.is_success() || status.is_client_error() => {}
            _ => return Err(unavailable(format!("it answered {status}"), true)),
        }
        let body = response.bytes().await.map_err(|error| silence(&error))?;
        Ok(Self { status, body: body.to_vec() })
    }

    /// What was done, or why it was not.
    pub(super) fn open<T: DeserializeOwned>(self) -> Result<T, ProviderError> {
        if self.status.is_success() {
            return serde_json::from_slice(&self.body)
                .map_err(|error| unavailable(format!("its answer is not understood: {error}"), true).into());
        }
        // A page of something in between, such as a proxy, is no word of the provider.
        let Ok(Problem { detail, code }) = serde_json::from_slice(&self.body) else {
            return Err(
                unavailable(format!("it answered {} without a problem document", self.status), true).into()
            );
        };
        if self.status == StatusCode::PAYMENT_REQUIRED {
            return Err(ProviderError::Declined { reason: code.or(detail).unwrap_or("declined".to_owned()) });
        }
        let status = self.status.to_string();
        Err(ProviderError::Refused { reason: detail.or(code).unwrap_or(status) })
    }
}

impl Record {
    pub(super) fn is_declined(&self) -> bool {
        self.status == Status::Declined
    }

    pub(super) fn charge(self) -> Result<Charge, ProviderError> {
        let status = match self.status {
            Status::Authorized => ChargeStatus::Authorised,
            Status::Captured => ChargeStatus::Captured,
            Status::Voided | Status::Refunded => ChargeStatus::Voided,
            Status::Declined => return Err(ProviderError::Declined { reason: "declined".to_owned() }),
        };
        Ok(Charge { id: self.id.unwrap_or_default(), status })
    }
}
