//! Upstreams: which instance gets a request, and what becomes of one that fails.
//!
//! Invariant: what workers share of an upstream is atomics that a healthy one leaves unwritten; a lock is taken only
//! when something failed, or changes, or somebody looks.

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod chance;
pub(crate) mod connection;
pub(crate) mod era;
pub(crate) mod health;
pub(crate) mod incoming;
pub(crate) mod instance;
pub(crate) mod members;
pub(crate) mod names;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod resolver;
pub(crate) mod shared;
pub(crate) mod views;

pub(crate) use balance::Balancer;
pub(crate) use plan::Policy;
pub(crate) use shared::Shared;
