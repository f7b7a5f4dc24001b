//! The tables as the service fills them while the monolith owns the users.
//!
//! Invariant: an image is the port's user; how it falls apart into rows is the domain's mapping and nothing else.

use contracts::UserId;
use contracts::users::{CONTEXT, User};
use db::Conn;
use db::replication::{ReplicaTable, Rival};
use diesel::{OptionalExtension, QueryDsl, QueryResult, RunQueryDsl};
use serde_json::Value;

use super::{email, rows};
use crate::domain;
use crate::schema::person;

/// The service's tables, for the rules of dual-write.
pub(crate) struct People;

impl ReplicaTable for People {
    type Key = UserId;
    type State = User;

    const CONTEXT: &'static str = CONTEXT;

    fn key(id: &str) -> Result<UserId, String> {
        id.parse().map_err(|error| format!("{error}"))
    }

    fn state(key: UserId, version: i64, value: Value) -> Result<User, String> {
        let user: User = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if (user.id, user.version) != (key, version) {
            return Err(format!("its state is of user {} at version {}", user.id, user.version));
        }
        Ok(user)
    }

    fn version(conn: &mut Conn, key: UserId) -> QueryResult<Option<i64>> {
        person::table.find(key.get()).select(person::row_version).get_result(conn).optional()
    }

    fn rival(conn: &mut Conn, key: UserId, state: &User) -> QueryResult<Option<Rival>> {
        let holder = email::holder(conn, &state.details.email)?;
        let rival = holder.filter(|holder| holder.person_id != key.get());
        Ok(rival.map(|holder| Rival { id: holder.person_id.to_string(), version: holder.row_version }))
    }

    fn put(conn: &mut Conn, key: UserId, state: &User) -> QueryResult<()> {
        let mapped = domain::map(state);
        db::on_each!(conn, |conn| {
            diesel::insert_into(person::table)
                .values(&mapped.person)
                .on_conflict(person::person_id)
                .do_update()
                .set(&mapped.person)
                .execute(conn)?
        });
        rows::remove_parts(conn, key.get())?;
        rows::add_parts(conn, key.get(), &state.details)
    }

    fn remove(conn: &mut Conn, key: UserId) -> QueryResult<()> {
        rows::remove(conn, key.get())
    }
}
