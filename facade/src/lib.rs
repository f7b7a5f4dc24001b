//! The routing facade: a reverse proxy whose flags move traffic, context by context, from a monolith to services.
//!
//! Read in this order: [`settings`] (what can be said), [`plan`] (what it means), [`server`] (what runs), `worker`,
//! `client` and `phases` (a request's way), `flags`, `gate` and `keeper` (how flags take effect), `admin` (what steers it).
//!
//! Invariants:
//! * it knows nothing of any application: contexts, routes and keys come from its settings;
//! * a write of a context goes to the owner that the newest flag names, and to nobody while ownership moves;
//! * no request waits for the control store.

pub mod admin;
pub mod check;
pub mod explain;
pub mod handover;
pub mod overrides;

pub mod plan;
pub mod reload;
pub mod server;
pub mod settings;

mod access_log;
mod answer;
mod body;
mod client;
mod current;
mod flags;
mod gate;
mod headers;
mod keeper;
mod key;
mod metrics;
mod outgoing;
mod phases;
mod private;
mod protect;
mod random;
mod routing;
mod strict;
mod trace;
mod trailers;
mod upload;
mod upstream;
mod worker;
