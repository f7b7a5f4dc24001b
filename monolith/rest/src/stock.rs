//! Warehouses, stock and reservations, written against the port [`Inventory`].
//!
//! Invariant: stock changes by adjustments only; what orders take is shown, not set.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::web::{Data, ServiceConfig};
use contracts::inventory::{
    Adjustment, Inventory, InventoryError, Reservation, StockLevel, Warehouse, WarehouseDetails,
};
use contracts::{OrderId, ProductId, TEXT, WarehouseId};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::answer::{self, Answer, inventory_problem, missing, unprocessable};
use crate::command::Command;
use crate::document::Document;
use crate::operation::{self, Operation, get, post};
use crate::query::{Listing, Parameters};
use crate::request::{PathId, call};

const WAREHOUSES: &str = "/api/v1/warehouses";
const WAREHOUSE: &str = "/api/v1/warehouses/{id}";
const ADJUSTMENTS: &str = "/api/v1/stock/adjustments";
const STOCK: &str = "/api/v1/products/{id}/stock";
const RESERVATION: &str = "/api/v1/orders/{id}/reservation";
const KIND: &str = "warehouses";

/// Adds the routes of the inventory context.
pub fn configure(config: &mut ServiceConfig, inventory: Arc<dyn Inventory>) {
    operation::serve(config, &Data::from(inventory), &operations());
}

/// Adds the operations of the inventory context to the document.
pub fn describe(document: &mut Document) {
    document.add("inventory", &operations());
}

fn operations() -> [Operation; 6] {
    [
        get(WAREHOUSES, "list_warehouses", "Lists warehouses by id.").pages::<Warehouse>().to(list),
        post(WAREHOUSES, "create_warehouse", "Adds a warehouse.")
            .body::<WarehouseBody>()
            .creates::<Warehouse>()
            .refuses([409])
            .to(create),
        get(WAREHOUSE, "read_warehouse", "Shows a warehouse.")
            .part::<WarehouseId>("id", "The warehouse's id.")
            .returns::<Warehouse>()
            .to(read),
        post(ADJUSTMENTS, "adjust_stock", "Books goods in or out.")
            .body::<AdjustmentBody>()
            .returns::<StockLevel>()
            .refuses([409])
            .to(adjust),
        get(
            STOCK,
            "read_stock",
            "Shows how many units of a product lie where. A product that never lay anywhere has none.",
        )
        .part::<ProductId>("id", "The product's id.")
        .returns::<Listing<StockLevel>>()
        .to(stock),
        get(RESERVATION, "read_reservation", "Shows what an order has reserved.")
            .part::<OrderId>("id", "The order's id.")
            .returns::<Reservation>()
            .to(reservation),
    ]
}

/// What a client says of a warehouse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WarehouseBody {
    /// Unique: lower-case letters, digits and hyphens.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9-]+$"))]
    code: String,
    #[schemars(length(min = 1, max = 200), regex(pattern = TEXT))]
    name: String,
}

/// Goods that came in or went.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AdjustmentBody {
    warehouse_id: WarehouseId,
    product_id: ProductId,
    /// Units: above zero came in, below zero went.
    #[schemars(range(min = -1_000_000_000, max = 1_000_000_000))]
    delta: i64,
    /// Why, for people.
    #[schemars(length(min = 1, max = 200), regex(pattern = TEXT))]
    reason: String,
}

async fn create(inventory: Data<dyn Inventory>, command: Command<WarehouseBody>) -> Answer {
    let WarehouseBody { code, name } = command.body;
    let details = WarehouseDetails::parse(code, name).map_err(unprocessable)?;
    let warehouse = inventory.add_warehouse(&command.ctx, details).await.map_err(inventory_problem)?;
    Ok(answer::created(WAREHOUSES, warehouse.id, &warehouse))
}

async fn read(
    request: HttpRequest,
    inventory: Data<dyn Inventory>,
    PathId(id): PathId<WarehouseId>,
) -> Answer {
    let found = inventory.warehouse(&call(&request), id).await;
    let warehouse = found.map_err(|error| match &error {
        InventoryError::NoSuchWarehouse { .. } => missing(error.to_string()),
        _ => inventory_problem(error),
    })?;
    Ok(answer::ok(&warehouse))
}

async fn list(request: HttpRequest, inventory: Data<dyn Inventory>) -> Answer {
    let window = Parameters::parse(&request, &["limit", "cursor"])?.window(KIND)?;
    let after = window.after.and_then(|after| WarehouseId::try_from(after).ok());
    let page = inventory.warehouses(&call(&request), after, window.limit).await.map_err(inventory_problem)?;
    let id = |warehouse: &Warehouse| warehouse.id.get();
    Ok(answer::ok(&Listing::new(KIND, page, id, |warehouse| warehouse)))
}

async fn adjust(inventory: Data<dyn Inventory>, command: Command<AdjustmentBody>) -> Answer {
    let AdjustmentBody { warehouse_id, product_id, delta, reason } = command.body;
    let adjustment = Adjustment::parse(warehouse_id, product_id, delta, reason).map_err(unprocessable)?;
    let level = inventory.adjust(&command.ctx, adjustment).await.map_err(inventory_problem)?;
    Ok(answer::ok(&level))
}

async fn stock(
    request: HttpRequest,
    inventory: Data<dyn Inventory>,
    PathId(id): PathId<ProductId>,
) -> Answer {
    let levels = inventory.stock(&call(&request), id).await.map_err(inventory_problem)?;
    Ok(answer::ok(&Listing::whole(levels)))
}

async fn reservation(
    request: HttpRequest,
    inventory: Data<dyn Inventory>,
    PathId(id): PathId<OrderId>,
) -> Answer {
    let reservation = inventory.reservation(&call(&request), id).await.map_err(inventory_problem)?;
    Ok(answer::ok(&reservation))
}
