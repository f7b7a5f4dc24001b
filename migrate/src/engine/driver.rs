//! What the engine asks of a database. One driver per engine; rows and keys pass between its two ends in a form of its
//! own ([`Rows`]), so that nothing is translated on the way.
//!
//! Invariants: a method that writes to the target is one transaction, and nothing of it is seen if it fails; a method
//! that returns [`MigrateError::Unreachable`] may be called again on a new connection.

use serde::{Deserialize, Serialize};

use super::bounded::Bounded;
use super::compare::{CompareSource, CompareTarget};
use super::mapping::{Mapping, Stream};
use crate::error::MigrateError;

pub use super::standing::{
    CaptureState, ChunksLeft, ColumnShape, LOG_COUNTED, LeaseState, TableShape, log_rows,
};

/// What a snapshot of the source saw, in the driver's own text. It names the server it came from, so that a position of
/// another server, or of an earlier life of the same one, is refused instead of compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position(pub String);

/// A source key in the driver's own text, as chunks remember it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bound(pub String);

/// Source keys after one (exclusive) up to another (inclusive), in the order of the key's index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// Exclusive lower bound.
    pub after: Option<Bound>,
    /// Inclusive upper bound.
    pub up_to: Option<Bound>,
}

/// Rows or keys in a driver's own form.
pub trait Rows: Send {
    /// How many.
    fn len(&self) -> u64;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// About how much memory they take.
    fn bytes(&self) -> u64;
    /// A hash over all of them in their order, to be recorded with a chunk.
    fn hash(&self) -> u64;
}

/// Some source keys, and what the mapping makes of them in one snapshot. A key without rows has none there.
#[derive(Debug, Clone)]
pub struct Batch<R> {
    /// The source keys.
    pub keys: R,
    /// The mapping's rows.
    pub rows: R,
}

/// What changed for a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirty {
    /// Keys staged at the source.
    pub keys: u64,
    /// A table was emptied or replaced as a whole: every key is dirty, also those that only the target knows by now.
    pub whole: bool,
}

/// Keys that a chunk must leave to catch-up.
#[derive(Debug)]
pub enum Touched<R> {
    /// These.
    Keys(R),
    /// All.
    Whole,
}

/// One stream's row at the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamRow {
    /// Everything up to here is applied.
    pub pos: Position,
    /// Catch-up is applying everything up to here; equal to `pos` when it is not.
    pub next: Position,
    /// Grows with every claim.
    pub token: i64,
    /// Where the stream stands.
    pub phase: Phase,
    /// [`Stream::hash`] when it was made.
    pub mapping_hash: String,
    /// The source's schema when it was made: columns, types, keys, triggers of capture, partitions.
    pub fingerprint: String,
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The target was empty: chunks load it without secondary indexes, and catch-up has not begun.
    Loading,
    /// Catch-up runs; chunks give way to it.
    Following,
    /// The target owns the data, or is about to: nothing is applied but under the claim that [`Target::rest`] gave.
    Resting,
    /// It rested, and the next claim follows again.
    Waking,
}

impl Phase {
    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Following => "following",
            Self::Resting => "resting",
            Self::Waking => "waking",
        }
    }

    /// The phase of a word; one that a later version of this program wrote rests.
    pub fn of(word: &str) -> Self {
        match word {
            "loading" => Self::Loading,
            "following" => Self::Following,
            "waking" => Self::Waking,
            _ => Self::Resting,
        }
    }
}

/// The right to move a stream; a later claim ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The stream's name.
    pub stream: String,
    /// Its token when it was claimed.
    pub token: i64,
}

/// The right to write one chunk, until it runs out and another worker takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The stream's name.
    pub stream: String,
    /// Position of the mapping in the stream.
    pub mapping: usize,
    /// The chunk's number within the mapping, from 0.
    pub chunk: i64,
    /// A number that no other lease of this chunk has.
    pub lease: i64,
    /// Its keys.
    pub range: KeyRange,
}

