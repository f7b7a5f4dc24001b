//! The map of who may call whom: every context is constructed here, with the ports that it may call.
//!
//! ```text
//! rest ──► users     = OwnedUsers ► DualWriteUsers ► UsersService      what this side stores, fenced
//! rest ──► catalog   = CatalogService
//! rest ──► inventory = InventoryService
//! rest ──► carts     = CartService ──► catalog
//!                                 └──► users by wiring: the line above, or FlagUsers (this side or the service)
//! rest ──► payments  = PaymentsService ──► the payment provider, where one is set
//! rest ──► shipping  = ShippingService
//! rest ──► orders    = OrdersService ──► catalog, carts, payments, users by wiring
//! the service ──► replica of users = UsersService as a sink
//! background ──► the checkout saga ──► inventory, payments, shipping; and the relay of events, see SUBSCRIPTIONS
//! import, seed ──► users = OwnedUsers ► UsersService; the relay of the serving process delivers what they write
//! ```
//!
//! Every arrow is observed: calls and their outcomes are counted per context, method and wiring.
//!
//! Invariant: a context gets another one only as a port, and a call leaves the process only where it says so here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cart::CartService;
use catalog::CatalogService;
use contracts::cart::{CartCheckedOut, Carts, ObservedCarts};
use contracts::catalog::{Catalog, ObservedCatalog};
use contracts::events::{DomainEvent, EventHandler};
use contracts::inventory::{Inventory, ObservedInventory, StockReleased};
use contracts::orders::{ObservedOrders, OrderCancelled, Orders};
use contracts::payments::{
    ObservedPayments, PaymentProvider, PaymentRefundFailed, PaymentRefunded, Payments,
};
use contracts::replication::ReplicaSink;
use contracts::shipping::{ObservedShipping, ShipmentStopFailed, ShipmentStopped, Shipping};
use contracts::users::{CONTEXT, ObservedUsers, Users};
use contracts::{Clock, SystemClock};
use control::{ControlStore, Side};
use db::events::{InProcessBus, Outbox};
use db::replication::ContextLog;
use db::schema::SchemaSource;
use db::{Db, DbError};
use inventory::InventoryService;
use orders::{Checkout, OrdersService};
use payments::PaymentsService;
use remote::by_flag::FlagUsers;
use remote::dual_write::DualWriteUsers;
use remote::flags::Flags;
use remote::follow::{Following, follow};
use remote::ownership::{OwnedUsers, Ownership};
use remote::payment_provider;
use remote::relay::{Relay, RelayHandle, RelaySettings};
use remote::users::{Client, ClientSettings};
use shipping::ShippingService;
use users::UsersService;

use crate::metrics::PortMetrics;
use crate::settings::{Settings, Wiring};

/// How long the relay waits for one image to be taken: longer than a write waits, or a busy side would look dead.
const IMAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// The schema of every context, in the order in which it is applied.
pub const SCHEMAS: [SchemaSource; 11] = [
    db::replication::SCHEMA,
    db::events::SCHEMA,
    db::saga::SCHEMA,
    db::idempotency::SCHEMA,
    users::SCHEMA,
    catalog::SCHEMA,
    cart::SCHEMA,
    inventory::SCHEMA,
    orders::SCHEMA,
    payments::SCHEMA,
    shipping::SCHEMA,
];

/// Who hears what: an event is written once for each consumer named here.
pub const SUBSCRIPTIONS: [(&str, &str); 9] = [
    (CartCheckedOut::KIND, contracts::cart::CONTEXT),
    (OrderCancelled::KIND, contracts::inventory::CONTEXT),
    (OrderCancelled::KIND, contracts::payments::CONTEXT),
    (OrderCancelled::KIND, contracts::shipping::CONTEXT),
    (StockReleased::KIND, contracts::orders::CONTEXT),
    (PaymentRefunded::KIND, contracts::orders::CONTEXT),
    (PaymentRefundFailed::KIND, contracts::orders::CONTEXT),
    (ShipmentStopped::KIND, contracts::orders::CONTEXT),
    (ShipmentStopFailed::KIND, contracts::orders::CONTEXT),
];

