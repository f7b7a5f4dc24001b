//! What is known of a context's data: how far it was copied, when it was proven right, how much waits.
//!
//! Invariant: a gate judges by what is recorded here, never by what a caller claims.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::ControlError;
use crate::flag::Flag;
use crate::schema::{backfills, lag, verifications};
use crate::store::{ControlStore, now_ms};

/// The outcome of comparing both sides of a context.
#[derive(
    Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Queryable, Selectable, Insertable, AsChangeset,
)]
#[diesel(table_name = verifications)]
pub struct Verification {
    /// Which context.
    pub context: String,
    /// Whether no row differed.
    pub clean: bool,
    /// Rows compared.
    pub rows: i64,
    /// Rows that differ, are missing or are too many.
    pub differences: i64,
    /// The owner's version counter before the comparison began: later versions are not covered.
    pub position: i64,
    /// Hash of the mapping under which the sides were compared.
    pub mapping_hash: String,
    /// The verification in one line, for the audit trail.
    pub evidence: String,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What waits to be delivered to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Writes not yet delivered.
    pub pending: i64,
    /// Age of the oldest one in milliseconds.
    pub oldest_ms: i64,
    /// When this was reported, in milliseconds since 1970.
    pub at_ms: i64,
}

impl Lag {
    /// Whether the oldest write waits for longer than `limit_ms`, by a report that is younger than `lease_ms`: an old
    /// report says nothing.
    pub(crate) fn is_over(&self, limit_ms: i64, lease_ms: i64) -> bool {
        self.oldest_ms > limit_ms && now_ms() - self.at_ms < lease_ms
    }
}

impl ControlStore {
    /// Records that the context's rows were copied to the end.
    pub fn record_backfill(&self, context: &str, rows: i64) -> Result<(), ControlError> {
        let row = (backfills::context.eq(context), backfills::rows.eq(rows), backfills::at_ms.eq(now_ms()));
        self.write(|conn| {
            diesel::replace_into(backfills::table).values(row).execute(conn)?;
            Ok(())
        })
    }

    /// Records the outcome of a comparison; the last one counts.
    pub fn record_verification(&self, verification: &Verification) -> Result<(), ControlError> {
        self.write(|conn| {
            diesel::replace_into(verifications::table).values(verification).execute(conn)?;
            Ok(())
        })
    }

    /// The last comparison since dual-write was turned on.
    pub fn verification(&self, context: &str) -> Result<Option<Verification>, ControlError> {
        load_verification(&mut *self.connection()?, context)
    }

    /// Reports what waits at the context's owner.
    pub fn record_lag(&self, context: &str, pending: i64, oldest_ms: i64) -> Result<(), ControlError> {
        let row = (
            lag::context.eq(context),
            lag::pending.eq(pending),
            lag::oldest_ms.eq(oldest_ms),
            lag::at_ms.eq(now_ms()),
        );
        self.write(|conn| {
            diesel::replace_into(lag::table).values(row).execute(conn)?;
            Ok(())
        })
    }

    /// What waited at the context's owner when it last reported.
    pub fn lag(&self, context: &str) -> Result<Option<Lag>, ControlError> {
        load_lag(&mut *self.connection()?, context)
    }

    /// The data gate: copied, proven right, and that not too long ago.
    pub(crate) fn gate_data(&self, conn: &mut SqliteConnection, flag: &Flag) -> Result<(), ControlError> {
        let context = &flag.context;
        let refuse = |reason: String, remedy: String| Err(ControlError::Refused { reason, remedy });
        if !flag.dual_write {
            let remedy = format!(
                "run `migrate dual-write {context} on`, `migrate backfill {context}`, `migrate verify {context}`"
            );
            return refuse(
                format!("nothing keeps the service's {context} up to date: dual-write is off"),
                remedy,
            );
        }
        let verify = format!("run `migrate verify {context}`");
        let backfilled =
            backfills::table.find(context).select(backfills::rows).first::<i64>(conn).optional()?;
        if backfilled.is_none() {
            let remedy = format!("run `migrate backfill {context}` and `migrate verify {context}`");
            return refuse(
                format!("{context} was not copied to the end since dual-write was turned on"),
                remedy,
            );
        }
        let Some(verification) = load_verification(conn, context)? else {
            return refuse(
                format!("the service's {context} was not verified since dual-write was turned on"),
                verify,
            );
        };
        if !verification.clean {
            let count = verification.differences;
            let remedy = format!("run `migrate backfill {context}` and `migrate verify {context}`");
            return refuse(
                format!("the last verification of {context} found {count} differing rows"),
                remedy,
            );
        }
        let age_s = (now_ms() - verification.at_ms) / 1000;
        if age_s > self.settings().verification_max_age_s {
            let limit = self.settings().verification_max_age_s;
            return refuse(
                format!("the last verification of {context} is {age_s} s old, the limit {limit} s"),
                verify,
            );
        }
        Ok(())
    }

    /// The lag gate: what the owner last reported must not be late.
    pub(crate) fn gate_lag(&self, conn: &mut SqliteConnection, context: &str) -> Result<(), ControlError> {
        let limit = self.settings().lag_limit_ms;
        match load_lag(conn, context)? {
            Some(lag) if lag.is_over(limit, self.settings().lease_ms) => Err(ControlError::Refused {
                reason: format!(
                    "{} writes of {context} wait for the other side, the oldest for {} ms; the limit is {limit} ms",
                    lag.pending, lag.oldest_ms
                ),
                remedy: "look at the other side's health and wait until it has caught up".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn load_verification(
    conn: &mut SqliteConnection,
    context: &str,
) -> Result<Option<Verification>, ControlError> {
    Ok(verifications::table.find(context).select(Verification::as_select()).first(conn).optional()?)
}

fn load_lag(conn: &mut SqliteConnection, context: &str) -> Result<Option<Lag>, ControlError> {
    let columns = (lag::pending, lag::oldest_ms, lag::at_ms);
    let row = lag::table.find(context).select(columns).first::<(i64, i64, i64)>(conn).optional()?;
    Ok(row.map(|(pending, oldest_ms, at_ms)| Lag { pending, oldest_ms, at_ms }))
}
