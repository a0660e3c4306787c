//! The claim loop: claims as many deliveries as there are free slots and hands each to a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::db::DbError;
use crate::deliver::{Attempts, Directory};
use crate::health::Health;
use crate::leases::Held;
use crate::listener::{Listener, POLL};
use crate::queue::{Claim, Finished, Queue};
use crate::telemetry::Metrics;

/// The largest claim. More gains little, and its answer is held in memory at once.
const MAX_CLAIM: usize = 1024;

/// Under load, a claim waits until a quarter of the slots is free, or this many, so that batches stay large ...
const GATHERED_SLOTS: usize = 128;

/// ... but not longer than this: slow endpoints may hold the other slots for half a minute.
const GATHER_TIME: Duration = Duration::from_millis(3);

/// How long the loop rests after a claim that left slots free: an endpoint has met its limit, or the queue is empty. What
/// can be claimed next is what is recorded or queued meanwhile, so some of it may come together; without the rest, the
/// loop claims a handful at a time as fast as it can, and is ten times slower in all.
const REST: Duration = Duration::from_millis(2);

/// The longest wait before the database is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What the claim loop is made of.
pub(crate) struct Dispatcher<Q> {
    pub(crate) queue: Arc<Q>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) concurrency: usize,
    pub(crate) held: Arc<Held>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) recorded: Arc<Notify>,
    /// Bounded, and waited for by tasks that keep their slot: when recording falls behind, claiming does.
    pub(crate) finished: mpsc::Sender<Finished>,
    pub(crate) tasks: TaskTracker,
    /// Ends the claim loop.
    pub(crate) stop: CancellationToken,
    /// Ends the attempts under way.
    pub(crate) abort: CancellationToken,
}

impl<Q: Queue> Dispatcher<Q> {
    /// Claims until it is stopped.
    ///
    /// # Errors
    /// Only when trying again cannot help, such as for an unknown version of the extension.
    pub(crate) async fn run(self) -> Result<(), DbError> {
        let slots = Arc::new(Semaphore::new(self.concurrency));
        let mut listener = Listener::new(self.queue.clone(), self.recorded.clone());
        let mut directory = Directory::new(self.metrics.clone());
        let mut backoff = Backoff::new(MAX_PAUSE);
        let mut wanted = 1;
        while let Some(permits) = self.free_slots(&slots, wanted).await {
            let asked = permits.num_permits();
            match self.turn(permits, &mut listener, &mut directory).await {
                Ok(claimed) => {
                    // Half is what one endpoint may take of the free slots. Less than that is no load: slots that slow
                    // endpoints hold are no reason to let the others wait for a larger claim.
                    let is_under_load = claimed * 2 >= asked;
                    wanted = if is_under_load { self.large_claim() } else { 1 };
                    backoff.reset();
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    listener.failed();
                    self.complain(error);
                    self.stop.run_until_cancelled(sleep(backoff.next())).await;
                }
            }
        }
        Ok(())
    }

    /// One claim, and what follows from it; how many deliveries it took.
    async fn turn(
        &self,
        permits: OwnedSemaphorePermit,
        listener: &mut Listener<Q>,
        directory: &mut Directory,
    ) -> Result<usize, DbError> {
        // Leases are counted from before the claim, so that they never last longer than believed.
        let since = Instant::now();
        let asked = permits.num_permits();
        let Claim {
            deliveries,
            next_claim_in,
        } = self.queue.claim(asked).await?;
        self.health.progress();
        if deliveries.is_empty() {
            drop(permits);
            let waited = self
                .stop
                .run_until_cancelled(listener.found_none(next_claim_in))
                .await;
            return waited.unwrap_or(Ok(())).map(|()| 0);
        }
        let claimed = deliveries.len();
        self.dispatch(
            Claim {
                deliveries,
                next_claim_in,
            },
            permits,
            since,
            directory,
        );
        listener.found_some().await?;
        if claimed < asked {
            self.stop.run_until_cancelled(sleep(REST)).await;
        }
        Ok(claimed)
    }

    fn dispatch(
        &self,
        claim: Claim,
        mut permits: OwnedSemaphorePermit,
        since: Instant,
        directory: &mut Directory,
    ) {
        for mut delivery in claim.deliveries {
            let target = directory.target(&mut delivery);
            self.held.insert(delivery.lease, since);
            let slot = permits.split(1);
            let (attempts, finished, abort) = (
                self.attempts.clone(),
                self.finished.clone(),
                self.abort.clone(),
            );
            self.tasks.spawn(async move {
                let attempt = attempts.perform(delivery, &target);
                if let Some(outcome) = abort.run_until_cancelled(attempt).await {
                    // The receiver ends only after every task has.
                    let _recorder_lives = finished.send(outcome).await;
                }
                drop(slot);
            });
        }
    }

    fn large_claim(&self) -> usize {
        (self.concurrency / 4).clamp(1, GATHERED_SLOTS)
    }

    /// Waits for `wanted` slots, a short while, and for recording to work; `None` when the loop is stopped.
    async fn free_slots(
        &self,
        slots: &Arc<Semaphore>,
        wanted: usize,
    ) -> Option<OwnedSemaphorePermit> {
        let gathered = async {
            self.health.wait_for_recording().await;
            let mut permits = match timeout(GATHER_TIME, acquire(slots, wanted)).await {
                Ok(permits) => permits,
                Err(_) => self.first_free_slot(slots).await,
            };
            let more = slots
                .available_permits()
                .min(MAX_CLAIM.saturating_sub(permits.num_permits()));
            if let Ok(more) = slots
                .clone()
                .try_acquire_many_owned(u32::try_from(more).unwrap_or_default())
            {
                permits.merge(more);
            }
            permits
        };
        match self.stop.is_cancelled() {
            true => None,
            false => self.stop.run_until_cancelled(gathered).await,
        }
    }

    async fn first_free_slot(&self, slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = timeout(POLL, acquire(slots, 1)).await {
                return permit;
            }
            // All slots taken by slow endpoints is a full worker, not a stuck one.
            self.health.progress();
        }
    }

    fn complain(&self, error: DbError) {
        self.health.unreachable();
        self.metrics.database_errors.inc();
        let error = anyhow::Error::new(error).context("claim deliveries");
        tracing::warn!("failed to {error:#}");
    }
}

async fn acquire(slots: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    slots
        .clone()
        .acquire_many_owned(count)
        .await
        .expect("the semaphore is never closed")
}
