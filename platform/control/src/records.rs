//! What is known of a context's data: how far it was copied, when it was proven right, how much waits.
//!
//! Invariant: a gate judges by what is recorded here, never by what a caller claims.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::clock::store_now_ms;
use crate::conn::{Conn, on_each};
use crate::error::ControlError;
use crate::flag::Flag;
use crate::schema::{backfills, lag, verifications};
use crate::settings::ControlSettings;
use crate::store::ControlStore;
use crate::transaction::announce;

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
    /// The owner's version counter before the comparison began: later versions are not covered. 0 under change capture,
    /// whose position stands in the evidence.
    pub position: i64,
    /// Hash of the mapping under which the sides were compared.
    pub mapping_hash: String,
    /// The verification in one line, for the audit trail.
    pub evidence: String,
    /// When it ended, in milliseconds since 1970; by the machine's clock when it is recorded, by the store's when it
    /// is read.
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
    pub(crate) fn is_over(&self, limit_ms: i64, lease_ms: i64, now_ms: i64) -> bool {
        self.oldest_ms > limit_ms && now_ms - self.at_ms < lease_ms
    }
}

impl ControlStore {
    /// Records that the context's rows were copied to the end.
    pub fn record_backfill(&self, context: &str, rows: i64) -> Result<(), ControlError> {
        let context = context.to_owned();
        self.decide(move |conn| {
            let done = (backfills::rows.eq(rows), backfills::at_ms.eq(store_now_ms(conn)?));
            let insert =
                diesel::insert_into(backfills::table).values((backfills::context.eq(&context), done));
            on_each!(conn, |conn| insert
                .on_conflict(backfills::context)
                .do_update()
                .set(done)
                .execute(conn))?;
            Ok(())
        })
    }

    /// Records the outcome of a comparison; the last one counts.
    pub fn record_verification(&self, verification: &Verification) -> Result<(), ControlError> {
        let at_ms = verification.at_ms + self.ahead_ms();
        let row = Verification { at_ms, ..verification.clone() };
        self.decide(move |conn| {
            let insert = diesel::insert_into(verifications::table).values(&row);
            on_each!(conn, |conn| insert
                .on_conflict(verifications::context)
                .do_update()
                .set(&row)
                .execute(conn))?;
            Ok(())
        })
    }

    /// The last comparison since the data is kept up to date.
    pub fn verification(&self, context: &str) -> Result<Option<Verification>, ControlError> {
        let context = context.to_owned();
        self.read(move |conn| load_verification(conn, &context))
    }

    /// Reports what waits at the context's owner.
    pub fn record_lag(&self, context: &str, pending: i64, oldest_ms: i64) -> Result<(), ControlError> {
        let context = context.to_owned();
        self.report(move |conn| {
            let at_ms = store_now_ms(conn)?;
            let found = (lag::pending.eq(pending), lag::oldest_ms.eq(oldest_ms), lag::at_ms.eq(at_ms));
            let insert = diesel::insert_into(lag::table).values((lag::context.eq(&context), found));
            on_each!(conn, |conn| insert.on_conflict(lag::context).do_update().set(found).execute(conn))?;
            // Canary reads follow it.
            Ok(announce(conn)?)
        })
    }

    /// What waited at the context's owner when it last reported.
    pub fn lag(&self, context: &str) -> Result<Option<Lag>, ControlError> {
        let context = context.to_owned();
        self.read(move |conn| load_lag(conn, &context))
    }
}

/// The data gate: copied, proven right, and that not too long ago.
pub(crate) fn gate_data(
    conn: &mut Conn,
    settings: &ControlSettings,
    flag: &Flag,
) -> Result<(), ControlError> {
    let context = &flag.context;
    let refuse = |reason: String, remedy: String| Err(ControlError::Refused { reason, remedy });
    if !flag.is_followed() {
        let remedy = format!(
            "run `migrate dual-write {context} on`, `migrate backfill {context}`, `migrate verify {context}`; or, by change \
             capture, `migrate capture install {context}`, `migrate run {context}`, `migrate verify {context}`"
        );
        return refuse(
            format!("nothing keeps the service's {context} up to date: neither dual-write nor capture is on"),
            remedy,
        );
    }
    let verify = format!("run `migrate verify {context}`");
    let backfilled = backfills::table.find(context).select(backfills::rows).first::<i64>(conn).optional()?;
    // Under change capture only what is copied to the end can be verified, so the verification says it.
    if backfilled.is_none() && flag.dual_write {
        let remedy = format!("run `migrate backfill {context}` and `migrate verify {context}`");
        return refuse(format!("{context} was not copied to the end since dual-write was turned on"), remedy);
    }
    let Some(verification) = load_verification(conn, context)? else {
        return refuse(
            format!("the service's {context} was not verified since it is kept up to date"),
            verify,
        );
    };
    if !verification.clean {
        let count = verification.differences;
        let mend = if flag.captured { "repair" } else { "backfill" };
        let remedy = format!("run `migrate {mend} {context}` and `migrate verify {context}`");
        return refuse(format!("the last verification of {context} found {count} differing rows"), remedy);
    }
    let age_s = (store_now_ms(conn)? - verification.at_ms) / 1000;
    if age_s > settings.verification_max_age_s {
        let limit = settings.verification_max_age_s;
        return refuse(
            format!("the last verification of {context} is {age_s} s old, the limit {limit} s"),
            verify,
        );
    }
    Ok(())
}

/// The lag gate: what the owner last reported must not be late.
pub(crate) fn gate_lag(
    conn: &mut Conn,
    settings: &ControlSettings,
    context: &str,
) -> Result<(), ControlError> {
    let limit = settings.lag_limit_ms;
    let now_ms = store_now_ms(conn)?;
    match load_lag(conn, context)? {
        Some(lag) if lag.is_over(limit, settings.lease_ms, now_ms) => Err(ControlError::Refused {
            reason: format!(
                "{} writes of {context} wait for the other side, the oldest for {} ms; the limit is {limit} ms",
                lag.pending, lag.oldest_ms
            ),
            remedy: "look at the other side's health and wait until it has caught up".to_owned(),
        }),
        _ => Ok(()),
    }
}

pub(crate) fn load_verification(
    conn: &mut Conn,
    context: &str,
) -> Result<Option<Verification>, ControlError> {
    Ok(verifications::table.find(context).select(Verification::as_select()).first(conn).optional()?)
}

fn load_lag(conn: &mut Conn, context: &str) -> Result<Option<Lag>, ControlError> {
    let columns = (lag::pending, lag::oldest_ms, lag::at_ms);
    let row = lag::table.find(context).select(columns).first::<(i64, i64, i64)>(conn).optional()?;
    Ok(row.map(|(pending, oldest_ms, at_ms)| Lag { pending, oldest_ms, at_ms }))
}
