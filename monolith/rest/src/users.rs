//! `/api/v1/users`, written against the port [`Users`].
//!
//! Invariant: the bytes of an answer depend on the user alone, not on the side that answers.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use contracts::users::{Address, User, UserDetails, Users};
use contracts::{TEXT, Timestamp, UserId};
use platform::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer, unprocessable, users_problem};
use crate::body::Body;
use crate::command::Command;
use crate::document::Document;
use crate::object::Object;
use crate::operation::{self, Draft, Operation, delete, get, post, put};
use crate::precondition::{expected, tagged};
use crate::query::{Listing, Parameters};
use crate::request::{PathId, call};

const COLLECTION: &str = "/api/v1/users";
const ITEM: &str = "/api/v1/users/{id}";
const KIND: &str = "users";

/// Adds the routes of the users context.
pub fn configure(config: &mut ServiceConfig, users: Arc<dyn Users>) {
    operation::serve(config, &Data::from(users), &operations());
}

/// Adds the operations of the users context to the document.
pub fn describe(document: &mut Document) {
    document.add("users", &operations());
}

fn operations() -> [Operation; 5] {
    let item = |draft: Draft| draft.part::<UserId>("id", "The user's id.");
    [
        get(COLLECTION, "list_users", "Lists users by id.").pages::<UserView>().to(list),
        post(COLLECTION, "create_user", "Adds a user.")
            .body::<UserBody>()
            .creates::<UserView>()
            .tagged()
            .refuses([409])
            .to(create),
        item(get(ITEM, "read_user", "Shows a user.")).returns::<UserView>().tagged().to(read),
        item(put(ITEM, "replace_user", "Replaces all details of a user."))
            .body::<UserBody>()
            .returns::<UserView>()
            .tagged()
            .guarded()
            .refuses([409])
            .to(replace),
        item(delete(ITEM, "delete_user", "Removes a user.")).guarded().to(remove),
    ]
}

/// What a client sends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserBody {
    /// Up to 200 characters.
    #[schemars(length(min = 1, max = 200), regex(pattern = TEXT))]
    name: String,
    /// Unique among users; kept in lower case.
    #[schemars(length(min = 3, max = 254), regex(pattern = r"^[!-?A-~]+@[!-?A-~]+$"))]
    email: String,
    /// Up to 40 characters.
    #[schemars(length(min = 1, max = 40), regex(pattern = TEXT))]
    phone: Option<String>,
    /// Up to 20.
    #[serde(default)]
    #[schemars(length(max = 20))]
    addresses: Vec<Object<Address>>,
}

impl UserBody {
    fn parse(self) -> Result<UserDetails, Problem> {
        let addresses = self.addresses.into_iter().map(|Object(address)| address).collect();
        UserDetails::parse(self.name, self.email, self.phone, addresses).map_err(unprocessable)
    }
}

/// What a client sees: the user without our version counter, every field there, unknown ones null.
#[derive(Debug, Serialize, JsonSchema)]
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

async fn create(users: Data<dyn Users>, command: Command<UserBody>) -> Answer {
    let user = users.create(&command.ctx, command.body.parse()?).await.map_err(users_problem)?;
    Ok(answer::created_tagged(COLLECTION, user.id, user.version, &UserView::from(user)))
}

async fn read(request: HttpRequest, users: Data<dyn Users>, PathId(id): PathId<UserId>) -> Answer {
    let user = users.get(&call(&request), id).await.map_err(users_problem)?;
    tagged(&request, user.version, &UserView::from(user))
}

async fn replace(
    request: HttpRequest,
    users: Data<dyn Users>,
    PathId(id): PathId<UserId>,
    Body(body): Body<UserBody>,
) -> Answer {
    let (details, expected) = (body.parse()?, expected(&request)?);
    let user = users.update(&call(&request), id, details, expected).await.map_err(users_problem)?;
    tagged(&request, user.version, &UserView::from(user))
}

async fn remove(request: HttpRequest, users: Data<dyn Users>, PathId(id): PathId<UserId>) -> Answer {
    users.delete(&call(&request), id, expected(&request)?).await.map_err(users_problem)?;
    Ok(HttpResponse::NoContent().finish())
}

async fn list(request: HttpRequest, users: Data<dyn Users>) -> Answer {
    let window = Parameters::parse(&request, &["limit", "cursor"])?.window(KIND)?;
    let after = window.after.and_then(|after| UserId::try_from(after).ok());
    let page = users.list(&call(&request), after, window.limit).await.map_err(users_problem)?;
    Ok(answer::ok(&Listing::new(KIND, page, |user: &User| user.id.get(), UserView::from)))
}
