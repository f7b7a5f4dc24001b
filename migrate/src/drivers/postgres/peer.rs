//! The other end's catalogue, for what both ends must agree on.
//!
//! Invariant: it reads the catalogue and nothing else.

use super::connection::{Address, Connection};
use super::shape::Shape;
use crate::error::MigrateError;

/// The other end; it is connected to when it is first asked.
pub(super) struct Peer {
    address: Address,
    conn: Option<Connection>,
}

impl Peer {
    pub(super) fn new(address: Address) -> Self {
        Self { address, conn: None }
    }

    fn connection(&mut self) -> Result<&mut Connection, MigrateError> {
        Ok(match &mut self.conn {
            Some(conn) => conn,
            none => none.insert(self.address.connect()?),
        })
    }

    /// A table of the other end.
    pub(super) fn shape(&mut self, table: &str) -> Result<Shape, MigrateError> {
        let shape = Shape::read(self.connection()?, table);
        if shape.is_err() {
            self.conn = None;
        }
        shape
    }
}