/// What is recorded of a chunk when it is done; its batch may hold keys of others beside.
#[derive(Debug, Clone, Copy)]
pub struct ChunkDone<'a> {
    /// The right to it.
    pub lease: &'a Lease,
    /// How many rows it has.
    pub rows: u64,
    /// Their hash.
    pub hash: u64,
}

/// Under which condition a batch is written.
pub enum Guard<'a, R> {
    /// Catch-up: only under its claim.
    Claim(&'a Claim),
    /// A chunk or a repair: with the stream row locked against `next` moving, without the keys that `touched(next)` gives,
    /// and, for a chunk, only under its lease, which is marked done in the same transaction.
    GivingWay {
        /// The stream's name.
        stream: &'a str,
        /// The chunk; a repair has none.
        chunk: Option<ChunkDone<'a>>,
        /// Keys with a log row that `next` saw and the batch's snapshot did not.
        touched: &'a mut dyn FnMut(&Position) -> Result<Touched<R>, MigrateError>,
    },
}

impl<R> Guard<'_, R> {
    /// Name of the stream that writes.
    pub fn stream(&self) -> &str {
        match self {
            Self::Claim(claim) => &claim.stream,
            Self::GivingWay { stream, .. } => stream,
        }
    }
}

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome<R> {
    /// It is committed: how many rows were inserted, changed or removed.
    Written(u64),
    /// Unique values of its rows are taken; nothing is written.
    Collides {
        /// The other source keys that the rows belong to which hold them; nothing: no such row was found.
        holders: Option<R>,
        /// What is taken, for a person.
        example: String,
    },
    /// The claim or lease is somebody else's by now; nothing is written.
    Superseded,
}

/// Which keys may join a batch that needs a unique value of their rows.
#[derive(Debug, Clone, Copy)]
pub enum Joining<'a> {
    /// Those that the open snapshot accounts for: the mapping's root holds them, or they have a log row that this position did
    /// not see. Any other key may be of somebody else's row.
    AccountedFor(&'a Position),
    /// All: whatever the target holds is ours.
    All,
}

/// What stays known of the rows of a stream that is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: they are nobody's.
    Nothing,
    /// They are an older copy, over which the next stream begins, by the note `adopted`.
    Rows,
    /// The same, and the key maps go on saying whose each is.
    RowsAndKeyMaps,
}

/// A database engine that can be source and target.
pub trait Driver: Send + Sync {
    /// How rows pass from its source to its target.
    type Rows: Rows;
    /// Its reading end.
    type Source: CompareSource<Rows = Self::Rows>;
    /// Its writing end.
    type Target: CompareTarget<Rows = Self::Rows>;

    /// A new connection to the source.
    fn source(&self) -> Result<Self::Source, MigrateError>;
    /// A new connection to the target.
    fn target(&self) -> Result<Self::Target, MigrateError>;
    /// The same two databases, copied the other way.
    fn reversed(&self) -> Self
    where
        Self: Sized;
}

/// The reading end. Between [`Source::begin`] and [`Source::end`] it sees one snapshot.
pub trait Source: Send {
    /// How rows pass to the target.
    type Rows: Rows;

    /// Puts triggers and log into the database; repeating it is harmless, and brings back what somebody dropped.
    fn install_capture(&mut self, stream: &Stream) -> Result<(), MigrateError>;
    /// Ends capture by itself once a log of it holds that many rows: changes go unlogged then, and the copy must begin anew.
    fn bound_log(&mut self, stream: &Stream, rows: u64) -> Result<(), MigrateError>;
    /// Removes what [`Source::install_capture`] made, and nothing else.
    fn remove_capture(&mut self, stream: &Stream) -> Result<(), MigrateError>;

