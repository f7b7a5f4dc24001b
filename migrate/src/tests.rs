//! Tests of the whole library on database files, with the application simulated in SQL.
//!
//! Invariant: the simulation shares no code with the engine; it follows the dual-write contract as an application in
//! any language would.

mod application;
mod backfilling;
mod capturing;
mod commanding;
mod comparing;
mod control_path;
mod interleaving;
mod invariant;
mod model;
mod planning;
mod running;
mod sqlite_driver;
mod surveying;
mod switching;
mod switching_captured;
mod verifying;
mod way_back;
mod world;
