//! The statements of the service. Each function belongs inside a transaction of its caller.
//!
//! Invariant: a user is one row of `person` and what hangs on it, written and removed together; a write and its image
//! are one transaction, with the version taken first.

mod email;
mod replica;
mod rows;

use contracts::users::{CONTEXT, Ensured, User, UserDetails};
use contracts::{KeyReused, Page, Timestamp, UserId};
use db::replication::{Change, ChangeError, check_open};
use db::{Conn, DbError};
use diesel::dsl::exists;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::Bool;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, OptionalExtension, QueryDsl, RunQueryDsl,
    SelectableHelper,
};

use crate::domain::{self, Person, RowError};
use crate::schema::person;

pub(crate) use replica::People;

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
        Self::Database(DbError::Corrupt { what: format!("a person with {error} in another form") })
    }
}

pub(crate) fn create(conn: &mut Conn, details: UserDetails, now: Timestamp) -> Result<User, StoreError> {
    let change = Change::begin(conn, CONTEXT)?;
    let (given, family) = domain::split_name(&details.name);
    let id: i64 = diesel::insert_into(person::table)
        .values((
            person::given_name.eq(given),
            person::family_name.eq(family),
            person::registered_ms.eq(now.as_millis()),
            person::changed_ms.eq(now.as_millis()),
            person::row_version.eq(change.version),
        ))
        .returning(person::person_id)
        .get_result(conn)?;
    rows::add_parts(conn, id, &details).map_err(|error| taken(error, &details.email))?;
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
    let (given, family) = domain::split_name(&details.name);
    let registered: Option<i64> = diesel::update(at_version(id, expected))
        .set((
            person::given_name.eq(given),
            person::family_name.eq(family),
            person::changed_ms.eq(now.as_millis()),
            person::row_version.eq(change.version),
        ))
        .returning(person::registered_ms)
        .get_result(conn)
        .optional()?;
    let Some(registered) = registered else { return Err(missing(conn, id)) };
    let created_at = Timestamp::from_millis(registered);
    rows::remove_parts(conn, id.get())?;
    rows::add_parts(conn, id.get(), &details).map_err(|error| taken(error, &details.email))?;
    let user = User { id, details, created_at, updated_at: now, version: change.version };
    keep_image(conn, &change, &user)?;
    Ok(user)
}

pub(crate) fn delete(conn: &mut Conn, id: UserId, expected: Option<i64>) -> Result<i64, StoreError> {
    let change = Change::begin(conn, CONTEXT)?;
    if diesel::delete(at_version(id, expected)).execute(conn)? == 0 {
        return Err(missing(conn, id));
    }
    rows::remove_parts(conn, id.get())?;
    change.tombstone(conn, &id.to_string())?;
    change.record(conn, &id.to_string(), None)?;
    Ok(change.version)
}

pub(crate) fn get(conn: &mut Conn, id: UserId) -> Result<User, StoreError> {
    let found = person::table.find(id.get()).select(Person::as_select()).get_result(conn).optional()?;
    let person = found.ok_or(StoreError::NotFound(id))?;
    let users = rows::users_of(conn, vec![person])?;
    users.into_iter().next().ok_or(StoreError::NotFound(id))
}

pub(crate) fn list(conn: &mut Conn, after: Option<UserId>, limit: u32) -> Result<Page<User>, StoreError> {
    let mut persons: Vec<Person> = person::table
        .filter(person::person_id.gt(after.map_or(0, UserId::get)))
        .order(person::person_id)
        .limit(i64::from(limit) + 1)
        .select(Person::as_select())
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = persons.len() > limit;
    persons.truncate(limit);
    Ok(Page { items: rows::users_of(conn, persons)?, more })
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
        ensured.push(match email::holder(conn, &details.email)? {
            Some(holder) => {
                Ensured { id: UserId::try_from(holder.person_id).map_err(RowError::Id)?, added: false }
            }
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
    person::table.find(id).filter(person::row_version.eq(seen).or(any.into_sql::<Bool>()))
}

/// Why a write found no row. Told apart only here, so that the common case is one statement.
fn missing(conn: &mut Conn, id: UserId) -> StoreError {
    match diesel::select(exists(person::table.find(id.get()))).get_result(conn) {
        Ok(true) => StoreError::Changed(id),
        Ok(false) => StoreError::NotFound(id),
        Err(error) => error.into(),
    }
}

fn keep_image(conn: &mut Conn, change: &Change, user: &User) -> Result<(), StoreError> {
    if change.dual_write {
        let state =
            serde_json::to_value(user).map_err(|error| DbError::Corrupt { what: error.to_string() })?;
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
