//! The statements of the context. Each function belongs inside a transaction of its caller.
//!
//! Invariant: a write and its image are one transaction, with the version taken first.

use contracts::users::{CONTEXT, Ensured, User, UserDetails};
use contracts::{KeyReused, Page, Timestamp, UserId};
use db::replication::{Change, ChangeError, ReplicaTable, Rival, check_open};
use db::{Conn, DbError};
use diesel::dsl::exists;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::Bool;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, OptionalExtension, QueryDsl, QueryResult, RunQueryDsl,
    SelectableHelper,
};
use serde_json::Value;

use crate::domain::{self, Row, RowError};
use crate::schema::users_users;

/// What stops a use case.
#[derive(Debug)]
pub(crate) enum StoreError {
    NotFound(UserId),
    EmailTaken(String),
    Changed(UserId),
    KeyReused(KeyReused),
    Fenced,
    Database(DbError),
}

impl From<KeyReused> for StoreError {
    fn from(error: KeyReused) -> Self {
        Self::KeyReused(error)
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::Database(DbError::Statement(error))
    }
}

impl From<ChangeError> for StoreError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Fenced => Self::Fenced,
            ChangeError::Database(error) => Self::Database(error),
        }
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        Self::Database(DbError::Corrupt { what: format!("a user with {error} in another form") })
    }
}

pub(crate) fn create(conn: &mut Conn, details: UserDetails, now: Timestamp) -> Result<User, StoreError> {
    let change = Change::begin(conn, CONTEXT)?;
    let inserted = diesel::insert_into(users_users::table)
        .values((
            domain::details_row(&details)?,
            users_users::created_at.eq(now.to_string()),
            users_users::updated_at.eq(now.to_string()),
            users_users::version.eq(change.version),
        ))
        .returning(users_users::id)
        .get_result::<i64>(conn);
    let id = inserted.map_err(|error| taken(error, &details.email))?;
    let id = UserId::try_from(id).map_err(RowError::Id)?;
    let user = User { id, details, created_at: now, updated_at: now, version: change.version };
    keep_image(conn, &change, &user)?;
    Ok(user)
}

pub(crate) fn update(
    conn: &mut Conn,
    id: UserId,
    details: UserDetails,
    expected: Option<i64>,
    now: Timestamp,
) -> Result<User, StoreError> {
    let change = Change::begin(conn, CONTEXT)?;
    let updated = diesel::update(at_version(id, expected))
        .set((
            domain::details_row(&details)?,
            users_users::updated_at.eq(now.to_string()),
            users_users::version.eq(change.version),
        ))
        .returning(users_users::all_columns)
        .get_result(conn)
        .optional();
    let Some(row) = updated.map_err(|error| taken(error, &details.email))? else {
        return Err(missing(conn, id));
    };
    let user = domain::user(row)?;
    keep_image(conn, &change, &user)?;
    Ok(user)
}

pub(crate) fn delete(conn: &mut Conn, id: UserId, expected: Option<i64>) -> Result<i64, StoreError> {
    let change = Change::begin(conn, CONTEXT)?;
    if diesel::delete(at_version(id, expected)).execute(conn)? == 0 {
        return Err(missing(conn, id));
    }
    change.tombstone(conn, &id.to_string())?;
    change.record(conn, &id.to_string(), None)?;
    Ok(change.version)
}

pub(crate) fn get(conn: &mut Conn, id: UserId) -> Result<User, StoreError> {
    // For each backend by itself: through both at once, diesel writes the statement's text anew for every call.
    let row = db::on_each!(conn, |conn| users_users::table
        .find(id.get())
        .select(Row::as_select())
        .get_result(conn)
        .optional()?);
    Ok(domain::user(row.ok_or(StoreError::NotFound(id))?)?)
}

pub(crate) fn list(conn: &mut Conn, after: Option<UserId>, limit: u32) -> Result<Page<User>, StoreError> {
    let rows: Vec<Row> = users_users::table
        .filter(users_users::id.gt(after.map_or(0, UserId::get)))
        .order(users_users::id)
        .limit(i64::from(limit) + 1)
        .select(Row::as_select())
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    let items = rows.into_iter().take(limit).map(domain::user).collect::<Result<_, _>>()?;
    Ok(Page { items, more })
}