    /// Locks everything the stream reads against changes of its schema, *then* takes a snapshot, *then* compares the
    /// schema with `expected`: in this order, since a table altered between snapshot and read looks empty.
    /// Refused, with what happened, if the schema or a trigger of capture differs.
    fn begin(&mut self, stream: &Stream, expected: Option<&str>) -> Result<Position, MigrateError>;
    /// The fingerprint of the schema in the open snapshot.
    fn fingerprint(&mut self, stream: &Stream) -> Result<String, MigrateError>;
    /// Commits something at the source, durably, after the open snapshot: then no crash of the source can take back
    /// what the snapshot saw, or give its numbers out again.
    fn persist_snapshot(&mut self) -> Result<(), MigrateError>;
    /// Ends the snapshot, if there is one.
    fn end(&mut self) -> Result<(), MigrateError>;

    /// Refused if the log, in the open snapshot, cannot tell any more what happened behind a position.
    fn check_position(&mut self, _position: &Position) -> Result<(), MigrateError> {
        Ok(())
    }
    /// Whether `later` saw everything that `earlier` saw. Refused if they are of different servers.
    fn covers(&self, later: &Position, earlier: &Position) -> Result<bool, MigrateError>;

    /// Stages, in the open snapshot, the mapping's keys that have a log row which `since` did not see.
    fn stage_dirty(&mut self, mapping: &Mapping, since: &Position) -> Result<Dirty, MigrateError>;
    /// Stages every key of the mapping's root in the open snapshot.
    fn stage_all(&mut self, mapping: &Mapping) -> Result<(), MigrateError>;
    /// Stages more keys, without doubling those that are staged.
    fn stage(&mut self, mapping: &Mapping, keys: &Self::Rows) -> Result<(), MigrateError>;
    /// The next `size` staged keys after the first `from`, with their rows in the open snapshot, unless these hold more than `most`
    /// bytes; none when there are no more.
    fn piece(
        &mut self,
        mapping: &Mapping,
        from: u64,
        size: u32,
        most: u64,
    ) -> Result<Option<Bounded<Self::Rows>>, MigrateError>;
    /// The batch with those of `more` that may join it. Nothing if there are none, or all were in it.
    fn widen(
        &mut self,
        mapping: &Mapping,
        batch: &Batch<Self::Rows>,
        more: &Self::Rows,
        joining: Joining<'_>,
    ) -> Result<Option<Batch<Self::Rows>>, MigrateError>;

    /// The last of the first `rows` keys of a range in the open snapshot; nothing if it has fewer.
    fn range_end(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        rows: u32,
    ) -> Result<Option<Bound>, MigrateError>;
    /// The keys of a range with their rows in the open snapshot, unless these hold more than `most` bytes.
    fn range(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<Self::Rows>, MigrateError>;
    /// The rows of a range for [`Target::load`], which does without the keys where it can.
    fn range_to_load(
        &mut self,
        mapping: &Mapping,
        range: &KeyRange,
        most: u64,
    ) -> Result<Bounded<Self::Rows>, MigrateError> {
        self.range(mapping, range, most)
    }
    /// The rows of some keys in the open snapshot.
    fn rows_of(&mut self, mapping: &Mapping, keys: &Self::Rows) -> Result<Batch<Self::Rows>, MigrateError>;
    /// About how many keys the mapping's root holds, cheaply.
    fn estimate(&mut self, mapping: &Mapping) -> Result<u64, MigrateError>;

    /// The mapping's keys with a log row that `seen` saw and `unseen` did not. Called without an open snapshot.
    fn touched(
        &mut self,
        mapping: &Mapping,
        seen: &Position,
        unseen: &Position,
    ) -> Result<Touched<Self::Rows>, MigrateError>;
    /// Removes log rows that every one of these positions saw. Called without an open snapshot.
    fn prune(&mut self, stream: &Stream, seen_by: &[Position]) -> Result<u64, MigrateError>;
    /// How many rows the log holds, estimated beyond [`LOG_COUNTED`], and about how many bytes.
    fn log_size(&mut self, stream: &Stream) -> Result<(u64, u64), MigrateError>;

    /// How much of capture stands in the database. Called without an open snapshot; changes nothing.
    fn capture_state(&mut self, _stream: &Stream) -> Result<CaptureState, MigrateError> {
        Err(unsupported("tell whether capture is installed"))
    }
    /// The first column of the first row of an operator's query, as a number: a load to be kept below a limit.
    fn measure(&mut self, _query: &str) -> Result<f64, MigrateError> {
        Err(unsupported("measure a load"))
    }
    /// Every table of the application, those that others refer to first.
    fn describe(&mut self) -> Result<Vec<TableShape>, MigrateError> {
        Err(unsupported("list tables"))
    }
}

/// The last key of the mapping's next chunk behind a key; nothing if that chunk is the last (see [`Source::range_end`]).
pub type RangeEnd<'a> = dyn FnMut(&Mapping, Option<&Bound>) -> Result<Option<Bound>, MigrateError> + 'a;

/// The writing end. Its bookkeeping stands in the target's database, so that one commit holds rows and progress.
pub trait Target: Send {
    /// How rows come from the source.
    type Rows: Rows;

