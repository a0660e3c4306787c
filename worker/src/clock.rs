//! What the clock drives in the database: retention and expiry.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::db::PgQueue;
use crate::telemetry::Metrics;

/// Keys and history expire in hours and days; a minute is soon enough, and an idle database hardly notices it.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);

/// Calls `maintain` until it is dropped. Any number of workers may: the database lets one at a time through.
pub(crate) async fn run(queue: Arc<PgQueue>, metrics: Arc<Metrics>) {
    let mut ticks = interval(MAINTAIN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate, and at start the claim loop reports whether the database can be reached.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        // Small steps, each a transaction of its own, until nothing is left.
        while maintain(&queue, &metrics).await {}
    }
}

/// One call; true when there is more to do at once.
async fn maintain(queue: &PgQueue, metrics: &Metrics) -> bool {
    match queue.maintain().await {
        Ok(report) => {
            tracing::debug!(%report, "maintained the database: {report}");
            report["more"] == true
        }
        Err(error) => {
            metrics.database_errors.inc();
            let error = anyhow::Error::new(error).context("maintain the database");
            tracing::warn!("failed to {error:#}");
            false
        }
    }
}
