//! Headers that protection puts on the answer, whatever the answer will be.
//!
//! Invariant: an upstream's own headers of the same name stay.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers for the answer.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<(HeaderName, HeaderValue)>);

impl Marks {
    pub(crate) fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            headers.append(name, value);
        }
    }
}
