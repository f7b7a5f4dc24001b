//! The bars of the migration engine: copying, verifying, catching up and capturing, next to the plain tool for each.
//!
//! Invariant: a copy counts only if a checksum that shares no code with the engine finds both tables equal.

mod capture;
mod catch_up;
mod copy;
mod memory;
mod sqlite;
mod verify;
mod world;

use super::{Bars, Measured, median, ratio, ticks};

/// The binaries that these bars need.
pub(super) const BINARIES: [&str; 1] = ["migrate"];

pub(super) const BARS: [Bars; 9] = [
    Bars { names: &["copy-vs-pgcopydb", "copy-transformed-vs-pgcopydb"], measure: copy::against_pgcopydb },
    Bars { names: &["verify-vs-reladiff", "verify-10-of-3M"], measure: verify::against_reladiff },
    Bars { names: &["copy-sqlite", "verify-sqlite"], measure: sqlite::against_plain_sql },
    Bars { names: &["catch-up-vs-upsert"], measure: |built| Ok(vec![catch_up::against_upsert(built)?]) },
    Bars { names: &["lag"], measure: |built| Ok(vec![catch_up::lag_in_ms(built)?]) },
    Bars { names: &["capture-postgres"], measure: |built| Ok(vec![capture::on_postgres(built)?]) },
    Bars { names: &["capture-sqlite"], measure: |built| Ok(vec![capture::on_sqlite(built)?]) },
    Bars { names: &["memory-postgres"], measure: |built| Ok(vec![memory::on_postgres(built)?]) },
    Bars { names: &["memory"], measure: |built| Ok(vec![memory::on_sqlite(built)?]) },
];
