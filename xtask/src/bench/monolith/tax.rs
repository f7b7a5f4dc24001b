//! CPU time per request of the monolith against a bare actix and diesel server: one worker each, on one database, in turn.
//!
//! Invariant: nothing is measured before both have given the same answer, and nothing runs in either process but requests.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::Binaries;
use harness::http::{self, Ask};
use harness::process::Server;
use serde_json::Value;

use super::clients::{Wares, post};
use super::shop::{Backend, Shop};
use super::{Measured, median, ticks, wrk};

const ROUNDS: usize = 15;
const SECONDS: u32 = 3;
const CONNECTIONS: u32 = 32;
const USERS: u32 = 2_000;
const MOST: f64 = 1.25;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request {
    ReadUser,
    PlaceOrder,
}

pub(super) fn cpu_against_bare_peer(
    binaries: &Binaries,
    backend: Backend,
    request: Request,
) -> Result<Measured> {
    let shop = Shop::stocked(binaries, backend, USERS)?;
    let monolith =
        shop.monolith(&[("BANYAN_HTTP__WORKERS", "1"), ("BANYAN_BACKGROUND__ENABLED", "false")])?;
    let bare = Server::start(&shop.bare_peer("serve"), 1)?;
    let (ours, theirs) = (monolith.url()?, bare.url()?);
    let wares = Wares::read(ours, 1_000, 1_000)?;
    compare(ours, theirs, &wares)?;
    let script = shop.folder().join("load.lua");
    fs::write(&script, lua(request, &wares))?;
    for server in [&monolith, &bare] {
        micros_per_request(server, &script)?;
    }
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let theirs = micros_per_request(&bare, &script).context("of the bare peer")?;
        let ours = micros_per_request(&monolith, &script).context("of the monolith")?;
        eprintln!(
            "{request:?} on {backend:?}, round {round}: monolith {ours:.1} µs of CPU per request, bare {theirs:.1}, ratio {:.3}",
            ours / theirs
        );
        ratios.push(ours / theirs);
    }
    Ok(Measured::at_most(median(ratios), MOST))
}

fn micros_per_request(server: &Server, script: &Path) -> Result<f64> {
    let mut wrk = wrk::command(CONNECTIONS, SECONDS);
    wrk.arg("-s").arg(script).arg(server.url()?);
    ticks::micros_per_request(server.pid(), || wrk::requests(&mut wrk))
}

/// Both must answer the same, but for the order's id and when it was placed.
fn compare(ours: &str, theirs: &str, wares: &Wares) -> Result<()> {
    let read = format!("/api/v1/users/{}", wares.user(7));
    let (one, other) = (http::call(ours, Ask::get(&read))?, http::call(theirs, Ask::get(&read))?);
    ensure!(
        (one.status, &one.body) == (other.status, &other.body),
        "GET {read} is answered {} by the monolith and {} by the bare peer",
        one.text(),
        other.text()
    );
    let order = post("/api/v1/orders").json(&wares.order(7, &Value::Null));
    let placed = |url: &str| -> Result<(u16, Vec<(String, Value)>)> {
        let answer = http::call(url, order.clone())?;
        let fields = answer.json()?.as_object().cloned().unwrap_or_default();
        let fields = fields.into_iter().filter(|(name, _)| name != "id" && name != "placed_at");
        Ok((answer.status, fields.collect()))
    };
    let (one, other) = (placed(ours)?, placed(theirs)?);
    ensure!(one == other, "an order is answered {one:?} by the monolith and {other:?} by the bare peer");
    ensure!(one.0 == 201, "an order is answered {}", one.0);
    Ok(())
}

/// Each request is for another user; an order has three lines, as one in a shop may have.
fn lua(request: Request, wares: &Wares) -> String {
    let mut script = format!("local users = {{ {} }}\n", list(&wares.users));
    let _ = match request {
        Request::ReadUser => writeln!(
            script,
            "request = function() return wrk.format('GET', '/api/v1/users/' .. users[math.random(#users)]) end"
        ),
        Request::PlaceOrder => writeln!(
            script,
            "local products = {{ {} }}\n\
             local headers = {{ ['content-type'] = 'application/json' }}\n\
             local function line() return '{{\"product_id\":' .. products[math.random(#products)] .. ',\"quantity\":2}}' end\n\
             request = function()\n\
               local body = '{{\"user_id\":' .. users[math.random(#users)] .. ',\"lines\":[' .. line() .. ',' .. line() .. ',' .. line() .. ']}}'\n\
               return wrk.format('POST', '/api/v1/orders', headers, body)\n\
             end",
            list(&wares.products)
        ),
    };
    script
}

fn list(ids: &[i64]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
