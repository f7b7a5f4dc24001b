//! Rows as the tuples of a binary COPY, with the type that each field is passed as.
//!
//! Invariant: a field is passed as a type that every PostgreSQL server knows under the same number and reads from the same
//! bytes; whatever else there is passes as text. (Arrays and composites hold their elements' numbers, which differ for types
//! made by users.)

use twox_hash::XxHash3_64;

use crate::engine::Rows;
use crate::error::MigrateError;

/// Signature, flags and length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: &[u8] = &(-1_i16).to_be_bytes();
/// The first number of types that users make.
const FIRST_USER_TYPE: u32 = 16_384;
/// text.
pub(super) const TEXT: u32 = 25;

/// How a field is passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Number of a built-in type.
    pub(super) oid: u32,
}

impl Field {
    /// How values of a type are passed.
    pub(super) fn of(oid: u32) -> Self {
        // Pseudo-types such as `unknown`, records, and types whose numbers come from the catalogue (reg…) pass as text.
        let as_text = oid >= FIRST_USER_TYPE
            || matches!(oid, 705 | 2249 | 2287 | 24 | 2202..=2206 | 3734 | 3769 | 4089 | 4096 | 4191)
            || matches!(oid, 1034 | 1033 | 4600 | 4601 | 4602);
        Self { oid: if as_text { TEXT } else { oid } }
    }

    /// An expression of that type, as it is passed.
    pub(super) fn expression(&self, expression: &str, oid: u32) -> String {
        if self.oid == oid { expression.to_owned() } else { format!("({expression})::text") }
    }
}

/// Rows or keys on their way.
#[derive(Debug, Clone, Default)]
pub struct PgRows {
    tuples: Vec<u8>,
    count: u64,
    fields: Vec<Field>,
}

impl PgRows {
    /// From the whole of a binary COPY's stream.
    pub(super) fn parse(stream: &[u8], fields: Vec<Field>) -> Result<Self, MigrateError> {
        let tuples = stream
            .strip_prefix(HEADER)
            .and_then(|rest| rest.strip_suffix(TRAILER))
            .ok_or_else(|| MigrateError::failed("the source's binary COPY has an unknown form"))?;
        let (mut rest, mut count) = (tuples, 0);
        while !rest.is_empty() {
            rest = behind_tuple(rest)
                .ok_or_else(|| MigrateError::failed("the source's binary COPY ends within a row"))?;
            count += 1;
        }
        Ok(Self { tuples: tuples.to_vec(), count, fields })
    }

    /// The parts of a binary COPY's stream.
    pub(super) fn stream(&self) -> [&[u8]; 3] {
        [HEADER, &self.tuples, TRAILER]
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }
}

fn behind_tuple(tuple: &[u8]) -> Option<&[u8]> {
    let (fields, mut rest) = tuple.split_first_chunk()?;
    for _ in 0..i16::from_be_bytes(*fields) {
        let (length, behind) = rest.split_first_chunk()?;
        // NULL has the length -1 and no bytes.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        rest = behind.get(length..)?;
    }
    Some(rest)
}

impl Rows for PgRows {
    fn len(&self) -> u64 {
        self.count
    }

    fn hash(&self) -> u64 {
        XxHash3_64::oneshot(&self.tuples)
    }
}
