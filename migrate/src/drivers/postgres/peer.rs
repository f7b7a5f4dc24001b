//! The other end's catalogue, for what both ends must agree on.
//!
//! Invariant: it reads the catalogue and nothing else.

use super::connection::{Address, Connection};
use super::shape::{Shape, sequences};
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

    /// The last id that the sequences of a column gave out.
    pub(super) fn last_id(&mut self, table: &str, column: &str) -> Result<Option<i64>, MigrateError> {
        let name = self.shape(table)?.name;
        let conn = self.connection()?;
        let mut last = None;
        for sequence in sequences(conn, &name, column)? {
            let row = conn.one(
                &format!("SELECT last_value FROM {sequence} WHERE is_called UNION ALL SELECT NULL LIMIT 1"),
                &[],
            )?;
            last = last.max(row.get::<_, Option<i64>>(0));
        }
        Ok(last)
    }
}
