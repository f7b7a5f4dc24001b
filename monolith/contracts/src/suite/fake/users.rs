//! A users context in memory.
//!
//! Invariant: shows every fact of the port's suite; it always owns its data.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{EPOCH, Keys, page};
use crate::users::{Ensured, User, UserDetails, Users, UsersError};
use crate::{CallContext, Page, UserId};

/// A users context in memory.
#[derive(Debug, Default)]
pub struct FakeUsers {
    state: Mutex<State>,
    keys: Keys,
}

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<UserId, User>,
    ids: i64,
    version: i64,
}

impl State {
    fn create(&mut self, details: UserDetails) -> Result<User, UsersError> {
        self.check_email(None, &details)?;
        self.ids += 1;
        let id = UserId::try_from(self.ids).map_err(|_| UsersError::NotOwner)?;
        let user = User { id, details, created_at: EPOCH, updated_at: EPOCH, version: self.next_version() };
        self.users.insert(id, user.clone());
        Ok(user)
    }

    fn check_email(&self, id: Option<UserId>, details: &UserDetails) -> Result<(), UsersError> {
        let taken = |user: &&User| user.details.email == details.email && Some(user.id) != id;
        match self.users.values().find(taken) {
            Some(_) => Err(UsersError::EmailTaken { email: details.email.clone() }),
            None => Ok(()),
        }
    }

    fn at(&self, id: UserId, expected: Option<i64>) -> Result<&User, UsersError> {
        let user = self.users.get(&id).ok_or(UsersError::NotFound { id })?;
        if expected.is_some_and(|expected| expected != user.version) {
            return Err(UsersError::Changed { id });
        }
        Ok(user)
    }

    fn next_version(&mut self) -> i64 {
        self.version += 1;
        self.version
    }
}

impl FakeUsers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Users for FakeUsers {
    async fn create(&self, ctx: &CallContext, details: UserDetails) -> Result<User, UsersError> {
        if let Some(user) = self.keys.found(ctx, "create")? {
            return Ok(user);
        }
        let user = self.state().create(details)?;
        Ok(self.keys.keep(ctx, "create", user))
    }

    async fn get(&self, _: &CallContext, id: UserId) -> Result<User, UsersError> {
        self.state().at(id, None).cloned()
    }

    async fn update(
        &self,
        _: &CallContext,
        id: UserId,
        details: UserDetails,
        expected: Option<i64>,
    ) -> Result<User, UsersError> {
        let mut state = self.state();
        let before = state.at(id, expected)?.clone();
        state.check_email(Some(id), &details)?;
        let user = User { details, version: state.next_version(), ..before };
        state.users.insert(id, user.clone());
        Ok(user)
    }

    async fn delete(&self, _: &CallContext, id: UserId, expected: Option<i64>) -> Result<i64, UsersError> {
        let mut state = self.state();
        state.at(id, expected)?;
        state.users.remove(&id);
        Ok(state.next_version())
    }

    async fn list(
        &self,
        _: &CallContext,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<User>, UsersError> {
        let state = self.state();
        Ok(page(state.users.values().filter(|user| Some(user.id) > after).cloned(), limit))
    }

    async fn ensure(
        &self,
        _: &CallContext,
        batch: Vec<UserDetails>,
    ) -> Result<Vec<Ensured<UserId>>, UsersError> {
        let mut state = self.state();
        let ensure = |details: UserDetails| {
            let there = state.users.values().find(|user| user.details.email == details.email);
            if let Some(user) = there {
                return Ok(Ensured { id: user.id, added: false });
            }
            Ok(Ensured { id: state.create(details)?.id, added: true })
        };
        batch.into_iter().map(ensure).collect()
    }
}
