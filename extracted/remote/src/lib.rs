//! How the two sides of a context work together: the private wire between them, the relay that delivers every change,
//! and the decorators that make a context's port follow its ownership.
//!
//! Invariant: a side's port is always composed in one order, so that both sides behave alike:
//! [`ownership::OwnedUsers`] over [`dual_write::DualWriteUsers`] over the store.

pub mod by_flag;
pub mod dual_write;
pub mod flags;
pub mod follow;
pub mod ownership;
pub mod payment_provider;
pub mod relay;
pub mod replica;
pub mod users;

mod auth;
mod breaker;
mod peer;

#[cfg(test)]
mod loopback;

pub use peer::PeerError;
