//! What the clock drives in the database: segments whose members change by time alone, bulk jobs, retention.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::db::DbError;
use crate::telemetry::Metrics;

/// A crossing happens within a second of its moment, the call included. A look that finds nothing due costs the database next
/// to nothing.
const SEGMENTS_EVERY: Duration = Duration::from_millis(500);

/// How long a new bulk job waits at most until it begins.
const BULK_JOBS_EVERY: Duration = Duration::from_secs(1);

/// Keys and history expire in hours and days; a minute is soon enough, and an idle database hardly notices it.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);

/// Memberships that one transaction checks: enough to make the commit's share small, few enough to hold their locks briefly.
const MAX_CHECKS: u32 = 1000;

/// Customers that one transaction of a bulk job looks at; a crash repeats no more than these.
const MAX_CUSTOMERS: u32 = 1000;

/// How far a step of the segments came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    /// Memberships that were due and have been looked at.
    pub checked: u64,
    /// Those of them that changed.
    pub changed: u64,
}

/// What the clock asks of the database. Each call is one transaction, and a call that is dropped loses nothing. Any number of
/// workers may make them: the database sees to it that they share the work.
pub trait Clockwork: Send + Sync + 'static {
    /// Brings up to `max_checks` memberships up to date whose moment has come.
    fn tick(&self, max_checks: u32) -> impl Future<Output = Result<Checks, DbError>> + Send;

    /// Works on the oldest bulk job; returns how many customers it looked at, 0 when no job is left.
    fn run_bulk_jobs(
        &self,
        max_customers: u32,
    ) -> impl Future<Output = Result<u64, DbError>> + Send;

    /// Retention and expiry; returns the report, whose `more` asks for another call at once.
    fn maintain(&self) -> impl Future<Output = Result<Value, DbError>> + Send;
}

/// Drives it until it is dropped, each of the three on its own: none waits for another.
pub async fn run(clockwork: Arc<impl Clockwork>, metrics: Arc<Metrics>) {
    let (clockwork, metrics) = (&*clockwork, &*metrics);
    let rhythm = |every, does| Rhythm {
        every,
        does,
        metrics,
    };
    let segments = async move || {
        let Checks { checked, changed } = clockwork.tick(MAX_CHECKS).await?;
        metrics.segment_checks.inc_by(checked);
        metrics.segment_crossings.inc_by(changed);
        Ok(checked >= u64::from(MAX_CHECKS))
    };
    let bulk_jobs = async move || {
        let customers = clockwork.run_bulk_jobs(MAX_CUSTOMERS).await?;
        metrics.bulk_customers.inc_by(customers);
        Ok(customers > 0)
    };
    let upkeep = async move || {
        let report = clockwork.maintain().await?;
        tracing::debug!(%report, "maintained the database: {report}");
        Ok(report["more"] == true)
    };
    tokio::join!(
        rhythm(SEGMENTS_EVERY, "bring segments up to date").keep(segments),
        rhythm(BULK_JOBS_EVERY, "run bulk jobs").keep(bulk_jobs),
        rhythm(MAINTAIN_EVERY, "maintain the database").keep(upkeep),
    );
}

/// A step that is taken again and again.
struct Rhythm<'a> {
    every: Duration,
    /// What the log says that it failed to do.
    does: &'static str,
    metrics: &'a Metrics,
}

impl Rhythm<'_> {
    /// Takes steps for ever: one a period, and more at once for as long as the answer is true.
    async fn keep<F>(self, step: impl Fn() -> F)
    where
        F: Future<Output = Result<bool, DbError>>,
    {
        let mut ticks = interval(self.every);
        // What came too late is not made up for: the steps in between would find nothing to do.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is immediate, and at start the claim loop reports whether the database can be reached.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            while self.has_more(step().await) {}
        }
    }

    /// Whether to go on at once; a failure waits for the next period.
    fn has_more(&self, answer: Result<bool, DbError>) -> bool {
        answer.unwrap_or_else(|error| {
            self.metrics.database_errors.inc();
            let error = anyhow::Error::new(error).context(self.does);
            tracing::warn!("failed to {error:#}");
            false
        })
    }
}
