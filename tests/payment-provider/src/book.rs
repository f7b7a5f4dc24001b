//! The book: what has become of every key. It decides what a command does and applies the entry that says so.
//!
//! Invariant: a key is charged at most once; once voided, it ends with no money taken and stays closed. The same
//! entries in the same order make the same book.

mod summary;

use std::collections::HashMap;

use platform::settings::within;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// What a client asks to be authorised. Two requests under one key are the same if these are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    amount: Money,
    #[serde(deserialize_with = "text::<1, 100, _>")]
    payment_method: String,
    #[serde(default, deserialize_with = "text::<0, 500, _>")]
    description: String,
}

/// An amount in the currency's smallest unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Money {
    #[serde(deserialize_with = "within::<1, 1_000_000_000_000, _, _>")]
    minor: i64,
    #[serde(deserialize_with = "currency")]
    currency: String,
}

/// What may be done about money.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Reserve an amount under a key.
    Authorize { key: String, terms: Terms },
    /// Take what was authorised, in full.
    Capture { id: String },
    /// See to it that no money is, or ever will be, taken under a key.
    Void { key: String },
}

/// What has happened, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Entry {
    Authorized { key: String, id: String, terms: Terms },
    Declined { key: String, terms: Terms },
    Captured { key: String },
    Voided { key: String },
    Refunded { key: String },
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Authorized,
    Captured,
    Voided,
    Refunded,
    Declined,
}

/// Everything about one key, as clients see it. What was never authorised has no id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Record {
    id: Option<String>,
    key: String,
    status: Status,
    amount: Option<Money>,
    captured: i64,
    refunded: i64,
    payment_method: Option<String>,
    description: Option<String>,
    /// How often money was taken.
    charges: u32,
}

/// Why a command is not carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("there is no authorization {id}")]
    NotFound { id: String },
    #[error("the payment method was declined; use another one, under another key")]
    Declined { code: &'static str },
    #[error("the key {key} is {code}: no money is taken under it any more; use another key")]
    Closed { key: String, code: &'static str },
    #[error("the key {key} stands for a request with another body; use a new key for a new request")]
    KeyReused { key: String },
    #[error("the ledger cannot be written; its disk may be full; restart the provider once it is not")]
    Unwritable,
}

/// Every key that was ever named, in the order of its first naming.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    records: Vec<Record>,
    by_key: HashMap<String, usize>,
    by_id: HashMap<String, usize>,
}

impl Book {
    /// The entry that carries the command out; none where that has happened before.
    pub(crate) fn decide(&self, command: &Command) -> Result<Option<Entry>, Refusal> {
        match command {
            Command::Authorize { key, terms } => self.decide_authorize(key, terms),
            Command::Capture { id } => {
                let record = self.by_id(id).ok_or_else(|| Refusal::NotFound { id: id.clone() })?;
                match record.status {
                    Status::Authorized => Ok(Some(Entry::Captured { key: record.key.clone() })),
                    Status::Captured => Ok(None),
                    _ => Err(record.closed()),
                }
            }
            Command::Void { key } => Ok(match self.by_key(key).map(|record| record.status) {
                None | Some(Status::Authorized | Status::Declined) => {
                    Some(Entry::Voided { key: key.clone() })
                }
                Some(Status::Captured) => Some(Entry::Refunded { key: key.clone() }),
                Some(Status::Voided | Status::Refunded) => None,
            }),
        }
    }

    fn decide_authorize(&self, key: &str, terms: &Terms) -> Result<Option<Entry>, Refusal> {
        let Some(record) = self.by_key(key) else {
            let (key, terms) = (key.to_owned(), terms.clone());
            if decline_code(&terms.payment_method).is_some() {
                return Ok(Some(Entry::Declined { key, terms }));
            }
            let id = format!("auth_{}", Uuid::now_v7().simple());
            return Ok(Some(Entry::Authorized { key, id, terms }));
        };
        if matches!(record.status, Status::Voided | Status::Refunded) {
            return Err(record.closed());
        }
        if !record.has(terms) {
            return Err(Refusal::KeyReused { key: key.to_owned() });
        }
        Ok(None)
    }

