//! Records outcomes in batches: while one call is under way, the next batch gathers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::db::DbError;
use crate::health::Health;
use crate::leases::Held;
use crate::queue::{Finished, Queue};
use crate::telemetry::Metrics;

/// The largest batch. More gains little and makes the first of them wait.
const MAX_BATCH: usize = 512;

/// How long an outcome that cannot be recorded is tried again. Longer than the lease: the token still decides, and a restart
/// of the server that outlasts the lease should not turn every success into a second request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short, because claiming waits for recording to work again.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Takes outcomes from the attempts and records them until all senders are gone.
pub(crate) struct Recorder<Q> {
    pub(crate) queue: Arc<Q>,
    pub(crate) finished: mpsc::Receiver<Finished>,
    pub(crate) held: Arc<Held>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    /// Tells the claim loop that a place at an endpoint, or the turn of an ordered delivery, may have come free.
    pub(crate) recorded: Arc<Notify>,
}

impl<Q: Queue> Recorder<Q> {
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.finished.recv_many(&mut batch, MAX_BATCH).await > 0 {
            // In the order of ids, which every statement that locks deliveries keeps.
            batch.sort_unstable_by_key(|finished| finished.lease);
            self.record(&mut batch).await;
            self.recorded.notify_one();
        }
    }

    /// Records a batch, in parts when the server refuses its data, until nothing of it is left.
    async fn record(&self, batch: &mut Vec<Finished>) {
        let mut parts = vec![std::mem::take(batch)];
        let mut backoff = Backoff::new(MAX_PAUSE);
        let first_try = Instant::now();
        while let Some(mut part) = parts.pop() {
            self.held
                .begin_recording(part.iter().map(|finished| &finished.lease))
                .await;
            let result = self.queue.complete(&part).await;
            if result.is_err() {
                self.held
                    .end_recording(part.iter().map(|finished| &finished.lease));
            }
            match result {
                Ok(held) => {
                    self.settle(&part, &held);
                    self.health.recording_works();
                    backoff.reset();
                    // Its space serves the next batch.
                    part.clear();
                    *batch = part;
                }
                Err(error) if error.is_about_the_data() && part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(error) => {
                    let is_hopeless = error.is_about_the_data() || first_try.elapsed() > PATIENCE;
                    self.complain(error, part.len());
                    if is_hopeless {
                        self.give_up(&part);
                        continue;
                    }
                    self.health.recording_fails();
                    parts.push(part);
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    fn settle(&self, part: &[Finished], held: &[i64]) {
        self.held
            .remove(part.iter().map(|finished| &finished.lease));
        let held: HashSet<i64> = held.iter().copied().collect();
        let mut lost = 0;
        for finished in part {
            match held.contains(&finished.lease.id) {
                true => finished.metrics.count(finished),
                false => lost += 1,
            }
        }
        if lost > 0 {
            self.metrics.leases_lost.inc_by(lost);
            tracing::info!(
                lost,
                "{lost} outcomes came after their lease had ended and changed nothing"
            );
        }
    }

    fn complain(&self, error: DbError, outcomes: usize) {
        self.metrics.database_errors.inc();
        let error = anyhow::Error::new(error).context("record outcomes");
        tracing::warn!(outcomes, "failed to {error:#}");
    }

    /// Lets the leases end: the deliveries are attempted again.
    fn give_up(&self, part: &[Finished]) {
        self.held
            .remove(part.iter().map(|finished| &finished.lease));
        self.health.recording_works();
        let (dropped, first) = (part.len(), part.first().map(|f| f.lease.id));
        tracing::error!(
            dropped,
            first,
            "gave up recording {dropped} outcomes; their deliveries will be attempted again"
        );
    }
}