pub(crate) fn ensure(
    conn: &mut Conn,
    batch: Vec<UserDetails>,
    now: Timestamp,
) -> Result<Vec<Ensured<UserId>>, StoreError> {
    // Also when everything is there already: ids found on a side that is behind may be gone on the owner.
    check_open(conn, CONTEXT)?;
    let mut ensured = Vec::with_capacity(batch.len());
    for details in batch {
        let found = users_users::table
            .filter(users_users::email.eq(&details.email))
            .select(users_users::id)
            // Not `first`, which SQLite would plan anew for every user of the batch: see `db::Db`.
            .get_result::<i64>(conn)
            .optional()?;
        ensured.push(match found {
            Some(id) => Ensured { id: UserId::try_from(id).map_err(RowError::Id)?, added: false },
            None => Ensured { id: create(conn, details, now)?.id, added: true },
        });
    }
    Ok(ensured)
}

/// The row with this id if it is at the version expected, or at any version where none is expected.
#[diesel::dsl::auto_type(no_type_alias)]
fn at_version(id: UserId, expected: Option<i64>) -> _ {
    let id: i64 = id.get();
    let seen: i64 = expected.unwrap_or_default();
    let any: bool = expected.is_none();
    users_users::table.find(id).filter(users_users::version.eq(seen).or(any.into_sql::<Bool>()))
}

/// Why a write found no row. Told apart only here, so that the common case is one statement.
fn missing(conn: &mut Conn, id: UserId) -> StoreError {
    match diesel::select(exists(users_users::table.find(id.get()))).get_result(conn) {
        Ok(true) => StoreError::Changed(id),
        Ok(false) => StoreError::NotFound(id),
        Err(error) => error.into(),
    }
}

fn keep_image(conn: &mut Conn, change: &Change, user: &User) -> Result<(), StoreError> {
    if change.dual_write {
        let state = serde_json::to_value(user).map_err(RowError::Addresses)?;
        change.record(conn, &user.id.to_string(), Some(&state))?;
    }
    Ok(())
}

/// The only unique value that a client sets is the e-mail address.
fn taken(error: Error, email: &str) -> StoreError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => {
            StoreError::EmailTaken(email.to_owned())
        }
        other => other.into(),
    }
}

/// The table as the side that is not the owner fills it.
pub(crate) struct UsersTable;

impl ReplicaTable for UsersTable {
    type Key = UserId;
    type State = Row;

    const CONTEXT: &'static str = CONTEXT;

    fn key(id: &str) -> Result<UserId, String> {
        id.parse().map_err(|error| format!("{error}"))
    }

    fn state(key: UserId, version: i64, value: Value) -> Result<Row, String> {
        let user: User = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if (user.id, user.version) != (key, version) {
            return Err(format!("its state is of user {} at version {}", user.id, user.version));
        }
        domain::row(&user).map_err(|error| error.to_string())
    }

    fn version(conn: &mut Conn, key: UserId) -> QueryResult<Option<i64>> {
        users_users::table.find(key.get()).select(users_users::version).get_result(conn).optional()
    }

    fn rival(conn: &mut Conn, key: UserId, state: &Row) -> QueryResult<Option<Rival>> {
        let rival: Option<(i64, i64)> = users_users::table
            .filter(users_users::email.eq(&state.email))
            .filter(users_users::id.ne(key.get()))
            .select((users_users::id, users_users::version))
            .get_result(conn)
            .optional()?;
        Ok(rival.map(|(id, version)| Rival { id: id.to_string(), version }))
    }

    fn put(conn: &mut Conn, _: UserId, state: &Row) -> QueryResult<()> {
        db::on_each!(conn, |conn| {
            diesel::insert_into(users_users::table)
                .values(state)
                .on_conflict(users_users::id)
                .do_update()
                .set(state)
                .execute(conn)?
        });
        Ok(())
    }

    fn remove(conn: &mut Conn, key: UserId) -> QueryResult<()> {
        diesel::delete(users_users::table.find(key.get())).execute(conn)?;
        Ok(())
    }
}
