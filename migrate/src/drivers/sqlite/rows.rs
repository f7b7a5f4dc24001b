//! Rows on their way from one end to the other, in one piece of memory.
//!
//! Invariant: values keep their storage class and every bit; nothing is decoded, so text that is no UTF-8 passes too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Row, ToSql};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::engine::compare::{CELL, is_cut};
use crate::engine::{Bound, Rows};
use crate::error::MigrateError;

/// Room taken at once for many rows. So much is a mapping of its own, of which only what is filled counts as memory and which goes
/// back as a whole; a buffer that grows step by step lies between the pages of SQLite's cache, and the holes it leaves fit no later one.
const ROOM: usize = 33 << 20;

/// Rooms for the next who needs one: the kernel clears each page of a new one.
static ROOMS: Mutex<Vec<Room>> = Mutex::new(Vec::new());

/// Rows of one width.
#[derive(Debug, Clone, Default)]
pub struct SqliteRows {
    width: usize,
    room: Room,
}

#[derive(Debug, Clone, Default)]
struct Room {
    cells: Vec<Cell>,
    bytes: Vec<u8>,
}

impl Drop for SqliteRows {
    fn drop(&mut self) {
        let Room { cells, bytes } = &mut self.room;
        if cells.capacity() == ROOM / size_of::<Cell>() && bytes.capacity() == ROOM {
            cells.clear();
            bytes.clear();
            rooms().push(std::mem::take(&mut self.room));
        }
    }
}

fn rooms() -> MutexGuard<'static, Vec<Room>> {
    ROOMS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy)]
enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(usize, usize),
    Blob(usize, usize),
}

/// A value as bounds write it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Written {
    Null,
    Integer(i64),
    /// The bits, since JSON has no infinities.
    Real(u64),
    Text(String),
    /// Text that is no UTF-8.
    Raw(Vec<u8>),
    Blob(Vec<u8>),
}

impl Rows for SqliteRows {
    fn len(&self) -> u64 {
        self.count() as u64
    }

    fn bytes(&self) -> u64 {
        (self.room.bytes.len() + self.room.cells.len() * size_of::<Cell>()) as u64
    }

    fn hash(&self) -> u64 {
        let mut hasher = RowHasher::default();
        (0..self.count()).fold(0, |sum: u64, row| {
            hasher.begin();
            self.row(row).for_each(|value| hasher.add(value));
            sum.rotate_left(1).wrapping_add(hasher.finish())
        })
    }
}

impl SqliteRows {
    pub(super) fn new(width: usize) -> Self {
        Self { width, room: Room::default() }
    }

    /// For a batch, which may be large.
    pub(super) fn with_room(width: usize) -> Self {
        let new =
            || Room { cells: Vec::with_capacity(ROOM / size_of::<Cell>()), bytes: Vec::with_capacity(ROOM) };
        Self { width, room: rooms().pop().unwrap_or_else(new) }
    }

    pub(super) fn count(&self) -> usize {
        self.room.cells.len().checked_div(self.width).unwrap_or_default()
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Takes a result row's values from column `first` on.
    pub(super) fn take(&mut self, row: &Row<'_>, first: usize) -> Result<(), rusqlite::Error> {
        for column in first..first + self.width {
            self.push(row.get_ref(column)?);
        }
        Ok(())
    }

    pub(super) fn push(&mut self, value: ValueRef<'_>) {
        let start = self.room.bytes.len();
        let cell = match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Real(number) => Cell::Real(number),
            ValueRef::Text(text) => {
                self.room.bytes.extend_from_slice(text);
                Cell::Text(start, text.len())
            }
            ValueRef::Blob(bytes) => {
                self.room.bytes.extend_from_slice(bytes);
                Cell::Blob(start, bytes.len())
            }
        };
        self.room.cells.push(cell);
    }

    /// One row's values.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = ValueRef<'_>> {
        let start = row * self.width;
        self.room
            .cells
            .get(start..start + self.width)
            .unwrap_or_default()
            .iter()
            .map(|cell| self.value(*cell))
    }

    pub(super) fn at(&self, row: usize, column: usize) -> ValueRef<'_> {
        self.room.cells.get(row * self.width + column).map_or(ValueRef::Null, |cell| self.value(*cell))
    }

    fn value(&self, cell: Cell) -> ValueRef<'_> {
        let bytes = |start: usize, length| self.room.bytes.get(start..start + length).unwrap_or_default();
        match cell {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(number),
            Cell::Real(number) => ValueRef::Real(number),
            Cell::Text(start, length) => ValueRef::Text(bytes(start, length)),
            Cell::Blob(start, length) => ValueRef::Blob(bytes(start, length)),
        }
    }

    /// A row as a bound.
    pub(super) fn bound(&self, row: usize) -> Bound {
        bound(self.row(row))
    }

    /// Adds a bound's values.
    pub(super) fn push_bound(&mut self, bound: &Bound) -> Result<(), MigrateError> {
        let written: Vec<Written> = serde_json::from_str(&bound.0)
            .map_err(|error| MigrateError::failed(format!("{:?} is no key: {error}", bound.0)))?;
        if written.len() != self.width {
            return Err(MigrateError::failed(format!("{:?} is no key of {} columns", bound.0, self.width)));
        }
        for value in &written {
            self.push(match value {
                Written::Null => ValueRef::Null,
                Written::Integer(number) => ValueRef::Integer(*number),
                Written::Real(bits) => ValueRef::Real(f64::from_bits(*bits)),
                Written::Text(text) => ValueRef::Text(text.as_bytes()),
                Written::Raw(bytes) => ValueRef::Text(bytes),
                Written::Blob(bytes) => ValueRef::Blob(bytes),
            });
        }
        Ok(())
    }

    /// A row as a person reads it.
    pub(super) fn words(&self, row: usize) -> String {
        format!("({})", self.row(row).map(show).collect::<Vec<_>>().join(", "))
    }
}

