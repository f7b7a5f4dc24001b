//! Reading and changing flags.
//!
//! Invariant: reads go to the service only under a clean, fresh verification of the data there, or by force, which
//! the audit trail shows.

use diesel::prelude::*;

use crate::audit::{Entry, Who, record};
use crate::clock::store_now_ms;
use crate::conn::{Conn, on_each};
use crate::error::ControlError;
use crate::flag::{DataMode, Flag, Hold, Side, Weight};
use crate::pins::{self, Pins};
use crate::records::{Lag, gate_data, gate_lag};
use crate::schema::{backfills, captures, flags, lag, verifications};
use crate::settings::ControlSettings;
use crate::store::ControlStore;

/// What to change about a flag; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlagChange {
    /// Which keys' reads go to the service.
    pub reads: Option<Weight>,
    /// The owner.
    pub writes: Option<Side>,
    /// Pass shut gates.
    pub force: bool,
}

impl ControlStore {
    /// Makes a context known. One that is known keeps its state; only how its data is held is taken over.
    pub fn declare(&self, context: &str, data: DataMode) -> Result<(), ControlError> {
        let context = context.to_owned();
        self.decide(move |conn| {
            let mut flag = find(conn, &context)?.unwrap_or_else(|| Flag::unmoved(context));
            flag.data = data;
            save(conn, &flag)
        })
    }

    /// All flags, by name of context.
    pub fn flags(&self) -> Result<Vec<Flag>, ControlError> {
        let settings = self.shared_settings();
        let flags = self.read(move |conn| load_all(conn, &settings))?;
        Ok(flags.into_iter().map(|flag| self.local(flag)).collect())
    }

    /// One context's flag.
    pub fn flag(&self, context: &str) -> Result<Flag, ControlError> {
        let context = context.to_owned();
        self.read(move |conn| get(conn, &context)).map(|flag| self.local(flag))
    }

    /// Changes a flag if the gates allow it, and returns it as it stands then. Setting what is set changes nothing.
    pub fn set_flag(&self, context: &str, change: FlagChange, who: &Who) -> Result<Flag, ControlError> {
        let (context, who, settings) = (context.to_owned(), who.clone(), self.shared_settings());
        let flag = self.decide(move |conn| {
            let before = get(conn, &context)?;
            let mut after = before.clone();
            after.reads = change.reads.unwrap_or(before.reads);
            after.writes = change.writes.unwrap_or(before.writes);
            if after == before {
                return Ok(before);
            }
            needs_reason(&who)?;
            needs_no_hold(&before)?;
            needs_owner_to_stay(&before, &after)?;
            let gate = gate_reads(conn, &settings, &before, &after);
            let forced = match gate {
                Err(ControlError::Refused { .. }) if change.force => true,
                other => other.map(|()| false)?,
            };
            after.forced = forced || (before.forced && after.reads > Weight::ZERO);
            touch(conn, &mut after)?;
            save(conn, &after)?;
            let entry = Entry { who: &who, action: "set", forced, evidence: evidence(conn, &context)? };
            record(conn, &entry, &before, &after)?;
            Ok(after)
        })?;
        Ok(self.local(flag))
    }

    /// Turns on or off that the owner sends its writes to the other side. Turning it on begins anew: what was
    /// backfilled and verified before counts no longer.
    pub fn set_dual_write(&self, context: &str, on: bool, who: &Who) -> Result<Flag, ControlError> {
        let (context, who) = (context.to_owned(), who.clone());
        let flag = self.decide(move |conn| {
            let before = get(conn, &context)?;
            if before.dual_write == on {
                return Ok(before);
            }
            needs_reason(&who)?;
            needs_no_hold(&before)?;
            if on && before.captured {
                return Err(ControlError::Refused {
                    reason: format!(
                        "change capture serves {context}: a delayed dual-write would overwrite a newer row that catch-up brought"
                    ),
                    remedy: format!("stay with it, or run `migrate capture remove {context} --forget` first"),
                });
            }
            let after = Flag { dual_write: on, ..before.clone() };
            follow_otherwise(conn, &who, "dual-write", &before, after)
        })?;
        Ok(self.local(flag))
    }

