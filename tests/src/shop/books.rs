//! The books of a shop: orders, stock, payments, shipments and the provider's ledger, and whether they agree.
//!
//! Invariant: nothing here asks the monolith; a fault that it made would else judge itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Shop;

/// Where rows come from: a query in, its rows out.
pub type Rows<'a> = &'a dyn Fn(&str) -> Result<Vec<Vec<String>>>;

/// Units by product.
type Units = BTreeMap<i64, i64>;

/// Everything that a settled shop holds of its checkouts. Imported orders are no part of it.
#[derive(Debug)]
pub struct Books {
    orders: BTreeMap<i64, Order>,
    reservations: BTreeMap<i64, (String, Units)>,
    payments: BTreeMap<i64, Payment>,
    shipments: BTreeMap<i64, String>,
    stock: Vec<Stock>,
    ledger: BTreeMap<String, Charge>,
}

#[derive(Debug)]
struct Order {
    status: String,
    total: i64,
    method: String,
    lines: Units,
}

#[derive(Debug)]
struct Payment {
    key: String,
    status: String,
    amount: i64,
}

#[derive(Debug)]
struct Stock {
    product: i64,
    on_hand: i64,
    reserved: i64,
    received: i64,
}

#[derive(Debug, Default)]
struct Charge {
    status: String,
    held: i64,
    charges: i64,
}

impl Books {
    /// Reads the books of a shop that has settled.
    pub fn read(shop: &Shop) -> Result<Self> {
        Self::gather(&|sql| shop.rows(sql), shop.ledger()?)
    }

    /// The same from any source of rows and the provider's ledger.
    pub fn gather(rows: Rows<'_>, records: Vec<Value>) -> Result<Self> {
        let mut lines: BTreeMap<i64, Units> = BTreeMap::new();
        for row in rows("SELECT order_id, product_id, quantity FROM orders_lines")? {
            let [order, product, quantity] = numbers(&row)?;
            *lines.entry(order).or_default().entry(product).or_default() += quantity;
        }
        let sql = "SELECT id, status, total_minor, payment_method FROM orders_orders WHERE payment_method IS NOT NULL";
        let orders = rows(sql)?.into_iter().map(|row| {
            let [id, total] = numbers(&[part(&row, 0)?, part(&row, 2)?])?;
            let lines = lines.remove(&id).unwrap_or_default();
            anyhow::Ok((id, Order { status: part(&row, 1)?, total, method: part(&row, 3)?, lines }))
        });
        Ok(Self {
            orders: orders.collect::<Result<_>>()?,
            reservations: reservations(rows)?,
            payments: payments(rows)?,
            shipments: shipments(rows)?,
            stock: stock(rows)?,
            ledger: ledger(records),
        })
    }

    /// How many orders have this status.
    pub fn count(&self, status: &str) -> usize {
        self.orders.values().filter(|order| order.status == status).count()
    }

    /// Where an order stands.
    pub fn status(&self, id: i64) -> Option<&str> {
        self.orders.get(&id).map(|order| order.status.as_str())
    }

    /// How many orders there are.
    pub fn orders(&self) -> usize {
        self.orders.len()
    }

