//! The demo's moves: capture, a copy with a kill, verification, ramps, a dead service, and the switches.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::load::Load;
use harness::{Part, databases, wait};
use serde_json::Value;

use super::print::millis;
use super::{ANYWHERE, Demo, NOWHERE, SERVICE};

/// How long a copy may take.
const COPY: Duration = Duration::from_secs(300);
/// The exit code of a command that would be wrong now.
const REFUSED: i32 = 3;

impl Demo<'_> {
    pub(super) fn begin_capture(&mut self, load: &Load) -> Result<()> {
        self.report.step("Plan the move, and log which users change: triggers in the monolith's database");
        let plan = self.cluster.migrate_json(&["plan", "users"])?;
        let problems = plan.get("problems").and_then(Value::as_array).map_or(0, Vec::len);
        self.report.figure("problems found by the plan", problems);
        self.cluster.migrate(&["capture", "install", "users"])?.ok()?;
        let refused = self.cluster.migrate(&["dual-write", "users", "on"])?;
        ensure!(refused.code == Some(REFUSED), "dual-write was not refused beside capture");
        self.report.figure("dual-write beside it", refused.stderr.trim().to_owned());
        self.rest(load, NOWHERE)
    }

    /// The kill counts only if the run was at work: it died of the signal, and its own record in the service's database says
    /// that a part of the rows was copied, and that not all was.
    pub(super) fn copy_with_a_kill(&mut self, load: &Load) -> Result<()> {
        self.report.step("Copy and follow (`migrate run`), killed (SIGKILL) on the way");
        let total = databases::number(&self.cluster.monolith_db(), "SELECT count(*) FROM users_users")?;
        let target = self.cluster.service_db();
        // Half of the users per second leave time for the kill, however few there are.
        let rate = (total / 2).to_string();
        self.cluster.migrate(&["throttle", "users", "--rows-per-second", &rate])?.ok()?;
        let mut job = self.cluster.migrate_job(&["run", "users"])?;
        wait::until("a quarter of the users is copied", COPY, || {
            ensure!(job.ended()?.is_none(), "the run ended before it could be killed");
            Ok((copied(&target)?.rows >= total / 4).then_some(()))
        })?;
        ensure!(job.kill()?, "the run ended before it could be killed");
        let at_kill = copied(&target)?;
        ensure!(!at_kill.done, "everything was copied before the kill");
        self.report.figure("rows copied by then", at_kill.rows);
        self.lap(load, NOWHERE);

        self.report.step("The same command again: it goes on where it was");
        let started = Instant::now();
        self.cluster.migrate(&["throttle", "users", "--clear"])?.ok()?;
        self.follow(&["run", "users"])?;
        wait::until("everything is copied", COPY, || Ok(copied(&target)?.done.then_some(())))?;
        let took = started.elapsed();
        let rest = copied(&target)?.rows - at_kill.rows;
        self.report.figure("rows copied by the second run", rest);
        self.report.figure("in", millis(took));
        self.report.figure("rows per second", (rest as f64 / took.as_secs_f64()).round() as i64);
        self.lap(load, NOWHERE);
        Ok(())
    }

    /// Starts a run that goes on beside the demo.
    fn follow(&mut self, args: &[&str]) -> Result<()> {
        self.runs.push(self.cluster.migrate_job(args)?);
        Ok(())
    }

    pub(super) fn verify(&mut self, load: &Load) -> Result<()> {
        self.report.step("Verify every row while the load goes on");
        let started = Instant::now();
        let verified = self.cluster.migrate_json(&["verify", "users"])?;
        self.report.figure("verified in", millis(started.elapsed()));
        self.verification(&verified);
        self.lap(load, NOWHERE);
        Ok(())
    }

    pub(super) fn verification(&mut self, verified: &Value) {
        let tables = verified.get("tables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let sum = |name: &str| -> u64 {
            tables.iter().filter_map(|table| table.get(name).and_then(Value::as_u64)).sum()
        };
        let differences = format!("{} / {} / {}", sum("differs"), sum("missing"), sum("extra"));
        self.report.figure("rows compared", sum("rows"));
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
        self.rest(load, if percent == 0 { &[SERVICE] } else { ANYWHERE })
    }

    pub(super) fn kill_the_service(&mut self, load: &Load) -> Result<()> {
        self.report.step("Kill the service (SIGKILL) while half of the reads go there");
        self.cluster.kill(Part::Service)?;
        self.rest(load, ANYWHERE)?;
        self.report.step("Start the service again: its data was followed all the time");
        let started = Instant::now();
        self.cluster.start(Part::Service)?;
        self.report.figure("started in", millis(started.elapsed()));
        self.rest(load, ANYWHERE)
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
                ("/drained", "changed keys applied under it"),
                ("/held_ms", "writes held for (ms)"),
            ],
        );
        self.lap(load, ANYWHERE);
        self.report.step(&format!("Work with the {to} as the owner"));
        if to == SERVICE {
            // The run towards the service rests until the service no longer owns the users.
            self.follow(&["run", "users", "--back"])?;
        }
        // Under the service all reads are the owner's; under the monolith, those in canary are not.
        self.rest(load, if to == SERVICE { NOWHERE } else { ANYWHERE })
    }
}

/// What a copy says of itself.
struct Copied {
    rows: i64,
    done: bool,
}

/// The copy's record in the database it fills.
fn copied(target: &Path) -> Result<Copied> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'banyan_chunks'";
    if databases::number(target, tables)? == 0 {
        return Ok(Copied { rows: 0, done: false });
    }
    // Rows first: a record that is done between the two readings is seen as done.
    let rows = databases::number(
        target,
        "SELECT coalesce(sum(rows), 0) FROM banyan_chunks WHERE stream = 'users' AND done",
    )?;
    // Where unique values moved while rows were loaded, their chunks are copied once more when the indexes are built.
    let following = "SELECT count(*) FROM banyan_streams WHERE name = 'users' AND phase = 'following' \
                       AND NOT EXISTS (SELECT 1 FROM banyan_chunks WHERE stream = 'users' AND NOT done)";
    Ok(Copied { rows, done: databases::number(target, following)? == 1 })
}
