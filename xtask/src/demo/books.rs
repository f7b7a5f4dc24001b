//! The end of the demo: every row of both sides compared, every acknowledged write looked up, and the books of the trade
//! closed.

use std::time::Duration;

use anyhow::Result;
use harness::databases;
use harness::load::Load;

use super::Demo;

/// Faults told one by one; the rest is counted.
const TOLD: usize = 10;

impl Demo<'_> {
    pub(super) fn close_the_books(&mut self, load: Load) -> Result<()> {
        self.report.step("Stop the load, compare every row, and look every acknowledged write up");
        let result = load.stop()?;
        self.report.lap(&result.total);
        let verified = self.cluster.migrate_json(&["verify", "users"])?;
        self.verification(&verified);

        let monolith = databases::monolith_users(&self.cluster.monolith_db())?;
        let service = databases::service_users(&self.cluster.service_db())?;
        let orders = databases::order_totals(&self.cluster.monolith_db())?;
        let differing = databases::differences(&monolith, &service);
        self.report.figure("users on both sides", format!("{} / {}", monolith.len(), service.len()));
        self.report.figure("rows that differ", differing.len());
        let mut missing = result.book.check_users(&monolith);
        missing.extend(result.book.check_users(&service));
        missing.extend(result.book.check_orders(&orders));
        self.report.figure("acknowledged writes", result.book.acknowledged);
        self.report.figure("of them missing", missing.len());
        let books = self.cluster.books(Duration::from_secs(60))?;
        for status in ["confirmed", "rejected", "cancelled"] {
            self.report.figure(&format!("orders {status}"), books.count(status));
        }
        let disagreeing = books.faults();
        self.report.figure("disagreements of orders, stock, money and shipments", disagreeing.len());
        missing.extend(disagreeing);
        let more = (differing.len() + missing.len()).saturating_sub(TOLD);
        self.faults.extend(differing.into_iter().chain(missing).take(TOLD));
        if more > 0 {
            self.faults.push(format!("and {more} more"));
        }
        Ok(())
    }
}
