//! Protection: what stands between clients and upstreams so that neither is fooled nor overrun.
//!
//! Invariant: what is switched off costs a request a branch and nothing more.

pub(crate) mod chain;
pub(crate) mod forwarded;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod rate_limit;
pub(crate) mod stats;
