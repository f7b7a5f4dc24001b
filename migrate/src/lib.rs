//! Moves a context's tables from one database to another while the application goes on writing, proves the copy,
//! and hands ownership over and back.
//!
//! It knows no application: tables, columns and SQL come from `extraction.toml` ([`manifest`]), places from
//! `migrate.toml` ([`settings`]). What it asks of the application is the dual-write contract: three small tables in
//! each side's database (`banyan_contexts`, `banyan_intents`, `banyan_tombstones`).
//!
//! Reading order: [`manifest`], [`sqlite`], [`backfill`], [`verify`], [`switch`].
//!
//! Invariant: data flows from the owner to the other side, never the other way; and who owns is decided in one place,
//! the control store.

pub mod backfill;
pub mod cli;
pub mod drivers;
pub mod dual_write;
pub mod engine;
pub mod error;
mod evidence;
pub mod extraction;
pub mod fail_point;
pub mod flow;
pub mod manifest;
pub mod meter;
mod output;
pub mod plan;
pub mod settings;
pub mod sqlite;
pub mod status;
pub mod switch;
pub mod verify;

#[cfg(test)]
mod tests;
