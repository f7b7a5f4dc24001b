//! The demo's moves: dual-write, backfill with a kill, verification, ramps, a dead service, and the switches.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::load::Load;
use harness::{Part, databases, wait};
use serde_json::Value;

use super::print::millis;
use super::{Demo, OnOwner};

/// How long the relays may take to deliver what waits.
const DRAIN: Duration = Duration::from_secs(60);
/// How long the backfill may take until it is a third through.
const BACKFILL: Duration = Duration::from_secs(300);

impl Demo<'_> {
    pub(super) fn begin_dual_write(&mut self, load: &Load) -> Result<()> {
        self.report.step("Turn dual-write on: the monolith sends every change to the service as well");
        self.cluster.turn_dual_write("on")?;
        self.rest(load, OnOwner::Yes)
    }

    /// The kill counts only if the backfill was at work: it died of the signal, and its own record in the service's
    /// database says that a part of the rows was copied, and that it was not done.
    pub(super) fn backfill_with_a_kill(&mut self, load: &Load) -> Result<()> {
        self.report.step("Backfill, killed (SIGKILL) on the way");
        let total = databases::number(&self.cluster.monolith_db(), "SELECT count(*) FROM users_users")?;
        let target = self.cluster.service_db();
        // Small chunks with pauses leave time for the kill where there are few rows; with many, there is time anyway.
        let (chunk_rows, pause) = if total < 100_000 { ((total / 40).max(10), "15") } else { (5_000, "0") };
        let chunk_rows = chunk_rows.to_string();
        let arguments = ["backfill", "users", "--chunk-rows", &chunk_rows, "--throttle-ms", pause];
        let mut job = self.cluster.migrate_job(&arguments)?;
        wait::until("the backfill has copied a quarter of the rows", BACKFILL, || {
            ensure!(job.ended()?.is_none(), "the backfill ended before it could be killed");
            Ok(copied(&target)?.filter(|copied| copied.rows >= total / 4))
        })?;
        ensure!(job.kill()?, "the backfill ended before it could be killed");
        let at_kill = copied(&target)?.context("the backfill left no record")?;
        ensure!(!at_kill.done, "the backfill was done before it was killed");
        self.report.figure("its record after the kill: done", at_kill.done);
        self.report.figure("rows copied by then", format!("{} of {total}", at_kill.rows));
        self.lap(load, OnOwner::Yes);

        self.report.step("Backfill, resumed");
        let started = Instant::now();
        self.cluster.migrate(&["backfill", "users"])?.ok()?;
        let took = started.elapsed();
        let at_end = copied(&target)?.context("the backfill left no record")?;
        ensure!(at_end.done, "the backfill ended well but its record is not done");
        let rest = at_end.rows - at_kill.rows;
        self.report.figure("rows copied by the second run", rest);
        self.report.figure("in", millis(took));
        self.report.figure("rows per second", (rest as f64 / took.as_secs_f64()).round() as i64);
        self.report.figure("rows copied by both", at_end.rows);
        self.lap(load, OnOwner::Yes);
        Ok(())
    }

    pub(super) fn verify(&mut self, load: &Load) -> Result<()> {
        self.report.step("Verify every row while the load goes on");
        let started = Instant::now();
        let verified = self.cluster.migrate_json(&["verify", "users"])?;
        self.report.figure("verified in", millis(started.elapsed()));
        self.verification(&verified);
        self.lap(load, OnOwner::Yes);
        Ok(())
    }

    pub(super) fn verification(&mut self, verified: &Value) {
        let count = |name: &str| verified.get(name).and_then(Value::as_u64).unwrap_or_default();
        let differences = format!("{} / {} / {}", count("differs"), count("missing"), count("extra"));
        self.figures(verified, &[("/keys", "users compared"), ("/rows", "rows compared, both ways")]);
        self.report.figure("rows differing / missing / extra", differences);
    }

    pub(super) fn ramp(&mut self, load: &Load, percent: u32) -> Result<()> {
        self.report.step(&format!("Users' reads to {percent} % from the service"));
        load.lap();
        let before = self.sides_of_some_users()?;
        let started = Instant::now();
        self.cluster.set_reads(percent)?.ok()?;
        wait::until("the facade follows the flag", Duration::from_secs(10), || {
            Ok((self.sides_of_some_users()? != before).then_some(()))
        })?;
        self.report.figure("in effect, command and all, after", millis(started.elapsed()));
        self.rest(load, if percent > 0 { OnOwner::No } else { OnOwner::Yes })
    }

    pub(super) fn kill_the_service(&mut self, load: &Load) -> Result<()> {
        self.report.step("Kill the service (SIGKILL) while half of the reads go there");
        self.cluster.kill(Part::Service)?;
        self.rest(load, OnOwner::No)?;
        self.report.figure("dual-writes waiting", self.cluster.undelivered()?);
        self.report.step("Start the service again: the relay heals what it missed");
        let started = Instant::now();
        self.cluster.start(Part::Service)?;
        wait_until_caught_up(self)?;
        self.report.figure("caught up after", millis(started.elapsed()));
        self.relay(Part::Monolith)?;
        self.rest(load, OnOwner::No)
    }

    /// What the relay of an owner did since that process started.
    fn relay(&mut self, owner: Part) -> Result<()> {
        let relay = self.cluster.relay(owner)?;
        self.figures(
            &relay,
            &[
                ("/delivered", "dual-writes delivered"),
                ("/late", "of them after the answer (late)"),
                ("/healed", "of these there by now (healed)"),
            ],
        );
        Ok(())
    }

    pub(super) fn switch(&mut self, load: &Load, to: &str) -> Result<()> {
        self.report.step(&format!("Switch: the {to} becomes the owner of users"));
        load.lap();
        let switched = self.cluster.migrate_json(&["switch", "users", "--to", to, "--reason", "demo"])?;
        self.figures(
            &switched,
            &[
                ("/verified_rows", "rows verified before the hold"),
                ("/dirty_keys", "changed keys verified under it"),
                ("/drained", "dual-writes delivered under it"),
                ("/held_ms", "writes held for (ms)"),
            ],
        );
        self.lap(load, OnOwner::No);
        self.report.step(&format!("Work with the {to} as the owner"));
        // Under the service all reads are the owner's; under the monolith, those in canary are not.
        let (owner, on_owner) =
            if to == "service" { (Part::Service, OnOwner::Yes) } else { (Part::Monolith, OnOwner::No) };
        self.rest(load, on_owner)?;
        self.relay(owner)
    }
}

/// What a backfill says of itself.
struct Copied {
    rows: i64,
    done: bool,
}

/// The backfill's record in the database it fills; nothing before its first chunk.
fn copied(target: &Path) -> Result<Option<Copied>> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'banyan_backfill'";
    if databases::number(target, tables)? == 0 {
        return Ok(None);
    }
    let sql = |column: &str| {
        format!("SELECT coalesce(max({column}), 0) FROM banyan_backfill WHERE context = 'users'")
    };
    // Rows first: a record that is done between the two readings is seen as done.
    let rows = databases::number(target, &sql("rows"))?;
    Ok(Some(Copied { rows, done: databases::number(target, &sql("done"))? == 1 }))
}

/// Under load there is always a write on its way, so "caught up" is a backlog of next to nothing.
fn wait_until_caught_up(demo: &Demo<'_>) -> Result<()> {
    wait::until("the relay has delivered what waited", DRAIN, || {
        Ok((demo.cluster.undelivered()? <= 2).then_some(()))
    })
}
