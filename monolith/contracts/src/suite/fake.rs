//! Ports in memory, for the tests of those who call them.
//!
//! Invariant: a fake shows every fact of its port's suite.

mod cart;
mod catalog;
mod commands;
mod inventory;
mod keys;
mod mishaps;
mod payment_provider;
mod payments;
mod shipping;
mod users;

pub use cart::FakeCarts;
pub use catalog::FakeCatalog;
pub use inventory::FakeInventory;
pub use mishaps::Mishap;
pub use payment_provider::FakeProvider;
pub use payments::FakePayments;
pub use shipping::FakeShipping;
pub use users::FakeUsers;

use crate::{Page, Timestamp};
use commands::Commands;
use keys::Keys;
use mishaps::Mishaps;

/// When everything happens.
const EPOCH: Timestamp = Timestamp::from_millis(1_291_191_960_000);

/// The first `limit` items.
fn page<T>(mut items: impl Iterator<Item = T>, limit: u32) -> Page<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let first = items.by_ref().take(limit).collect();
    Page { items: first, more: items.next().is_some() }
}
