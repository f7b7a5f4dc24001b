//! The running service: what stands behind what.
//!
//! Invariant: the public routes and the private ones reach the users through the same decorators; only images of the
//! other side go past them, straight into the store.

mod housekeeping;

use std::sync::Arc;

use actix_web::web::ServiceConfig;
use contracts::replication::{Fence, IntentLog, ReplicaSink};
use contracts::users::{CONTEXT, Users};
use contracts::{SystemClock, Unavailable};
use control::{ControlError, ControlStore, Side};
use db::replication::{self, ContextLog};
use db::schema::{self, SchemaError, SchemaSource, StepStatus};
use db::{Db, DbError, idempotency};
use platform::http::{self, Health, ServeError};
use platform::settings::Secret;
use remote::PeerError;
use remote::dual_write::DualWriteUsers;
use remote::flags::Flags;
use remote::follow::follow;
use remote::ownership::{OwnedUsers, Ownership};
use remote::relay::{self, Relay, RelayHandle, RelaySettings};

use self::housekeeping::Housekeeping;
use crate::service::PeopleService;
use crate::settings::{Incomplete, Settings};

/// Every schema in the service's database, in the order in which it is applied.
pub const SCHEMAS: [SchemaSource; 3] = [replication::SCHEMA, idempotency::SCHEMA, crate::SCHEMA];

/// Why the service could not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Settings are missing.
    #[error(transparent)]
    Settings(#[from] Incomplete),
    /// The listener failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The schema is not one to serve with.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The control store failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The monolith's address or token is no use.
    #[error("setting replication.url or replication.token")]
    Monolith(#[from] PeerError),
    /// The fence could not be looked at.
    #[error(transparent)]
    Fence(#[from] Unavailable),
    /// A thread or the announcement failed.
    #[error("the process could not start")]
    Start(#[from] std::io::Error),
}

impl From<diesel::result::Error> for ProcessError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Brings the schema up to date and returns the steps that were missing. A new database begins with its fence closed:
/// the monolith owns the users until a switch says otherwise.
pub fn prepare(db: &Db) -> Result<Vec<StepStatus>, ProcessError> {
    let applied = schema::apply(db, &SCHEMAS)?;
    db.write_blocking(|conn| Ok::<_, ProcessError>(replication::ensure_context(conn, CONTEXT, false)?))?;
    Ok(applied)
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(settings: &Settings) -> Result<(), ProcessError> {
    settings.check()?;
    // Before anything is opened: a service that finds its port taken must leave no trace.
    let listener = http::bind(&settings.http.listen, "http.listen")?;
    let db = Db::open(&settings.database)?;
    prepare(&db)?;
    let control = ControlStore::open(&settings.control)?;
    let parts = Parts::assemble(settings, &db, &control)?;
    let flags = Flags::load(&control, CONTEXT)?;
    let instance = format!("users-service-{}", std::process::id());
    // Once before the first request, so that a fence left by a switch that died is in line already.
    parts.ownership.reconcile().await?;
    let following =
        follow(control.clone(), instance, Arc::clone(&parts.ownership), flags, Arc::clone(&parts.log))?;
    let housekeeping = Housekeeping::spawn(db.clone(), settings.idempotency.kept());
    let health =
        Health::new().check("database", move || db.check()).check("control", move || control.check());
    http::announce("listening", &listener)?;
    let routes = move |config: &mut ServiceConfig| parts.routes(config);
    http::serve(listener, &settings.http, health, routes).await?;
    drop((following, housekeeping));
    Ok(())
}

/// What the routes need.
#[derive(Clone)]
struct Parts {
    users: Arc<dyn Users>,
    sink: Arc<dyn ReplicaSink>,
    log: Arc<dyn IntentLog>,
    ownership: Arc<Ownership>,
    relay: RelayHandle,
    token: Secret,
}

impl Parts {
    /// Composes the port: ownership over dual-write over the store.
    fn assemble(settings: &Settings, db: &Db, control: &ControlStore) -> Result<Self, ProcessError> {
        let replication = &settings.replication;
        let store = Arc::new(PeopleService::new(db.clone(), Arc::new(SystemClock)));
        let log = Arc::new(ContextLog::new(db.clone(), CONTEXT));
        let fence: Arc<dyn Fence> = log.clone();
        let monolith = remote::replica::Client::new(
            &replication.url,
            &replication.token,
            CONTEXT,
            replication.timeout(),
        )?;
        let relay = Relay::spawn(log.clone(), Arc::new(monolith), RelaySettings::default());
        let ownership = Arc::new(Ownership::new(CONTEXT, Side::Service, fence, Some(control.clone())));
        let dual_write = DualWriteUsers::new(store.clone(), relay.clone(), replication.deadline());
        let users = Arc::new(OwnedUsers::new(Arc::new(dual_write), Arc::clone(&ownership)));
        Ok(Self { users, sink: store, log, ownership, relay, token: replication.token.clone() })
    }

    fn routes(&self, config: &mut ServiceConfig) {
        rest::users::configure(config, Arc::clone(&self.users));
        remote::users::routes(config, Arc::clone(&self.users), self.token.clone());
        remote::replica::routes(config, CONTEXT, Arc::clone(&self.sink), self.token.clone());
        relay::routes(config, CONTEXT, self.relay.clone(), self.token.clone());
    }
}

#[cfg(test)]
mod tests {
    use db::Backend;
    use db::testing::{Scratch, scratch};

    use super::*;

    fn empty(backend: Backend) -> Scratch {
        scratch(backend, &[])
    }

    db::on_both!(empty => [preparing_twice_applies_once_and_leaves_the_fence_closed]);

    async fn preparing_twice_applies_once_and_leaves_the_fence_closed(db: Scratch) {
        assert_eq!(prepare(&db).unwrap().len(), SCHEMAS.len());
        assert_eq!(prepare(&db).unwrap(), []);
        assert!(ContextLog::new(db.clone(), CONTEXT).state().await.unwrap().closed);
    }
}
