//! How what the old owner writes gets to the other side: the one thing in which a switch under dual-write and one under change
//! capture differ.
//!
//! Invariant: when [`Crossing::drain`] returns well, the other side holds everything that the old owner committed before its fence
//! was closed.

use crate::error::MigrateError;
use crate::meter::Meter;
use crate::sqlite::Pair;
use crate::switch::hold::UnderHold;

/// Brings writes across, and proves that it did.
pub(super) trait Crossing {
    /// What must hold before anything is begun.
    fn gates(&mut self) -> Result<(), MigrateError>;
    /// Compares everything while writes go on, and records it; returns how many rows.
    fn verify(&mut self, meter: &mut Meter) -> Result<u64, MigrateError>;
    /// What the old owner has sent and not yet seen confirmed, now that its fence is closed.
    fn waiting(&mut self) -> Result<i64, MigrateError>;
    /// Brings the rest across; returns how much of it this did itself.
    fn drain(&mut self, held: &UnderHold<'_>) -> Result<i64, MigrateError>;
    /// Compares what changed since [`Crossing::verify`]; returns how many keys.
    fn compare_changed(&mut self) -> Result<u64, MigrateError>;
    /// Records where the way back begins: at the new owner's first write. Repeating it is harmless, and nothing of it shows
    /// before the flip.
    fn start_way_back(&mut self) -> Result<(), MigrateError> {
        Ok(())
    }
    /// The same for what must be in the transaction that prepares the new owner's database.
    fn prepare(&mut self, _new_owner: &Pair) -> Result<(), MigrateError> {
        Ok(())
    }
}
