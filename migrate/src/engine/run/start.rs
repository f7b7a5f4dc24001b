//! How a stream begins.
//!
//! Invariants: the stream's row is made once, with the mapping and the schema that it will keep; a target whose rows nobody
//! put there for us is not written to unless the operator says that they are ours.

use crate::engine::in_the_way::{ADOPTED, AN_OLDER_COPY};
use crate::engine::mapping::Stream;
use crate::engine::{Driver, Kept, Phase, Source, StreamRow, Target};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

/// What rows in the target mean before anything was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopt {
    /// They belong to somebody else: refuse.
    Nothing,
    /// They are an older copy: write over them by key, and remove what holds a unique value that another key has at the source
    /// and is gone there.
    Rows,
}

/// Makes the stream's row if there is none, and what goes with it. Repeating it is harmless.
pub fn begin<D: Driver>(
    driver: &D,
    stream: &Stream,
    adopt: Adopt,
    points: &FailPoints,
) -> Result<StreamRow, MigrateError> {
    let (mut source, mut target) = (driver.source()?, driver.target()?);
    // What was altered meanwhile is told as that, not as a mapping that does not fit.
    needs_same_beginning(&mut source, &mut target, stream)?;
    target.prepare(stream)?;
    let row = match target.stream(&stream.name)? {
        Some(row) => row,
        None => {
            create(&mut source, &mut target, stream, adopt)?;
            points.pass("run_created")?;
            // Another process may have been faster; its row is the one that counts.
            target.stream(&stream.name)?.ok_or_else(|| crate::engine::catch_up::no_stream(stream))?
        }
    };
    needs_same_mapping(stream, &row)?;
    crate::engine::way_back::warn(driver, stream)?;
    if row.phase == Phase::Loading {
        target.begin_loading(stream)?;
    }
    Ok(row)
}

/// Forgets how far the copy is, so that it begins anew over its rows, also should this process die before. Key maps stay, since
/// nothing else says whose those rows are.
pub fn forget<D: Driver>(driver: &D, stream: &Stream) -> Result<(), MigrateError> {
    let mut target = driver.target()?;
    let is_same = target.stream(&stream.name)?.is_none_or(|row| row.mapping_hash == stream.hash());
    let kept = match is_same {
        _ if target.is_empty(stream)? => Kept::Nothing,
        true => Kept::RowsAndKeyMaps,
        false => Kept::Rows,
    };
    target.forget_stream(stream, kept)
}

fn create<S: Source, T: Target>(
    source: &mut S,
    target: &mut T,
    stream: &Stream,
    adopt: Adopt,
) -> Result<(), MigrateError> {
    needs_capture(source, stream)?;
    let is_ours = adopt == Adopt::Rows || target.note(&stream.name, ADOPTED)?.is_some();
    let phase = match is_ours && !target.is_empty(stream)? {
        true => Phase::Following,
        false => needs_empty(target, stream).map(|()| Phase::Loading)?,
    };
    let row = first_row(source, stream, phase);
    source.end()?;
    // Before the stream's row, so that whoever follows it, now or after a crash, knows.
    let adopted = (phase == Phase::Following).then_some(AN_OLDER_COPY);
    target.set_note(&stream.name, ADOPTED, adopted)?;
    target.create_stream(&stream.name, &row?)
}

/// Rows that no copy put there may be somebody's.
pub(crate) fn needs_empty<T: Target>(target: &mut T, stream: &Stream) -> Result<(), MigrateError> {
    if target.is_empty(stream)? {
        return Ok(());
    }
    let tables: Vec<&str> = stream.mappings.iter().map(|mapping| mapping.table.as_str()).collect();
    Err(MigrateError::refused(
        format!("the target's tables {} hold rows that this copy did not put there", tables.join(", ")),
        "empty them, or say --adopt if they are an older copy of the same rows",
    ))
}

/// A stream goes on only with the mapping and the schema that it was begun with, and where the log still knows its position. One
/// that rests applies nothing, so nobody keeps the log for it; one that was never begun has nothing to go on with.
pub(crate) fn needs_same_beginning<S: Source, T: Target>(
    source: &mut S,
    target: &mut T,
    stream: &Stream,
) -> Result<(), MigrateError> {
    while let Some(row) = target.stream(&stream.name)? {
        needs_same_mapping(stream, &row)?;
        source.begin(stream, Some(&row.fingerprint))?;
        let known = if row.phase == Phase::Resting { Ok(()) } else { source.check_position(&row.pos) };
        source.end()?;
        // Whoever moved the position meanwhile may have removed the log behind it.
        let has_moved = target.stream(&stream.name)?.is_some_and(|now| now.pos != row.pos);
        if known.is_ok() || !has_moved {
            return known;
        }
    }
    Ok(())
}

fn first_row<S: Source>(source: &mut S, stream: &Stream, phase: Phase) -> Result<StreamRow, MigrateError> {
    let position = source.begin(stream, None)?;
    source.persist_snapshot()?;
    Ok(StreamRow {
        pos: position.clone(),
        next: position,
        token: 0,
        phase,
        mapping_hash: stream.hash(),
        fingerprint: source.fingerprint(stream)?,
    })
}

pub(crate) fn needs_capture<S: Source>(source: &mut S, stream: &Stream) -> Result<(), MigrateError> {
    let state = source.capture_state(stream)?;
    if !state.installed {
        return Err(MigrateError::refused(
            format!("capture of {} is not installed, so changes during the copy would be lost", stream.name),
            format!("run `{}`", stream.command("capture install")),
        ));
    }
    match state.faults.first() {
        None => Ok(()),
        Some(fault) => Err(MigrateError::refused(
            format!("capture of {} is damaged: {fault}", stream.name),
            format!("run `{}` again", stream.command("capture install")),
        )),
    }
}

/// A copy made by two mappings would be of neither.
pub(crate) fn needs_same_mapping(stream: &Stream, row: &StreamRow) -> Result<(), MigrateError> {
    let hash = stream.hash();
    if hash == row.mapping_hash {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!(
            "the stream {} was begun with another mapping ({}) than the manifest holds now ({hash})",
            stream.name, row.mapping_hash
        ),
        format!(
            "go back to the manifest of then, or begin anew: `{} --forget`, empty the target's tables, `{}`, `{}`",
            stream.command("capture remove"),
            stream.command("capture install"),
            stream.command("run")
        ),
    ))
}
