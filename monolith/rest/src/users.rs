//! `/api/v1/users`, written against the port [`Users`].
//!
//! Invariant: the bytes of an answer depend on the user alone, not on the side that answers.

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::users::{Address, User, UserDetails, Users};
use contracts::{Timestamp, UserId};
use platform::problem::Problem;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer, unprocessable, users_problem};
use crate::body::Body;
use crate::object::Object;
use crate::query::{Listing, Parameters};
use crate::request::{PathId, call};

const COLLECTION: &str = "/api/v1/users";
const KIND: &str = "users";

/// Adds the routes of the users context.
pub fn configure(config: &mut ServiceConfig, users: Arc<dyn Users>) {
    let users = Data::from(users);
    let collection = [web::get().to(list), web::head().to(list), web::post().to(create)];
    answer::resource(config, COLLECTION, "GET, HEAD, POST", collection, |resource| {
        resource.app_data(users.clone())
    });
    let item = [web::get().to(read), web::head().to(read), web::put().to(replace), web::delete().to(remove)];
    answer::resource(config, &format!("{COLLECTION}/{{id}}"), "GET, HEAD, PUT, DELETE", item, |resource| {
        resource.app_data(users)
    });
}

/// What a client sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody {
    name: String,
    email: String,
    phone: Option<String>,
    #[serde(default)]
    addresses: Vec<Object<Address>>,
}

impl UserBody {
    fn parse(self) -> Result<UserDetails, Problem> {
        let addresses = self.addresses.into_iter().map(|Object(address)| address).collect();
        UserDetails::parse(self.name, self.email, self.phone, addresses).map_err(unprocessable)
    }
}

/// What a client sees: the user without our version counter, every field there, unknown ones null.
#[derive(Debug, Serialize)]
struct UserView {
    id: UserId,
    name: String,
    email: String,
    phone: Option<String>,
    addresses: Vec<Address>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let User { id, details, created_at, updated_at, version: _ } = user;
        let UserDetails { name, email, phone, addresses } = details;
        Self { id, name, email, phone, addresses, created_at, updated_at }
    }
}

async fn create(request: HttpRequest, users: Data<dyn Users>, Body(body): Body<UserBody>) -> Answer {
    let user = users.create(&call(&request), body.parse()?).await.map_err(users_problem)?;
    Ok(answer::created(COLLECTION, user.id, &UserView::from(user)))
}

async fn read(request: HttpRequest, users: Data<dyn Users>, PathId(id): PathId<UserId>) -> Answer {
    let user = users.get(&call(&request), id).await.map_err(users_problem)?;
    Ok(answer::ok(&UserView::from(user)))
}

async fn replace(
    request: HttpRequest,
    users: Data<dyn Users>,
    PathId(id): PathId<UserId>,
    Body(body): Body<UserBody>,
) -> Answer {
    let user = users.update(&call(&request), id, body.parse()?).await.map_err(users_problem)?;
    Ok(answer::ok(&UserView::from(user)))
}

async fn remove(request: HttpRequest, users: Data<dyn Users>, PathId(id): PathId<UserId>) -> Answer {
    users.delete(&call(&request), id).await.map_err(users_problem)?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list(request: HttpRequest, users: Data<dyn Users>) -> Answer {
    let window = Parameters::parse(&request, &["limit", "cursor"])?.window(KIND)?;
    let after = window.after.and_then(|after| UserId::try_from(after).ok());
    let page = users.list(&call(&request), after, window.limit).await.map_err(users_problem)?;
    Ok(answer::ok(&Listing::new(KIND, page, |user: &User| user.id.get(), UserView::from)))
}
