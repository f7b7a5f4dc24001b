//! Pins: keys whose reads stay at one side of a context while its stage lets both sides answer.
//!
//! Invariant: a pin is part of its context's flag, so a change of one raises the fencing token, is announced like any
//! other change, and is one commit with its audit row.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::{Entry, Who, record_states};
use crate::conn::Conn;
use crate::error::ControlError;
use crate::flag::{Flag, Side};
use crate::flags::{get, needs_no_hold, needs_reason, save, touch};
use crate::schema::pins;
use crate::store::ControlStore;

/// Pins that a context has at most: every process reads all of them at every change of any flag.
pub const MOST_PINS: usize = 1_000;
/// Bytes of a pinned key at most: what the indexes of both databases hold.
const LONGEST_KEY: usize = 1_000;

/// The pins of one context, for looking a key up; clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(Arc<HashMap<Box<[u8]>, Side>>);

impl Pins {
    /// The side that a key is pinned to.
    pub fn get(&self, key: &[u8]) -> Option<Side> {
        self.0.get(key).copied()
    }

    /// Whether no key is pinned.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many keys are pinned.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All pins, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Side)> {
        self.0.iter().map(|(key, side)| (&**key, *side))
    }
}

impl<K: AsRef<[u8]>> FromIterator<(K, Side)> for Pins {
    fn from_iter<I: IntoIterator<Item = (K, Side)>>(pins: I) -> Self {
        Self(Arc::new(pins.into_iter().map(|(key, side)| (Box::from(key.as_ref()), side)).collect()))
    }
}

/// A key that is pinned, by whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pin {
    /// The context.
    pub context: String,
    /// The sticky key.
    pub key: String,
    /// The side that answers its reads.
    pub side: Side,
    /// Who pinned it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl ControlStore {
    /// Pins a key to a side, or, with none, lets it go where the weight says; returns the flag as it stands then.
    /// Pinning what is pinned so changes nothing.
    pub fn set_pin(
        &self,
        context: &str,
        key: &str,
        side: Option<Side>,
        who: &Who,
    ) -> Result<Flag, ControlError> {
        let (context, key, who) = (context.to_owned(), key.to_owned(), who.clone());
        let flag = self.decide(move |conn| {
            let before = get(conn, &context)?;
            let was = before.pins.get(key.as_bytes());
            if was.is_some() && was == side {
                return Ok(before);
            }
            needs_reason(&who)?;
            needs_no_hold(&before)?;
            needs_sense(&before, &key, was, side)?;
            let mut after = before;
            touch(conn, &mut after)?;
            save(conn, &after)?;
            diesel::delete(pins::table.find((&context, &key))).execute(conn)?;
            if let Some(side) = side {
                let pin = (
                    pins::context.eq(&context),
                    pins::key.eq(&key),
                    pins::side.eq(side.as_str()),
                    pins::actor.eq(&who.actor),
                    pins::reason.eq(&who.reason),
                    pins::at_ms.eq(after.changed_at_ms),
                );
                diesel::insert_into(pins::table).values(pin).execute(conn)?;
            }
            let action = if side.is_some() { "pin" } else { "unpin" };
            let entry = Entry { who: &who, action, forced: false, evidence: None };
            record_states(conn, &entry, &after, [was, side].map(|side| describe(&key, side)))?;
            after.pins = of_context(conn, &context)?;
            Ok(after)
        })?;
        Ok(self.local(flag))
    }

    /// All pins of one context, or of all, by context and key.
    pub fn pins(&self, context: Option<&str>) -> Result<Vec<Pin>, ControlError> {
        let context = context.map(str::to_owned);
        self.read(move |conn| {
            let mut query = pins::table.order((pins::context, pins::key)).into_boxed();
            if let Some(context) = context {
                get(conn, &context)?;
                query = query.filter(pins::context.eq(context));
            }
            let rows: Vec<(String, String, String, String, String, i64)> = query.load(conn)?;
            let pin = |(context, key, side, actor, reason, at_ms): (_, _, String, _, _, _)| {
                Ok(Pin { context, key, side: side.parse()?, actor, reason, at_ms })
            };
            rows.into_iter().map(pin).collect()
        })
    }
}

fn needs_sense(flag: &Flag, key: &str, was: Option<Side>, side: Option<Side>) -> Result<(), ControlError> {
    let Flag { context, pins, .. } = flag;
    let refuse = |reason: String, remedy: String| Err(ControlError::Refused { reason, remedy });
    if was.is_none() && side.is_none() {
        let remedy = format!("`facade pin list {context}` shows those that are");
        return refuse(format!("the key {key} of {context} is not pinned"), remedy);
    }
    if key.is_empty() || key.len() > LONGEST_KEY || key.contains(char::is_control) {
        let reason = format!("a key is 1 to {LONGEST_KEY} bytes without control characters");
        return refuse(reason, "see how `facade explain` finds the key of a request".to_owned());
    }
    if was.is_none() && pins.len() >= MOST_PINS {
        let reason = format!("{context} has {MOST_PINS} pins, and more slow down every look at the flags");
        return refuse(reason, "remove some, or move more keys by the weight".to_owned());
    }
    Ok(())
}

fn describe(key: &str, side: Option<Side>) -> String {
    match side {
        Some(side) => format!("key {key} pinned to the {side}"),
        None => format!("key {key} by weight"),
    }
}

/// The pins of one context.
pub(crate) fn of_context(conn: &mut Conn, context: &str) -> Result<Pins, ControlError> {
    let of = pins::table.filter(pins::context.eq(context)).select((pins::key, pins::side));
    let rows: Vec<(String, String)> = of.load(conn)?;
    rows.into_iter().map(|(key, side)| Ok((key, side.parse()?))).collect()
}

/// The pins of all contexts that have any.
pub(crate) fn of_all(conn: &mut Conn) -> Result<HashMap<String, Pins>, ControlError> {
    let rows: Vec<(String, String, String)> =
        pins::table.select((pins::context, pins::key, pins::side)).load(conn)?;
    let mut by_context: HashMap<String, HashMap<Box<[u8]>, Side>> = HashMap::new();
    for (context, key, side) in rows {
        by_context.entry(context).or_default().insert(Box::from(key.as_bytes()), side.parse()?);
    }
    Ok(by_context.into_iter().map(|(context, pins)| (context, Pins(Arc::new(pins)))).collect())
}