    /// Every disagreement, in a line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> =
            self.orders.iter().flat_map(|(id, order)| self.faults_of(*id, order)).collect();
        faults.extend(self.strays());
        faults.extend(self.faults_of_stock());
        faults.extend(self.faults_of_money());
        faults
    }

    fn faults_of(&self, id: i64, order: &Order) -> Vec<String> {
        let reservation = self.reservations.get(&id);
        let payment = self.payments.get(&id);
        let shipment = self.shipments.get(&id).map_or("none", String::as_str);
        let mut faults = Vec::new();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                let is = (reservation, payment, shipment);
                faults.push(format!("order {id} is {}, so {what}; there is {is:?}", order.status));
            }
        };
        match order.status.as_str() {
            "confirmed" => {
                let taken =
                    reservation.is_some_and(|(status, units)| status == "confirmed" && *units == order.lines);
                expect(taken, "its goods must be taken");
                let paid =
                    payment.is_some_and(|paid| paid.status == "captured" && paid.amount == order.total);
                expect(paid, "it must be paid");
                expect(["scheduled", "handed_over", "delivered"].contains(&shipment), "it must be shipped");
                let held =
                    payment.and_then(|payment| self.ledger.get(&payment.key)).map_or(0, |charge| charge.held);
                expect(order.method != "card" || held == order.total, "the provider must hold its total");
            }
            "rejected" | "cancelled" => {
                expect(reservation.is_none_or(|(status, _)| status == "released"), "its goods must be back");
                let unpaid =
                    payment.is_none_or(|paid| ["refunded", "declined"].contains(&paid.status.as_str()));
                expect(unpaid, "nothing may be paid");
                expect(["none", "stopped"].contains(&shipment), "nothing may be shipped");
                let held =
                    payment.and_then(|payment| self.ledger.get(&payment.key)).map_or(0, |charge| charge.held);
                expect(held == 0, "the provider may hold nothing");
            }
            _ => expect(false, "it is not settled"),
        }
        faults
    }

    /// What was reserved, paid or shipped for an order that is not there.
    fn strays(&self) -> impl Iterator<Item = String> {
        let parts = self.reservations.keys().chain(self.payments.keys()).chain(self.shipments.keys());
        let unknown = parts.filter(|id| !self.orders.contains_key(id));
        unknown.map(|id| format!("something is there for order {id}, which is not"))
    }

    /// Units that lie there and units that orders took are those that came in.
    fn faults_of_stock(&self) -> Vec<String> {
        let mut gone = Units::new();
        for (_, units) in self.reservations.values().filter(|(status, _)| status == "confirmed") {
            for (product, quantity) in units {
                *gone.entry(*product).or_default() += quantity;
            }
        }
        let agrees = |stock: &&Stock| {
            let gone = gone.get(&stock.product).copied().unwrap_or_default();
            stock.reserved == 0 && stock.on_hand + gone == stock.received
        };
        self.stock
            .iter()
            .filter(|stock| !agrees(stock))
            .map(|stock| format!("the stock disagrees: {stock:?}"))
            .collect()
    }

    /// Whatever the provider holds belongs to a confirmed order, once.
    fn faults_of_money(&self) -> Vec<String> {
        let owner = |key: &str| {
            let found = self.payments.iter().find(|(_, payment)| payment.key == key);
            found.and_then(|(id, _)| self.orders.get(id)).map(|order| order.status.as_str())
        };
        let strays = self.ledger.iter().filter(|(key, charge)| {
            charge.charges > 1
                || charge.status == "authorized"
                || (charge.held != 0 && owner(key) != Some("confirmed"))
        });
        strays
            .map(|(key, charge)| format!("the provider holds {charge:?} under {key} for {:?}", owner(key)))
            .collect()
    }
}

fn reservations(rows: Rows<'_>) -> Result<BTreeMap<i64, (String, Units)>> {
    let mut found: BTreeMap<i64, (String, Units)> = BTreeMap::new();
    for row in rows("SELECT order_id, status FROM inventory_reservations")? {
        let [order] = numbers(&[part(&row, 0)?])?;
        found.insert(order, (part(&row, 1)?, Units::new()));
    }
    for row in rows("SELECT order_id, product_id, quantity FROM inventory_reservation_lines")? {
        let [order, product, quantity] = numbers(&row)?;
        let (_, units) = found.get_mut(&order).context("reserved lines without a reservation")?;
        *units.entry(product).or_default() += quantity;
    }
    Ok(found)
}

fn payments(rows: Rows<'_>) -> Result<BTreeMap<i64, Payment>> {
    let sql = "SELECT order_id, coalesce(provider_key, ''), status, coalesce(amount_minor, 0) FROM payments_payments";
    let found = rows(sql)?.into_iter().map(|row| {
        let [order, amount] = numbers(&[part(&row, 0)?, part(&row, 3)?])?;
        Ok((order, Payment { key: part(&row, 1)?, status: part(&row, 2)?, amount }))
    });
    found.collect()
}

fn shipments(rows: Rows<'_>) -> Result<BTreeMap<i64, String>> {
    let found = rows("SELECT order_id, status FROM shipping_shipments")?.into_iter().map(|row| {
        let [order] = numbers(&[part(&row, 0)?])?;
        Ok((order, part(&row, 1)?))
    });
    found.collect()
}

fn stock(rows: Rows<'_>) -> Result<Vec<Stock>> {
    let sql = "SELECT s.product_id, sum(s.on_hand), sum(s.reserved), (SELECT sum(a.delta) FROM inventory_adjustments a \
               WHERE a.product_id = s.product_id) FROM inventory_stock s GROUP BY s.product_id";
    let found = rows(sql)?.into_iter().map(|row| {
        let [product, on_hand, reserved, received] = numbers(&row)?;
        Ok(Stock { product, on_hand, reserved, received })
    });
    found.collect()
}

fn ledger(records: Vec<Value>) -> BTreeMap<String, Charge> {
    let charges = records.into_iter().map(|record| {
        let number = |name: &str| record.get(name).and_then(Value::as_i64).unwrap_or_default();
        let word = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let held = number("captured") - number("refunded");
        (word("key"), Charge { status: word("status"), held, charges: number("charges") })
    });
    charges.collect()
}

fn part(row: &[String], index: usize) -> Result<String> {
    row.get(index).cloned().with_context(|| format!("the row {row:?} is too short"))
}

/// The row as so many numbers.
fn numbers<const N: usize>(row: &[String]) -> Result<[i64; N]> {
    let parsed: Result<Vec<i64>, _> = row.iter().map(|text| text.parse::<i64>()).collect();
    let parsed = parsed.with_context(|| format!("the row {row:?} is not of numbers"))?;
    parsed.try_into().map_err(|_| anyhow::anyhow!("the row {row:?} is not of {N} numbers"))
}
