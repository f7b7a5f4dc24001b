//! The processes that serve flags: signs of life, and which fencing token each one serves.

use diesel::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::store_now_ms;
use crate::conn::{Conn, on_each};
use crate::error::ControlError;
use crate::schema::{acks, instances};
use crate::store::ControlStore;

/// What kind of process an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceKind {
    /// A facade: it holds writes during a switch.
    Facade,
    /// A monolith.
    Monolith,
    /// An extracted service.
    Service,
}

impl InstanceKind {
    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Facade => "facade",
            Self::Monolith => "monolith",
            Self::Service => "service",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "facade" => Self::Facade,
            "service" => Self::Service,
            _ => Self::Monolith,
        }
    }
}

/// Which token of a context's flag an instance serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ack {
    /// The context.
    pub context: String,
    /// The token.
    pub token: i64,
    /// Whether the instance holds the context's writes and none is in flight any more.
    pub held: bool,
}

/// A sign of life with what the instance serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Unique name of the instance.
    pub instance: String,
    /// Its kind.
    pub kind: InstanceKind,
    /// What it serves; replaces what it said before.
    pub acks: Vec<Ack>,
}

/// An instance as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Unique name.
    pub instance: String,
    /// Its kind.
    pub kind: InstanceKind,
    /// Last sign of life, in milliseconds since 1970 by the store's clock.
    pub heartbeat_at_ms: i64,
    /// How long ago that was, in milliseconds.
    pub age_ms: i64,
    /// Whether that is less than a lease ago.
    pub live: bool,
    /// What it serves.
    pub acks: Vec<Ack>,
}

impl Instance {
    /// Whether it holds this context's writes under this token.
    pub fn holds(&self, context: &str, token: i64) -> bool {
        self.acks.iter().any(|ack| ack.context == context && ack.token >= token && ack.held)
    }
}

impl ControlStore {
    /// Takes a sign of life.
    pub fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), ControlError> {
        let heartbeat = heartbeat.clone();
        self.report(move |conn| write_heartbeat(conn, &heartbeat))
    }

    /// All instances that were seen within the last hour, each with the tokens that it serves.
    pub fn instances(&self) -> Result<Vec<Instance>, ControlError> {
        let lease_ms = self.settings().lease_ms;
        self.read(move |conn| load_instances(conn, lease_ms))
    }

    /// Forgets an instance that ends in order, so that nobody waits for it.
    pub fn retire(&self, instance: &str) -> Result<(), ControlError> {
        let instance = instance.to_owned();
        self.report(move |conn| {
            diesel::delete(acks::table.filter(acks::instance.eq(&instance))).execute(conn)?;
            diesel::delete(instances::table.find(&instance)).execute(conn)?;
            Ok(())
        })
    }
}

fn load_instances(conn: &mut Conn, lease_ms: i64) -> Result<Vec<Instance>, ControlError> {
    let now = store_now_ms(conn)?;
    let rows: Vec<(String, String, i64)> = instances::table
        .filter(instances::heartbeat_at_ms.gt(now - 3_600_000))
        .order(instances::instance)
        .load(conn)?;
    let all: Vec<(String, String, i64, bool)> = acks::table.order(acks::context).load(conn)?;
    let acks_of = |name: &str| {
        all.iter()
            .filter(|(instance, ..)| instance == name)
            .map(|(_, context, token, held)| Ack { context: context.clone(), token: *token, held: *held })
            .collect()
    };
    let instance = |(instance, kind, heartbeat_at_ms): (String, String, i64)| Instance {
        acks: acks_of(&instance),
        kind: InstanceKind::parse(&kind),
        live: now - heartbeat_at_ms < lease_ms,
        age_ms: (now - heartbeat_at_ms).max(0),
        heartbeat_at_ms,
        instance,
    };
    Ok(rows.into_iter().map(instance).collect())
}

/// Takes a sign of life within a transaction of the caller's.
pub(crate) fn write_heartbeat(conn: &mut Conn, heartbeat: &Heartbeat) -> Result<(), ControlError> {
    let now_ms = store_now_ms(conn)?;
    let sign = (instances::kind.eq(heartbeat.kind.as_str()), instances::heartbeat_at_ms.eq(now_ms));
    let insert =
        diesel::insert_into(instances::table).values((instances::instance.eq(&heartbeat.instance), sign));
    on_each!(conn, |conn| insert.on_conflict(instances::instance).do_update().set(sign).execute(conn))?;
    diesel::delete(acks::table.filter(acks::instance.eq(&heartbeat.instance))).execute(conn)?;
    for ack in &heartbeat.acks {
        diesel::insert_into(acks::table)
            .values((
                acks::instance.eq(&heartbeat.instance),
                acks::context.eq(&ack.context),
                acks::token.eq(ack.token),
                acks::held.eq(ack.held),
            ))
            .execute(conn)?;
    }
    Ok(())
}
