//! The map of who may call whom: every context is constructed here, with the ports that it may call.
//!
//! ```text
//! rest ──► users    = OwnedUsers ► DualWriteUsers ► UsersService      what this side stores, fenced
//! rest ──► catalog  = CatalogService
//! rest ──► orders   = OrdersService ──► catalog
//!                                  └──► users by wiring: the line above, or FlagUsers (this side or the service)
//! the service ──► replica of users  = UsersService as a sink
//! import, seed ──► users = OwnedUsers ► UsersService; the relay of the serving process delivers what they write
//! ```
//!
//! Invariant: a context gets another one only as a port, and a call leaves the process only where it says so here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use catalog::CatalogService;
use contracts::SystemClock;
use contracts::catalog::Catalog;
use contracts::orders::Orders;
use contracts::replication::ReplicaSink;
use contracts::users::{CONTEXT, Users};
use control::{ControlStore, Side};
use db::replication::ContextLog;
use db::schema::SchemaSource;
use db::{Db, DbError};
use orders::OrdersService;
use remote::by_flag::FlagUsers;
use remote::dual_write::DualWriteUsers;
use remote::flags::Flags;
use remote::follow::{Following, follow};
use remote::ownership::{OwnedUsers, Ownership};
use remote::relay::{Relay, RelayHandle, RelaySettings};
use remote::users::{Client, ClientSettings};
use users::UsersService;

use crate::settings::{Settings, Wiring};

/// How long the relay waits for one image to be taken: longer than a write waits, or a busy side would look dead.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// The schema of every context, in the order in which it is applied.
pub const SCHEMAS: [SchemaSource; 4] =
    [db::replication::SCHEMA, users::SCHEMA, catalog::SCHEMA, orders::SCHEMA];

/// The contexts of a running monolith.
pub struct Contexts {
    /// The users of this side.
    pub users: Arc<dyn Users>,
    /// The catalog.
    pub catalog: Arc<dyn Catalog>,
    /// The orders.
    pub orders: Arc<dyn Orders>,
    /// Takes images of users while the service owns them.
    pub replica: Arc<dyn ReplicaSink>,
    /// Sends images to the service while the monolith owns users, where a service is set.
    pub relay: Option<RelayHandle>,
    /// Follows the control store, where one is set, for as long as it is kept.
    pub following: Option<Following>,
}

/// Opens the database, creates it at the first start and applies the schema. Blocking.
pub fn open_database(settings: &Settings) -> Result<Db> {
    let db = Db::open(&settings.database)?;
    db::schema::apply(&db, &SCHEMAS)?;
    db.write_blocking(|conn| {
        db::replication::ensure_context(conn, CONTEXT, true)?;
        Ok::<_, DbError>(())
    })?;
    Ok(db)
}

/// Opens the control store, where one is set. Blocking.
pub fn open_control(settings: &Settings) -> Result<Option<ControlStore>> {
    if !settings.control.is_set() {
        return Ok(None);
    }
    Ok(Some(ControlStore::open(&settings.control)?))
}

/// Wires the contexts of a serving monolith. Call it on the runtime that serves.
pub fn serving(settings: &Settings, db: &Db, control: Option<ControlStore>) -> Result<Contexts> {
    let store = Arc::new(UsersService::new(db.clone(), Arc::new(SystemClock)));
    let log = Arc::new(ContextLog::new(db.clone(), CONTEXT));
    let ownership = Arc::new(Ownership::new(CONTEXT, Side::Monolith, log.clone(), control.clone()));
    let relay = relay(settings, log.clone())?;
    let delivered: Arc<dyn Users> = match &relay {
        Some(relay) => {
            let deadline = Duration::from_millis(settings.replication.deadline_ms);
            Arc::new(DualWriteUsers::new(store.clone(), relay.clone(), deadline))
        }
        None => store.clone(),
    };
    let users: Arc<dyn Users> = Arc::new(OwnedUsers::new(delivered, Arc::clone(&ownership)));

    let flags = control.as_ref().map(|control| Flags::load(control, CONTEXT)).transpose()?;
    let asked_by_orders: Arc<dyn Users> = match (settings.users.wiring, &flags) {
        (Wiring::Flag, Some(flags)) => {
            Arc::new(FlagUsers::new(Arc::clone(&users), service(settings)?, flags.clone()))
        }
        _ => Arc::clone(&users),
    };
    let catalog: Arc<dyn Catalog> = Arc::new(CatalogService::new(db.clone(), Arc::new(SystemClock)));
    let orders = OrdersService::new(db.clone(), Arc::new(SystemClock), asked_by_orders, Arc::clone(&catalog));

    let following = match (control, flags) {
        (Some(control), Some(flags)) => {
            let instance = format!("monolith-{}", std::process::id());
            Some(follow(control, instance, ownership, flags, log).context("cannot watch the control store")?)
        }
        _ => None,
    };
    Ok(Contexts { users, catalog, orders: Arc::new(orders), replica: store, relay, following })
}

/// Wires the contexts for a command that writes beside a serving monolith, or before there is one.
pub fn loading(db: &Db, control: Option<ControlStore>) -> crate::import::Ports {
    let store = Arc::new(UsersService::new(db.clone(), Arc::new(SystemClock)));
    let log = Arc::new(ContextLog::new(db.clone(), CONTEXT));
    let ownership = Ownership::new(CONTEXT, Side::Monolith, log, control);
    let users: Arc<dyn Users> = Arc::new(OwnedUsers::new(store, Arc::new(ownership)));
    let catalog: Arc<dyn Catalog> = Arc::new(CatalogService::new(db.clone(), Arc::new(SystemClock)));
    let orders =
        OrdersService::new(db.clone(), Arc::new(SystemClock), Arc::clone(&users), Arc::clone(&catalog));
    crate::import::Ports { users, catalog, orders: Arc::new(orders) }
}

fn service(settings: &Settings) -> Result<Arc<dyn Users>> {
    let remote = &settings.users.remote;
    let client = Client::new(&ClientSettings {
        url: remote.url.clone(),
        token: remote.token.clone(),
        timeout: Duration::from_millis(remote.timeout_ms),
    });
    Ok(Arc::new(client.context("users.remote is wrong")?))
}

fn relay(settings: &Settings, log: Arc<ContextLog>) -> Result<Option<RelayHandle>> {
    let remote = &settings.users.remote;
    if remote.url.is_empty() {
        return Ok(None);
    }
    let sink = remote::replica::Client::new(&remote.url, &remote.token, CONTEXT, IMAGE_TIMEOUT)
        .context("users.remote is wrong")?;
    Ok(Some(Relay::spawn(log, Arc::new(sink), RelaySettings::default())))
}