    /// Makes the tables of the bookkeeping and the key maps; repeating it is harmless.
    fn prepare(&mut self, stream: &Stream) -> Result<(), MigrateError>;
    /// The stream's row; nothing if it was never made.
    fn stream(&mut self, name: &str) -> Result<Option<StreamRow>, MigrateError>;
    /// Makes the stream's row if there is none; an existing one is left as it is. Its token is behind every one that a forgotten
    /// stream of the name had, so that who had claimed that one cannot take this one for it.
    fn create_stream(&mut self, name: &str, row: &StreamRow) -> Result<(), MigrateError>;
    /// Forgets the stream: its row, chunks, notes and holds, all but its last token and what is kept, in one transaction.
    fn forget_stream(&mut self, stream: &Stream, kept: Kept) -> Result<(), MigrateError>;
    /// Whether every table of the stream is empty.
    fn is_empty(&mut self, stream: &Stream) -> Result<bool, MigrateError>;

    /// Takes the stream over from whoever has it; refused while it rests.
    fn claim(&mut self, name: &str) -> Result<Claim, MigrateError>;
    /// `next := position`, under the claim. False: superseded.
    fn set_next(&mut self, claim: &Claim, next: &Position) -> Result<bool, MigrateError>;
    /// `pos := position`, under the claim and only if `pos` is still `as_read`. False: superseded.
    fn set_pos(&mut self, claim: &Claim, as_read: &Position, pos: &Position) -> Result<bool, MigrateError>;
    /// Up to `rows` source keys after one that the target holds rows of, for a mapping whose table was emptied at the
    /// source; with the last of them while there may be more.
    fn known_keys(
        &mut self,
        mapping: &Mapping,
        after: Option<&Bound>,
        rows: u32,
    ) -> Result<(Self::Rows, Option<Bound>), MigrateError>;
    /// Makes the table hold exactly `batch.rows` for `batch.keys`, mapped columns only, in one transaction.
    fn apply(
        &mut self,
        guard: Guard<'_, Self::Rows>,
        mapping: &Mapping,
        batch: &Batch<Self::Rows>,
    ) -> Result<Outcome<Self::Rows>, MigrateError>;

    /// [`Target::apply`] under a claim for several mappings. In one transaction, unless the driver cannot: then who reads the
    /// target sees the tables of a key change one after the other.
    fn apply_together(
        &mut self,
        claim: &Claim,
        parts: &[(&Mapping, Batch<Self::Rows>)],
    ) -> Result<Outcome<Self::Rows>, MigrateError> {
        let mut written = 0;
        for (mapping, batch) in parts {
            match self.apply(Guard::Claim(claim), mapping, batch)? {
                Outcome::Written(rows) => written += rows,
                other => return Ok(other),
            }
        }
        Ok(Outcome::Written(written))
    }

