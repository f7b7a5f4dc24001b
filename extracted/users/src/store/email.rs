//! Who holds an e-mail address.
//!
//! Invariant: the kind stands in the statement itself. SQLite uses a partial index only where it sees its condition,
//! which a bound value hides; and diesel prepares a statement with literal SQL anew each time unless it is a query of
//! its own.

use db::Conn;
use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, HasSqlType, Text};
use diesel::{OptionalExtension, QueryResult, RunQueryDsl};

/// A person with an e-mail address.
pub(super) struct Holder {
    pub(super) person_id: i64,
    pub(super) row_version: i64,
}

/// The person who has this address.
pub(super) fn holder(conn: &mut Conn, email: &str) -> QueryResult<Option<Holder>> {
    let found: Option<(i64, i64)> = HolderOf { email }.get_result(conn).optional()?;
    Ok(found.map(|(person_id, row_version)| Holder { person_id, row_version }))
}

#[derive(Debug, Clone, Copy)]
struct HolderOf<'a> {
    email: &'a str,
}

impl QueryId for HolderOf<'_> {
    type QueryId = HolderOf<'static>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<DB> QueryFragment<DB> for HolderOf<'_>
where
    DB: Backend + HasSqlType<Text>,
    str: ToSql<Text, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql(
            "SELECT person_id, row_version FROM contact JOIN person USING (person_id) \
             WHERE kind = 'email' AND value = ",
        );
        out.push_bind_param::<Text, _>(self.email)
    }
}

impl Query for HolderOf<'_> {
    type SqlType = (BigInt, BigInt);
}

impl RunQueryDsl<Conn> for HolderOf<'_> {}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::sqlite::Sqlite;
    use diesel::{Connection, QueryableByName, SqliteConnection, sql_query};

    use super::*;

    #[derive(QueryableByName)]
    struct Plan {
        #[diesel(sql_type = Text)]
        detail: String,
    }

    #[test]
    fn finding_a_holder_uses_the_partial_index() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        conn.batch_execute(crate::SCHEMA.migrations[0].sqlite.up).unwrap();
        let query = diesel::debug_query::<Sqlite, _>(&HolderOf { email: "x" }).to_string();
        let (sql, _) = query.split_once(" -- ").unwrap();
        let plan: Vec<Plan> =
            sql_query(format!("EXPLAIN QUERY PLAN {sql}")).bind::<Text, _>("x").load(&mut conn).unwrap();
        assert!(plan.iter().any(|step| step.detail.contains("contact_email")));
        assert!(plan.iter().all(|step| !step.detail.starts_with("SCAN")));
    }
}