    /// Records that change capture brings the owner's writes to the other side, or does so no longer. Either begins
    /// anew: what was verified before counts no longer.
    pub fn set_capture(&self, context: &str, on: bool, who: &Who) -> Result<Flag, ControlError> {
        let (context, who) = (context.to_owned(), who.clone());
        let flag = self.decide(move |conn| {
            let before = get(conn, &context)?;
            if before.captured == on {
                return Ok(before);
            }
            needs_reason(&who)?;
            needs_no_hold(&before)?;
            if on && before.dual_write {
                return Err(ControlError::Refused {
                    reason: format!(
                        "dual-write of {context} is on: a delayed one would overwrite a newer row that catch-up brought"
                    ),
                    remedy: format!("run `migrate dual-write {context} off` first"),
                });
            }
            let after = Flag { captured: on, ..before.clone() };
            let after = follow_otherwise(conn, &who, "capture", &before, after)?;
            if on {
                diesel::insert_into(captures::table).values(captures::context.eq(&context)).execute(conn)?;
            } else {
                diesel::delete(captures::table.find(&context)).execute(conn)?;
            }
            Ok(after)
        })?;
        Ok(self.local(flag))
    }
}

/// Saves a flag whose data is followed in another way from now on, or no longer.
fn follow_otherwise(
    conn: &mut Conn,
    who: &Who,
    action: &'static str,
    before: &Flag,
    mut after: Flag,
) -> Result<Flag, ControlError> {
    let context = &before.context;
    if !after.is_followed() && (before.reads > Weight::ZERO || before.writes == Side::Service) {
        return Err(ControlError::Refused {
            reason: format!("{context} is read or owned by the service, which would fall behind"),
            remedy: format!(
                "bring it home first: `migrate switch {context} --to monolith` and `facade flag set {context} --reads 0`"
            ),
        });
    }
    touch(conn, &mut after)?;
    save(conn, &after)?;
    diesel::delete(verifications::table.find(context)).execute(conn)?;
    diesel::delete(backfills::table.find(context)).execute(conn)?;
    record(conn, &Entry { who, action, forced: false, evidence: None }, before, &after)?;
    Ok(after)
}

fn gate_reads(
    conn: &mut Conn,
    settings: &ControlSettings,
    before: &Flag,
    after: &Flag,
) -> Result<(), ControlError> {
    if before.data == DataMode::Shared || after.reads <= before.reads {
        return Ok(());
    }
    gate_data(conn, settings, before)?;
    gate_lag(conn, settings, &before.context)
}

/// An owner changes only by a switch, which moves the data with it; nothing, not even force, goes past that.
fn needs_owner_to_stay(before: &Flag, after: &Flag) -> Result<(), ControlError> {
    let context = &before.context;
    if before.data == DataMode::Shared {
        return Ok(());
    }
    if before.writes != after.writes {
        return Err(ControlError::Refused {
            reason: format!("the owner of {context} changes only together with its data"),
            remedy: format!("run `migrate switch {context} --to {}`", after.writes),
        });
    }
    if before.writes == Side::Service && before.reads != after.reads {
        return Err(ControlError::Refused {
            reason: format!("the service owns {context}, so it answers all reads"),
            remedy: format!("run `migrate switch {context} --to monolith` first"),
        });
    }
    Ok(())
}

pub(crate) fn needs_reason(who: &Who) -> Result<(), ControlError> {
    if who.reason.trim().is_empty() || who.actor.trim().is_empty() {
        return Err(ControlError::Refused {
            reason: "a change needs an actor and a reason for the audit trail".to_owned(),
            remedy: "say why with --reason".to_owned(),
        });
    }
    Ok(())
}

pub(crate) fn needs_no_hold(flag: &Flag) -> Result<(), ControlError> {
    match flag.hold {
        None => Ok(()),
        Some(hold) => Err(ControlError::Refused {
            reason: format!("a switch of {} to {} is in progress", flag.context, hold.to),
            remedy: "wait until it has ended; `migrate status` shows it and ends one that was left behind"
                .to_owned(),
        }),
    }
}

/// A change raises the token and is dated.
pub(crate) fn touch(conn: &mut Conn, flag: &mut Flag) -> Result<(), ControlError> {
    flag.token += 1;
    flag.changed_at_ms = store_now_ms(conn)?;
    Ok(())
}

fn evidence(conn: &mut Conn, context: &str) -> Result<Option<String>, ControlError> {
    let found = verifications::table.find(context).select(verifications::evidence).first(conn).optional()?;
    Ok(found)
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = flags, treat_none_as_null = true)]
struct FlagRow {
    context: String,
    reads: i64,
    writes: String,
    token: i64,
    dual_write: bool,
    data: String,
    forced: bool,
    changed_at_ms: i64,
    hold_token: Option<i64>,
    hold_to: Option<String>,
    hold_began_ms: Option<i64>,
    hold_deadline_ms: Option<i64>,
    hold_flipped: Option<bool>,
}

