//! The loops around one queue, and how they end together.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::db::DbError;
use crate::deliver::{Attempts, Client, Recorder};
use crate::dispatcher::Dispatcher;
use crate::health::Health;
use crate::leases::{self, Held};
use crate::queue::Queue;
use crate::telemetry::Metrics;

/// Outcomes that may wait to be recorded beyond those whose task still has its slot.
const UNRECORDED: usize = 1024;

/// How the end of the worker is spread over the ten seconds after which it is usually killed.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// For attempts under way to end by themselves.
    pub attempts: Duration,
    /// For recording what ended, and again for giving back what did not.
    pub records: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        Self {
            attempts: Duration::from_secs(8),
            records: Duration::from_millis(800),
        }
    }
}

/// A queue, an HTTP client, and what they report to.
pub struct Worker<Q> {
    pub queue: Arc<Q>,
    pub client: Client,
    pub concurrency: usize,
    pub grace: Grace,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}

impl<Q: Queue> Worker<Q> {
    /// Delivers until `shutdown`, then ends in order: no more claims, attempts under way end, outcomes are recorded, and
    /// what is left is given back.
    ///
    /// # Errors
    /// When the queue can never be used, such as for an unknown version of the extension.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), DbError> {
        let Self {
            queue,
            client,
            concurrency,
            grace,
            health,
            metrics,
        } = self;
        let (held, recorded) = (Arc::new(Held::default()), Arc::new(Notify::new()));
        let (finished, to_record) = mpsc::channel(UNRECORDED);
        let (stop, abort, tasks) = (
            CancellationToken::new(),
            CancellationToken::new(),
            TaskTracker::new(),
        );

        let recorder = Recorder {
            queue: queue.clone(),
            finished: to_record,
            held: held.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            recorded: recorded.clone(),
        };
        let dispatcher = Dispatcher {
            queue: queue.clone(),
            attempts: Arc::new(Attempts::new(client, metrics.clone())),
            concurrency,
            held: held.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            recorded,
            finished,
            tasks: tasks.clone(),
            stop: stop.clone(),
            abort: abort.clone(),
        };
        let recording = tokio::spawn(recorder.run());
        let renewing = tokio::spawn(leases::renew(queue.clone(), held.clone(), metrics));
        let mut claiming = tokio::spawn(dispatcher.run());

        let ended = tokio::select! {
            ended = &mut claiming => Some(ended),
            () = shutdown => None,
        };
        health.stopping();
        stop.cancel();
        let deadline = Instant::now() + grace.attempts;
        let claimed = match ended {
            Some(claimed) => claimed,
            // At most one claim is under way; what it brings is still attempted, or given back.
            None => timeout_at(deadline, &mut claiming)
                .await
                .unwrap_or(Ok(Ok(()))),
        };
        claiming.abort();
        let ending = Ending {
            queue: &*queue,
            held: &held,
            tasks: &tasks,
            abort: &abort,
            deadline,
            records: grace.records,
        };
        ending.finish(recording).await;
        renewing.abort();
        claimed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

/// The end of a worker that claims no more.
struct Ending<'a, Q> {
    queue: &'a Q,
    held: &'a Held,
    tasks: &'a TaskTracker,
    abort: &'a CancellationToken,
    /// When attempts under way are given up.
    deadline: Instant,
    records: Duration,
}

impl<Q: Queue> Ending<'_, Q> {
    async fn finish(&self, recording: JoinHandle<()>) {
        self.tasks.close();
        if timeout_at(self.deadline, self.tasks.wait()).await.is_err() {
            tracing::info!(
                unfinished = self.tasks.len(),
                "{} attempts did not end in time and are given up",
                self.tasks.len()
            );
            self.abort.cancel();
        }
        let recorder = recording.abort_handle();
        // It ends when the last attempt has dropped its sender and everything is recorded.
        if timeout(self.records, recording).await.is_err() {
            tracing::warn!(
                "some outcomes could not be recorded in time; their deliveries will be attempted again"
            );
            recorder.abort();
        }
        self.give_back().await;
    }

    async fn give_back(&self) {
        let left = self.held.all();
        if left.is_empty() {
            return;
        }
        match timeout(self.records, self.queue.release(&left)).await {
            Ok(Ok(released)) => tracing::info!(
                released = released.len(),
                "gave back {} deliveries",
                released.len()
            ),
            Ok(Err(error)) => {
                let error = anyhow::Error::new(error).context("give back deliveries");
                tracing::warn!(left = left.len(), "failed to {error:#}");
            }
            Err(_) => tracing::warn!(
                left = left.len(),
                "the database took too long to take {} deliveries back",
                left.len()
            ),
        }
    }
}
