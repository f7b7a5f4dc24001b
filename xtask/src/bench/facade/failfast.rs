//! What an answer costs while the breaker of a dead service is open, next to the cheapest answer of all.

use anyhow::{Result, bail};
use harness::http::{self, Ask};
use harness::{Binaries, ports};

use super::peers::{PATH, PRIVATE, Setup, set_flag, start, upstream};
use super::{Measured, folder, median, ticks, wrk};

const ROUNDS: usize = 5;
const SECONDS: u32 = 3;
const CONNECTIONS: u32 = 32;
/// Requests after which a breaker must have opened.
const FAILURES: usize = 500;

pub(super) fn against_not_found(binaries: &Binaries) -> Result<Measured> {
    let folder = folder()?;
    let (_upstream, port) = upstream(folder.path())?;
    let setup = Setup { service: ports::free()?, ..Setup::plain(port) };
    let facade = start(binaries, folder.path(), &setup)?;
    set_flag(&facade, "100", "service")?;
    let url = facade.url()?;
    open_breaker(url)?;
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let cost = |path: &str| ticks::micros_per_request(facade.pid(), || answers(&format!("{url}{path}")));
        let (not_found, failing) = (cost(PRIVATE)?, cost(PATH)?);
        eprintln!("round {round}: {failing:.2} µs of CPU per answer that fails fast, {not_found:.2} per 404");
        ratios.push(failing / not_found);
    }
    Ok(Measured::at_most(median(ratios), 2.0))
}

/// A breaker says 503 at once, with the time to come back; 502 means that the service was asked again.
fn open_breaker(url: &str) -> Result<()> {
    let mut last = 0;
    for _ in 0..FAILURES {
        let answer = http::call(url, Ask::get(PATH))?;
        if answer.status == 503 && answer.header("retry-after").is_some() {
            return Ok(());
        }
        last = answer.status;
    }
    bail!("no breaker opened after {FAILURES} failures: the last answer was {last}")
}

fn answers(url: &str) -> Result<u64> {
    wrk::answers(wrk::command(CONNECTIONS, SECONDS).arg(url))
}