impl TryFrom<FlagRow> for Flag {
    type Error = ControlError;

    fn try_from(row: FlagRow) -> Result<Self, ControlError> {
        let hold = match (row.hold_token, row.hold_to, row.hold_began_ms, row.hold_deadline_ms) {
            (Some(token), Some(to), Some(began_ms), Some(deadline_ms)) => Some(Hold {
                token,
                to: to.parse()?,
                began_ms,
                deadline_ms,
                flipped: row.hold_flipped.unwrap_or(false),
            }),
            _ => None,
        };
        Ok(Self {
            context: row.context,
            reads: Weight::from_basis_points(row.reads)?,
            writes: row.writes.parse()?,
            token: row.token,
            dual_write: row.dual_write,
            captured: false,
            data: if row.data == "shared" { DataMode::Shared } else { DataMode::Replicated },
            hold,
            forced: row.forced,
            late: false,
            changed_at_ms: row.changed_at_ms,
            pins: Pins::default(),
        })
    }
}

impl From<&Flag> for FlagRow {
    fn from(flag: &Flag) -> Self {
        Self {
            context: flag.context.clone(),
            reads: i64::from(flag.reads.basis_points()),
            writes: flag.writes.to_string(),
            token: flag.token,
            dual_write: flag.dual_write,
            data: if flag.data == DataMode::Shared { "shared" } else { "replicated" }.to_owned(),
            forced: flag.forced,
            changed_at_ms: flag.changed_at_ms,
            hold_token: flag.hold.map(|hold| hold.token),
            hold_to: flag.hold.map(|hold| hold.to.to_string()),
            hold_began_ms: flag.hold.map(|hold| hold.began_ms),
            hold_deadline_ms: flag.hold.map(|hold| hold.deadline_ms),
            hold_flipped: flag.hold.map(|hold| hold.flipped),
        }
    }
}

/// Columns of a lag report: pending, oldest, when.
type Reported = Option<(i64, i64, i64)>;

/// All flags, each with its pins and with what its owner last reported of its lag.
pub(crate) fn load_all(conn: &mut Conn, settings: &ControlSettings) -> Result<Vec<Flag>, ControlError> {
    let rows: Vec<(FlagRow, Reported)> = flags::table
        .left_join(lag::table.on(lag::context.eq(flags::context)))
        .select((FlagRow::as_select(), (lag::pending, lag::oldest_ms, lag::at_ms).nullable()))
        .order(flags::context)
        .load(conn)?;
    let now_ms = store_now_ms(conn)?;
    let mut pinned = pins::of_all(conn)?;
    let captured: Vec<String> = captures::table.select(captures::context).load(conn)?;
    let complete = |(row, reported): (FlagRow, Reported)| {
        let reported = reported.map(|(pending, oldest_ms, at_ms)| Lag { pending, oldest_ms, at_ms });
        let late =
            reported.is_some_and(|lag| lag.is_over(settings.read_lag_limit_ms, settings.lease_ms, now_ms));
        let pins = pinned.remove(&row.context).unwrap_or_default();
        let captured = captured.contains(&row.context);
        Ok(Flag { late, pins, captured, ..Flag::try_from(row)? })
    };
    rows.into_iter().map(complete).collect()
}

fn find(conn: &mut Conn, context: &str) -> Result<Option<Flag>, ControlError> {
    let row = flags::table.find(context).select(FlagRow::as_select()).first(conn).optional()?;
    let Some(row) = row else { return Ok(None) };
    let captured = captures::table.find(context).count().get_result::<i64>(conn)? > 0;
    Ok(Some(Flag { pins: pins::of_context(conn, context)?, captured, ..Flag::try_from(row)? }))
}

pub(crate) fn get(conn: &mut Conn, context: &str) -> Result<Flag, ControlError> {
    if let Some(flag) = find(conn, context)? {
        return Ok(flag);
    }
    let known = flags::table.select(flags::context).order(flags::context).load(conn)?;
    Err(ControlError::UnknownContext { context: context.to_owned(), known })
}

pub(crate) fn save(conn: &mut Conn, flag: &Flag) -> Result<(), ControlError> {
    let row = FlagRow::from(flag);
    let insert = diesel::insert_into(flags::table).values(&row);
    on_each!(conn, |conn| insert.on_conflict(flags::context).do_update().set(&row).execute(conn))?;
    Ok(())
}
