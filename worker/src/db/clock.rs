//! The clock's calls.

use std::time::Duration;

use serde_json::Value;

use super::{DbError, PgQueue, call};
use crate::clock::{Checks, Clockwork};

/// A batch takes well under a second; whatever holds one up for longer than this is better met on a new connection.
const TICK_BUDGET: Duration = Duration::from_secs(30);
/// A chunk may start a long flow for each of its customers.
const BULK_BUDGET: Duration = Duration::from_secs(120);
/// Retention may drop partitions and has to wait for their readers.
const MAINTAIN_BUDGET: Duration = Duration::from_secs(120);

impl Clockwork for PgQueue {
    async fn tick(&self, max_checks: u32) -> Result<Checks, DbError> {
        const SQL: &str = "select checked, changed from actionflow.tick_batch($1)";
        let max_checks = integer(max_checks);
        let row = call(&self.segments, TICK_BUDGET, SQL, &[&max_checks]).await?;
        Ok(Checks {
            checked: count(row.try_get(0)?),
            changed: count(row.try_get(1)?),
        })
    }

    async fn run_bulk_jobs(&self, max_customers: u32) -> Result<u64, DbError> {
        const SQL: &str = "select actionflow.run_bulk_jobs($1)";
        let max_customers = integer(max_customers);
        let row = call(&self.bulk_jobs, BULK_BUDGET, SQL, &[&max_customers]).await?;
        Ok(count(row.try_get(0)?))
    }

    async fn maintain(&self) -> Result<Value, DbError> {
        const SQL: &str = "select actionflow.maintain()";
        let row = call(&self.upkeep, MAINTAIN_BUDGET, SQL, &[]).await?;
        Ok(row.try_get(0)?)
    }
}

fn integer(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