/// The contexts of a running monolith.
pub struct Contexts {
    /// The users of this side.
    pub users: Arc<dyn Users>,
    /// The catalog.
    pub catalog: Arc<dyn Catalog>,
    /// The carts.
    pub carts: Arc<dyn Carts>,
    /// The stock.
    pub inventory: Arc<dyn Inventory>,
    /// The orders.
    pub orders: Arc<dyn Orders>,
    /// The payments.
    pub payments: Arc<dyn Payments>,
    /// The shipments.
    pub shipping: Arc<dyn Shipping>,
    /// Takes images of users while the service owns them.
    pub replica: Arc<dyn ReplicaSink>,
    /// Sends images to the service while the monolith owns users, where a service is set.
    pub relay: Option<RelayHandle>,
    /// Follows the control store, where one is set, for as long as it is kept.
    pub following: Option<Following>,
    /// Delivers events to the contexts that hear them.
    pub bus: InProcessBus,
    /// What events are written into.
    pub outbox: Outbox,
    /// Brings orders to their end.
    pub checkout: Checkout,
}

/// Opens the database, creates it at the first start and applies the schema. Blocking.
pub fn open_database(settings: &Settings) -> Result<Db> {
    let db = Db::open(&settings.database)?;
    db::schema::apply(&db, &SCHEMAS)?;
    CatalogService::new(db.clone(), Arc::new(SystemClock)).index_older_products()?;
    db.write_blocking(|conn| {
        db::replication::ensure_context(conn, CONTEXT, true)?;
        Ok::<_, DbError>(())
    })?;
    Ok(db)
}

/// Opens the database for an operator's look at it: the schema is that of the processes that serve, so it is not changed.
pub fn open_present_database(settings: &Settings) -> Result<Db> {
    let db = Db::open(&settings.database)?;
    let missing = db::schema::status(&db, &SCHEMAS)?.into_iter().find(|step| step.applied_at.is_none());
    if let Some(step) = missing {
        bail!(
            "{} lacks step {} of the schema of {}; bring it up to date with `monolith schema apply`, or use the binary \
             that serves it",
            db.path(),
            step.name,
            step.context
        );
    }
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
pub fn serving(
    settings: &Settings,
    db: &Db,
    control: Option<ControlStore>,
    metrics: &PortMetrics,
) -> Result<Contexts> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let outbox = Outbox::new(&SUBSCRIPTIONS);
    let embedded = metrics.observer("embedded");
    let people = people(settings, db, control, metrics)?;

    let catalog = Arc::new(CatalogService::new(db.clone(), Arc::clone(&clock)));
    let catalog: Arc<dyn Catalog> = Arc::new(ObservedCatalog::new(catalog, Arc::clone(&embedded)));
    let stock = Arc::new(InventoryService::new(db.clone(), Arc::clone(&clock), outbox.clone()));
    let inventory: Arc<dyn Inventory> =
        Arc::new(ObservedInventory::new(stock.clone(), Arc::clone(&embedded)));
    let cart = Arc::new(CartService::new(
        db.clone(),
        Arc::clone(&clock),
        Arc::clone(&people.asked_by_others),
        Arc::clone(&catalog),
    ));
    let carts: Arc<dyn Carts> = Arc::new(ObservedCarts::new(cart.clone(), Arc::clone(&embedded)));
    let pay =
        Arc::new(PaymentsService::new(db.clone(), Arc::clone(&clock), provider(settings)?, outbox.clone()));
    let payments: Arc<dyn Payments> = Arc::new(ObservedPayments::new(pay.clone(), Arc::clone(&embedded)));
    let ship = Arc::new(ShippingService::new(db.clone(), Arc::clone(&clock), outbox.clone()));
    let shipping: Arc<dyn Shipping> = Arc::new(ObservedShipping::new(ship.clone(), Arc::clone(&embedded)));
    let order = OrdersService::new(
        db.clone(),
        clock,
        outbox.clone(),
        people.asked_by_others,
        Arc::clone(&catalog),
        Arc::clone(&carts),
        Arc::clone(&payments),
    );
    let orders: Arc<dyn Orders> = Arc::new(ObservedOrders::new(Arc::new(order.clone()), embedded));

    let checkout =
        Checkout::new(order.clone(), Arc::clone(&inventory), Arc::clone(&payments), Arc::clone(&shipping));
    let ears: Vec<Arc<dyn EventHandler>> = vec![cart, stock, Arc::new(order), pay, ship];
    let bus = InProcessBus::new(ears);
    bus.check(&outbox).map_err(anyhow::Error::msg)?;
    Ok(Contexts {
        users: people.users,
        catalog,
        carts,
        inventory,
        orders,
        payments,
        shipping,
        replica: people.replica,
        relay: people.relay,
        following: people.following,
        bus,
        outbox,
        checkout,
    })
}

