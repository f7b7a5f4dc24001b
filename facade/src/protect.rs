//! Protection: what stands between clients and upstreams so that neither is fooled nor overrun.
//!
//! Invariant: what is switched off costs a request a branch and nothing more.

pub(crate) mod adaptive;
pub(crate) mod chain;
pub(crate) mod claims;
pub(crate) mod fetch;
pub(crate) mod forwarded;
pub(crate) mod jwks;
pub(crate) mod jwt;
pub(crate) mod keeper;
pub(crate) mod keys;
pub(crate) mod marks;
pub(crate) mod policy;
pub(crate) mod rate_limit;
pub(crate) mod refresh;
pub(crate) mod shedding;
pub(crate) mod stats;
pub(crate) mod tokens;