    /// Takes the stream over and lets it rest: from then on no claim is given, and only under this one anything is applied.
    /// Refused before the target is loaded.
    fn rest(&mut self, _name: &str) -> Result<Claim, MigrateError> {
        Err(unsupported("let a stream rest"))
    }
    /// Lets a resting stream be followed again if nobody moved its token since it was `seen`. Returns whether it did.
    fn wake(&mut self, _name: &str, _seen: i64) -> Result<bool, MigrateError> {
        Err(unsupported("let a stream rest"))
    }
    /// Makes the stream's row anew, resting, for a target that holds what the source holds at the row's position: nothing is
    /// left to backfill, and what was verified before counts no longer.
    fn start_at(&mut self, _stream: &Stream, _row: &StreamRow) -> Result<(), MigrateError> {
        Err(unsupported("let a stream rest"))
    }

    /// Leases a chunk that nobody has, or whose lease ran out, for `seconds`; else makes the next one of the first
    /// mapping that has ranges left. `end` gives the last key of the next chunk (see [`Source::range_end`]).
    /// Nothing: all are done or leased.
    fn lease_chunk(
        &mut self,
        stream: &Stream,
        seconds: u32,
        end: &mut RangeEnd<'_>,
    ) -> Result<Option<Lease>, MigrateError>;
    /// Records the chunk's snapshot, before it is read. False if the lease ran out.
    fn register_chunk(&mut self, lease: &Lease, snapshot: &Position) -> Result<bool, MigrateError>;
    /// Ends a chunk behind a key of its range, and makes a chunk that nobody has of what is left. False if the lease ran out.
    fn split_chunk(&mut self, _lease: &Lease, _end: &Bound) -> Result<bool, MigrateError> {
        Err(unsupported("split a chunk"))
    }
    /// Gives a chunk back.
    fn release_chunk(&mut self, lease: &Lease) -> Result<(), MigrateError>;
    /// How many chunks are leased, and whether all ranges of all mappings are done.
    fn chunks_left(&mut self, stream: &Stream) -> Result<ChunksLeft, MigrateError>;
    /// Writes a chunk into a table that is being loaded, and marks it done, in one transaction. False if the lease ran out.
    fn load(
        &mut self,
        done: ChunkDone<'_>,
        mapping: &Mapping,
        batch: &Batch<Self::Rows>,
    ) -> Result<bool, MigrateError>;
    /// Drops what slows loading and can be built again, after remembering it in the bookkeeping; repeating it is harmless.
    fn begin_loading(&mut self, stream: &Stream) -> Result<(), MigrateError>;
    /// Builds it again, and sets the phase to [`Phase::Following`]; repeating it is harmless. Chunks whose rows stood in each
    /// other's way are to be copied anew from then on.
    fn finish_loading(&mut self, stream: &Stream) -> Result<(), MigrateError>;

    /// Checks what loading left unchecked because chunks of different snapshots need not agree: foreign keys. To be called once
    /// `pos` is past the snapshots of all chunks; repeating it is harmless. Returns what does not hold, in words: a batch that
    /// is half applied may look so for a moment.
    fn check_loaded(&mut self, _stream: &Stream) -> Result<Vec<String>, MigrateError> {
        Ok(Vec::new())
    }

    /// Every position whose later log rows are still needed: `pos`, the snapshots of chunks that are not done, and the holds of
    /// verifications.
    fn needed_positions(&mut self, name: &str) -> Result<Vec<Position>, MigrateError>;
    /// Lets ids that the target gives out go on behind every id of the source and of its own.
    fn move_sequences(&mut self, stream: &Stream) -> Result<(), MigrateError>;

    /// A text that the engine keeps beside the stream: how the run is steered, what it says of itself, how far a verification is.
    fn note(&mut self, _stream: &str, _name: &str) -> Result<Option<String>, MigrateError> {
        Err(unsupported("keep notes"))
    }
    /// Sets such a text, or removes it.
    fn set_note(&mut self, _stream: &str, _name: &str, _text: Option<&str>) -> Result<(), MigrateError> {
        Err(unsupported("keep notes"))
    }
    /// The chunks under way.
    fn leases(&mut self, _stream: &str) -> Result<Vec<LeaseState>, MigrateError> {
        Ok(Vec::new())
    }
}

fn unsupported(what: &str) -> MigrateError {
    MigrateError::refused(format!("this database's driver cannot {what}"), "use another one for it")
}