/// Wires the contexts for a command that writes beside a serving monolith, or before there is one.
pub fn loading(db: &Db, control: Option<ControlStore>) -> crate::import::Ports {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let outbox = Outbox::new(&SUBSCRIPTIONS);
    let store = Arc::new(UsersService::new(db.clone(), Arc::clone(&clock)));
    let log = Arc::new(ContextLog::new(db.clone(), CONTEXT));
    let ownership = Ownership::new(CONTEXT, Side::Monolith, log, control);
    let users: Arc<dyn Users> = Arc::new(OwnedUsers::new(store, Arc::new(ownership)));
    let catalog: Arc<dyn Catalog> = Arc::new(CatalogService::new(db.clone(), Arc::clone(&clock)));
    let carts = CartService::new(db.clone(), Arc::clone(&clock), Arc::clone(&users), Arc::clone(&catalog));
    let payments = PaymentsService::new(db.clone(), Arc::clone(&clock), None, outbox.clone());
    let inventory = InventoryService::new(db.clone(), Arc::clone(&clock), outbox.clone());
    let orders = OrdersService::new(
        db.clone(),
        clock,
        outbox,
        Arc::clone(&users),
        Arc::clone(&catalog),
        Arc::new(carts),
        Arc::new(payments),
    );
    crate::import::Ports { users, catalog, inventory: Arc::new(inventory), orders: Arc::new(orders) }
}

/// The users of a serving monolith.
struct People {
    users: Arc<dyn Users>,
    asked_by_others: Arc<dyn Users>,
    replica: Arc<dyn ReplicaSink>,
    relay: Option<RelayHandle>,
    following: Option<Following>,
}

fn people(
    settings: &Settings,
    db: &Db,
    control: Option<ControlStore>,
    metrics: &PortMetrics,
) -> Result<People> {
    let store = Arc::new(UsersService::new(db.clone(), Arc::new(SystemClock)));
    let log = Arc::new(ContextLog::new(db.clone(), CONTEXT));
    let ownership = Arc::new(Ownership::new(CONTEXT, Side::Monolith, log.clone(), control.clone()));
    let relay = relay(settings, log.clone())?;
    let (delivered, wiring): (Arc<dyn Users>, _) = match &relay {
        Some(relay) => {
            let deadline = Duration::from_millis(settings.replication.deadline_ms);
            (Arc::new(DualWriteUsers::new(store.clone(), relay.clone(), deadline)), "dual-write")
        }
        None => (store.clone(), "embedded"),
    };
    let owned = Arc::new(OwnedUsers::new(delivered, Arc::clone(&ownership)));
    let users: Arc<dyn Users> = Arc::new(ObservedUsers::new(owned, metrics.observer(wiring)));

    let flags = control.as_ref().map(|control| Flags::load(control, CONTEXT)).transpose()?;
    let asked_by_others: Arc<dyn Users> = match (settings.users.wiring, &flags) {
        (Wiring::Flag, Some(flags)) => {
            let service = Arc::new(ObservedUsers::new(service(settings)?, metrics.observer("remote")));
            let by_flag = Arc::new(FlagUsers::new(Arc::clone(&users), service, flags.clone()));
            Arc::new(ObservedUsers::new(by_flag, metrics.observer("flag")))
        }
        _ => Arc::clone(&users),
    };
    let following = match (control, flags) {
        (Some(control), Some(flags)) => {
            let instance = format!("monolith-{}", std::process::id());
            Some(follow(control, instance, ownership, flags, log).context("cannot watch the control store")?)
        }
        _ => None,
    };
    Ok(People { users, asked_by_others, replica: store, relay, following })
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

fn provider(settings: &Settings) -> Result<Option<Arc<dyn PaymentProvider>>> {
    let provider = &settings.payments.provider;
    if provider.url.is_empty() {
        return Ok(None);
    }
    let client = payment_provider::Client::new(&payment_provider::ClientSettings {
        url: provider.url.clone(),
        token: provider.token.clone(),
        timeout: Duration::from_millis(provider.timeout_ms),
    });
    Ok(Some(Arc::new(client.context("payments.provider is wrong")?)))
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

#[cfg(test)]
mod tests;
