//! The queue's gauges, asked of the database when someone looks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::db::PgQueue;
use crate::telemetry::Metrics;

/// Several scrapers, or an impatient one, cost the database one query in this time.
const CACHED_FOR: Duration = Duration::from_secs(1);

/// Keeps the gauges fresh.
pub(crate) struct QueueStats {
    queue: Arc<PgQueue>,
    asked: Mutex<Option<Instant>>,
}

impl QueueStats {
    pub(crate) fn new(queue: Arc<PgQueue>) -> Self {
        Self {
            queue,
            asked: Mutex::new(None),
        }
    }

    /// Asks the database, unless it was asked a moment ago. When that fails the gauges disappear from the page: no number is
    /// better than an old one.
    pub(crate) async fn refresh(&self, metrics: &Metrics) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < CACHED_FOR) {
            return;
        }
        match self.queue.queue_stats().await {
            Ok(stats) => metrics.set_queue(&stats),
            Err(error) => {
                metrics.set_queue(&[]);
                metrics.database_errors.inc();
                let error = anyhow::Error::new(error).context("read the queue's statistics");
                tracing::warn!("failed to {error:#}");
            }
        }
        *asked = Some(Instant::now());
    }
}
