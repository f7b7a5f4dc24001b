//! The book in figures: what a test compares with its own sums.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Book, Status};

/// Minor units by currency.
type Sums = BTreeMap<String, i64>;

/// Counts and sums over all records.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    records: usize,
    by_status: BTreeMap<Status, Share>,
    /// Ever taken, also where it was given back later.
    captured: Sums,
    /// Given back.
    refunded: Sums,
    /// The most often that money was taken under one key; more than 1 is a double charge.
    charges_per_key_max: u32,
}

#[derive(Debug, Default, Serialize)]
struct Share {
    count: usize,
    minor: Sums,
}

impl Book {
    pub(crate) fn summary(&self) -> Summary {
        let statuses =
            [Status::Authorized, Status::Captured, Status::Voided, Status::Refunded, Status::Declined];
        let mut summary = Summary {
            records: self.records.len(),
            by_status: statuses.into_iter().map(|status| (status, Share::default())).collect(),
            captured: Sums::new(),
            refunded: Sums::new(),
            charges_per_key_max: self.records.iter().map(|record| record.charges).max().unwrap_or(0),
        };
        for record in &self.records {
            let share = summary.by_status.entry(record.status).or_default();
            share.count += 1;
            let Some(amount) = &record.amount else { continue };
            for (sums, minor) in [
                (&mut share.minor, amount.minor),
                (&mut summary.captured, record.captured),
                (&mut summary.refunded, record.refunded),
            ] {
                *sums.entry(amount.currency.clone()).or_default() += minor;
            }
        }
        summary
    }
}
