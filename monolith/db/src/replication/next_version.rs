//! The first statement of every client write.
//!
//! Invariant: one statement reads the fence, takes the version and reads the switch. It is a query of its own
//! because diesel prepares its own UPDATE statements anew at every call, and a bulk load runs this per row.

use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::{QueryResult, RunQueryDsl};

use crate::{Conn, MultiBackend};

#[derive(Debug, Clone, Copy, QueryId)]
pub(super) struct NextVersion {
    pub(super) context: &'static str,
}

impl QueryFragment<MultiBackend> for NextVersion {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, MultiBackend>) -> QueryResult<()> {
        out.push_sql("UPDATE banyan_contexts SET version = version + 1 WHERE context = ");
        out.push_bind_param::<Text, _>(self.context)?;
        out.push_sql(" AND fence = 'open' RETURNING version, dual_write");
        Ok(())
    }
}

impl Query for NextVersion {
    type SqlType = (BigInt, Bool);
}

impl RunQueryDsl<Conn> for NextVersion {}