/// Values as a bound.
pub(super) fn bound<'a>(values: impl Iterator<Item = ValueRef<'a>>) -> Bound {
    let written: Vec<Written> = values
        .map(|value| match value {
            ValueRef::Null => Written::Null,
            ValueRef::Integer(number) => Written::Integer(number),
            ValueRef::Real(number) => Written::Real(number.to_bits()),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Written::Text(text.to_owned()),
                Err(_) => Written::Raw(text.to_vec()),
            },
            ValueRef::Blob(bytes) => Written::Blob(bytes.to_vec()),
        })
        .collect();
    Bound(serde_json::to_string(&written).unwrap_or_default())
}

/// A value as a person reads it: two that differ look different.
pub(super) fn show(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => quoted(text),
        ValueRef::Blob(bytes) => {
            format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    }
}

/// Bytes that are no UTF-8 as `\xff`, which no character is shown as.
fn quoted(text: &[u8]) -> String {
    let mut quoted = String::from('"');
    for chunk in text.utf8_chunks() {
        let shown = format!("{:?}", chunk.valid());
        quoted.push_str(shown.get(1..shown.len() - 1).unwrap_or_default());
        quoted.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    quoted.push('"');
    quoted
}

/// The same, cut if it is longer than a cell. Bytes may become fewer characters than there are of them, yet at most four one.
pub(super) fn show_cut(value: ValueRef<'_>) -> String {
    let (ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = value else { return show(value) };
    let beginning = bytes.get(..4 * CELL).unwrap_or(bytes);
    let shown = show(match value {
        ValueRef::Text(_) => ValueRef::Text(beginning),
        _ => ValueRef::Blob(beginning),
    });
    if !is_cut(&shown) {
        return shown;
    }
    let beginning: String = shown.chars().take(CELL).collect();
    format!("{beginning}... ({} bytes, hash {:016x})", bytes.len(), XxHash3_64::oneshot(bytes))
}

/// About how much memory a value takes.
pub(super) fn size(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len() as u64,
        _ => 8,
    }
}

/// Whether two values are the same, bit for bit and in their storage class.
pub(super) fn same(left: ValueRef<'_>, right: ValueRef<'_>) -> bool {
    match (left, right) {
        (ValueRef::Real(left), ValueRef::Real(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    }
}

/// Binds values in order, from a parameter on.
pub(super) fn bind<'a>(
    statement: &mut CachedStatement<'_>,
    first: usize,
    values: impl Iterator<Item = ValueRef<'a>>,
) -> Result<(), rusqlite::Error> {
    for (offset, value) in values.enumerate() {
        statement.raw_bind_parameter(first + offset, Borrowed(value))?;
    }
    Ok(())
}

/// A value bound by reference.
pub(super) struct Borrowed<'a>(pub(super) ValueRef<'a>);

impl ToSql for Borrowed<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, rusqlite::Error> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// Hashes rows: xxh3 over type, length and bytes of each column, which is not linear in them, so that values exchanged
/// between two rows do not cancel out in a sum.
#[derive(Default)]
pub(super) struct RowHasher {
    buffer: Vec<u8>,
}

impl RowHasher {
    pub(super) fn begin(&mut self) {
        self.buffer.clear();
    }

    pub(super) fn add(&mut self, value: ValueRef<'_>) {
        let mut fixed = |tag, bytes: [u8; 8]| {
            self.buffer.push(tag);
            self.buffer.extend_from_slice(&bytes);
        };
        match value {
            ValueRef::Null => self.buffer.push(0),
            ValueRef::Integer(number) => fixed(1, number.to_le_bytes()),
            ValueRef::Real(number) => fixed(2, number.to_bits().to_le_bytes()),
            ValueRef::Text(bytes) => {
                fixed(3, (bytes.len() as u64).to_le_bytes());
                self.buffer.extend_from_slice(bytes);
            }
            ValueRef::Blob(bytes) => {
                fixed(4, (bytes.len() as u64).to_le_bytes());
                self.buffer.extend_from_slice(bytes);
            }
        }
    }

    pub(super) fn finish(&self) -> u64 {
        XxHash3_64::oneshot(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_look_different_even_if_they_are_no_utf8() {
        let texts: [&[u8]; 6] = [b"a\xff", b"a\xfe", b"a\\xff", b"a\xef\xbf\xbd", b"\xffa", b"a"];
        let shown: std::collections::BTreeSet<String> =
            texts.iter().map(|text| show(ValueRef::Text(text))).collect();
        assert_eq!(shown.len(), texts.len(), "{shown:?}");
        assert!(shown.contains("\"a\\xff\""), "{shown:?}");
    }
}
