//! A simulated payment provider: a small real server whose misbehaviour is controlled from outside, and whose ledger
//! is the independent truth about money in the demo and in tests.
//!
//! Invariant: whatever was answered is in the journal, so that it survives any crash; and no key is charged twice.

mod behaviour;
mod body;
mod book;
mod ledger;
mod provider;
mod routes;

pub mod process;
pub mod settings;
