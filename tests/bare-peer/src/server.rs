//! The two requests.
//!
//! Invariant: one thread of the blocking pool per request, and nothing around the handlers.

use std::net::TcpListener;

use actix_web::web::{self, Data, Json, Path};
use actix_web::{App, HttpResponse, HttpServer, error};
use anyhow::Result;

use crate::json::{Order, OrderBody, User};

/// What the handlers need of a database. Everything blocks.
pub(crate) trait Database: Clone + Send + Sync + 'static {
    fn user(&self, id: i64) -> Result<Option<User>>;

    /// Nothing where the user or a product is missing.
    fn place(&self, body: OrderBody) -> Result<Option<Order>>;

    /// Updates each waiting event in a transaction of its own, and returns how many there were.
    fn update_events(&self) -> Result<usize>;
}

/// Serves on a free port, which it prints, with one worker.
pub(crate) fn serve<D: Database>(database: D) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening http://{}", listener.local_addr()?);
    let served = actix_web::rt::System::new().block_on(async {
        let app = move || {
            App::new()
                .app_data(Data::new(database.clone()))
                .route("/api/v1/users/{id}", web::get().to(read_user::<D>))
                .route("/api/v1/orders", web::post().to(place_order::<D>))
        };
        HttpServer::new(app).workers(1).listen(listener)?.run().await
    });
    Ok(served?)
}

async fn read_user<D: Database>(database: Data<D>, id: Path<i64>) -> actix_web::Result<HttpResponse> {
    let user = web::block(move || database.user(*id)).await?.map_err(error::ErrorInternalServerError)?;
    let user = user.ok_or_else(|| error::ErrorNotFound("no such user"))?;
    Ok(HttpResponse::Ok().json(user))
}

async fn place_order<D: Database>(
    database: Data<D>,
    body: Json<OrderBody>,
) -> actix_web::Result<HttpResponse> {
    let placed = web::block(move || database.place(body.into_inner())).await?;
    let order = placed.map_err(error::ErrorInternalServerError)?;
    let order = order.ok_or_else(|| error::ErrorUnprocessableEntity("no such user or product"))?;
    let location = format!("/api/v1/orders/{}", order.id);
    Ok(HttpResponse::Created().insert_header(("location", location)).json(order))
}
