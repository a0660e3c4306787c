//! Records attempts in batches, in the time that answering leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{Entry, Rendezvous};
use crate::backoff::Backoff;
use crate::db::DbError;
use crate::telemetry::Metrics;

/// Entries that may wait to be recorded; some hundred bytes each.
const MAX_WAITING: usize = 8192;

/// The largest batch.
const MAX_BATCH: usize = 1024;

/// How long a batch gathers: each costs a transaction that is flushed to disk, and nobody waits for it.
const GATHER_TIME: Duration = Duration::from_millis(20);

/// How long a batch that cannot be recorded is tried again, while the next entries wait and then are dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest wait before the database is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Where attempts are written down. It never makes anyone wait: when recording falls too far behind, entries are dropped.
pub(super) struct Log {
    entries: mpsc::Sender<Entry>,
    metrics: Arc<Metrics>,
}

impl Log {
    pub(super) fn write(&self, entries: Vec<Entry>) {
        for entry in entries {
            if self.entries.try_send(entry).is_err() {
                self.metrics.enrich.log_dropped.inc();
            }
        }
    }
}

/// Takes entries from the log and records them until the log is gone.
pub(super) struct Recording<R> {
    rendezvous: Arc<R>,
    entries: mpsc::Receiver<Entry>,
    metrics: Arc<Metrics>,
    /// Of the entries that were dropped, those of which a warning has told.
    dropped_told: u64,
}

/// A log, and what records it.
pub(super) fn log<R>(rendezvous: Arc<R>, metrics: Arc<Metrics>) -> (Log, Recording<R>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let log = Log {
        entries: sender,
        metrics: metrics.clone(),
    };
    let recording = Recording {
        rendezvous,
        entries: receiver,
        metrics,
        dropped_told: 0,
    };
    (log, recording)
}

impl<R: Rendezvous> Recording<R> {
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while self.entries.recv_many(&mut batch, MAX_BATCH).await > 0 {
            if batch.len() < MAX_BATCH && !self.entries.is_closed() {
                sleep(GATHER_TIME).await;
                while batch.len() < MAX_BATCH
                    && let Ok(entry) = self.entries.try_recv()
                {
                    batch.push(entry);
                }
            }
            self.record(&mut batch).await;
            self.tell_dropped();
        }
    }

    /// Records a batch, in parts when the server refuses its data, until nothing of it is left.
    async fn record(&mut self, batch: &mut Vec<Entry>) {
        let mut parts = vec![std::mem::take(batch)];
        let mut backoff = Backoff::new(MAX_PAUSE);
        let first_try = Instant::now();
        while let Some(mut part) = parts.pop() {
            match self.rendezvous.record(&part).await {
                Ok(()) => {
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
                        self.metrics.enrich.log_dropped.inc_by(part.len() as u64);
                    } else {
                        parts.push(part);
                        sleep(backoff.next()).await;
                    }
                    self.tell_dropped();
                }
            }
        }
    }

    fn complain(&self, error: DbError, attempts: usize) {
        self.metrics.database_errors.inc();
        let error = anyhow::Error::new(error).context("record enrich attempts");
        tracing::warn!(attempts, "failed to {error:#}");
    }

    /// One warning for all that were dropped since the last one.
    fn tell_dropped(&mut self) {
        let dropped = self.metrics.enrich.log_dropped.get();
        let new = dropped - std::mem::replace(&mut self.dropped_told, dropped);
        if new > 0 {
            tracing::warn!(
                dropped = new,
                "{new} enrich attempts are not recorded: recording them is too slow; their requests were answered"
            );
        }
    }
}