    /// Carries out what an entry says.
    pub(crate) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Authorized { key, id, terms } => {
                self.add(Record::new(key, Some(id), Status::Authorized, Some(terms)));
            }
            Entry::Declined { key, terms } => {
                self.add(Record::new(key, None, Status::Declined, Some(terms)));
            }
            Entry::Captured { key } => self.change(&key, |record| {
                record.status = Status::Captured;
                record.captured = record.minor();
                record.charges += 1;
            }),
            Entry::Refunded { key } => self.change(&key, |record| {
                record.status = Status::Refunded;
                record.refunded = record.captured;
            }),
            Entry::Voided { key } if self.by_key(&key).is_none() => {
                self.add(Record::new(key, None, Status::Voided, None));
            }
            Entry::Voided { key } => self.change(&key, |record| record.status = Status::Voided),
        }
    }

    /// What a command that was carried out is answered with, the first time as every other time.
    pub(crate) fn answer(&self, command: &Command) -> Result<Record, Refusal> {
        let (record, name) = match command {
            Command::Authorize { key, .. } | Command::Void { key } => (self.by_key(key), key),
            Command::Capture { id } => (self.by_id(id), id),
        };
        let record = record.ok_or_else(|| Refusal::NotFound { id: name.clone() })?;
        match decline_code(record.payment_method.as_deref().unwrap_or_default()) {
            Some(code) if record.status == Status::Declined => Err(Refusal::Declined { code }),
            _ => Ok(record.clone()),
        }
    }

    pub(crate) fn by_key(&self, key: &str) -> Option<&Record> {
        self.by_key.get(key).and_then(|place| self.records.get(*place))
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Record> {
        self.by_id.get(id).and_then(|place| self.records.get(*place))
    }

    /// At most `limit` records after the first `seen` ones, and how many are seen then if more are to come.
    pub(crate) fn page(&self, seen: usize, limit: usize) -> (Vec<Record>, Option<usize>) {
        let items: Vec<Record> = self.records.iter().skip(seen).take(limit).cloned().collect();
        let next = seen + items.len();
        (items, (next < self.records.len()).then_some(next))
    }

    fn add(&mut self, record: Record) {
        let place = self.records.len();
        self.by_key.insert(record.key.clone(), place);
        self.by_id.extend(record.id.clone().map(|id| (id, place)));
        self.records.push(record);
    }

    fn change(&mut self, key: &str, change: impl FnOnce(&mut Record)) {
        let place = self.by_key.get(key).copied();
        if let Some(record) = place.and_then(|place| self.records.get_mut(place)) {
            change(record);
        }
    }
}

impl Record {
    fn new(key: String, id: Option<String>, status: Status, terms: Option<Terms>) -> Self {
        let (amount, payment_method, description) = match terms {
            Some(terms) => (Some(terms.amount), Some(terms.payment_method), Some(terms.description)),
            None => (None, None, None),
        };
        Self { id, key, status, amount, captured: 0, refunded: 0, payment_method, description, charges: 0 }
    }

    fn minor(&self) -> i64 {
        self.amount.as_ref().map_or(0, |amount| amount.minor)
    }

    fn has(&self, terms: &Terms) -> bool {
        self.amount.as_ref() == Some(&terms.amount)
            && self.payment_method.as_ref() == Some(&terms.payment_method)
            && self.description.as_ref() == Some(&terms.description)
    }

    fn closed(&self) -> Refusal {
        let code = if self.status == Status::Refunded { "refunded" } else { "voided" };
        Refusal::Closed { key: self.key.clone(), code }
    }
}

/// The payment methods that are declined, and the code that says why.
fn decline_code(payment_method: &str) -> Option<&'static str> {
    match payment_method {
        "pm_declined" => Some("declined"),
        "pm_insufficient" => Some("insufficient_funds"),
        _ => None,
    }
}

fn text<'de, const MIN: usize, const MAX: usize, D>(deserializer: D) -> Result<String, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&text.chars().count()) {
        return Ok(text);
    }
    Err(de::Error::custom(format!("must have from {MIN} to {MAX} characters")))
}

fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let code = String::deserialize(deserializer)?;
    if code.len() == 3 && code.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return Ok(code);
    }
    Err(de::Error::custom("must be three capital letters such as GBP"))
}

#[cfg(test)]
mod tests;
