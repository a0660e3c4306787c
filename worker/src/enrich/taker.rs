//! The take loop: takes as many requests as there are free places and gives each a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answering::Ready;
use super::call::{Calls, Performed};
use super::recording::Log;
use super::{Rendezvous, Taken};
use crate::backoff::Backoff;
use crate::db::DbError;
use crate::health::Health;
use crate::telemetry::Metrics;

/// Requests under way at once. The database has fewer places for callers who wait; this bounds what a mistake could cost.
const PLACES: usize = 1024;

/// How long a take waits in the database: so long the end of the worker may wait for it, and so long it keeps the database from
/// cleaning up.
const TAKE_WAIT: Duration = Duration::from_millis(500);

/// How often a database that is not prepared for Enrich is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The longest wait before the database is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What the take loop is made of.
pub(super) struct Taker<R> {
    pub(super) rendezvous: Arc<R>,
    pub(super) calls: Arc<Calls<R>>,
    pub(super) log: Arc<Log>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    /// Bounded, and waited for by tasks that keep their place: when answering falls behind, taking does.
    pub(super) ready: mpsc::Sender<Ready>,
    pub(super) tasks: TaskTracker,
    /// Ends the take loop.
    pub(super) stop: CancellationToken,
    /// Ends the requests under way.
    pub(super) abort: CancellationToken,
}

impl<R: Rendezvous> Taker<R> {
    /// Takes until it is stopped.
    pub(super) async fn run(self) {
        let places = Arc::new(Semaphore::new(PLACES));
        let mut backoff = Backoff::new(MAX_PAUSE);
        let mut is_unprepared = false;
        // The first take only says that somebody is there.
        let mut wait = Duration::ZERO;
        while let Some(permits) = self.free_places(&places).await {
            let taking = self.rendezvous.take(permits.num_permits(), wait);
            let pause = match taking.await {
                Ok(taken) => {
                    self.spawn(taken, permits);
                    backoff.reset();
                    is_unprepared = false;
                    wait = TAKE_WAIT;
                    self.health.takes_enrich();
                    continue;
                }
                Err(error @ DbError::NotPreloaded) => {
                    self.health.takes_enrich();
                    if !std::mem::replace(&mut is_unprepared, true) {
                        tracing::info!("enrich requests that a session waits for are off: {error}");
                    }
                    ASK_AGAIN
                }
                Err(error) => {
                    self.complain(error);
                    backoff.next()
                }
            };
            self.stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    fn spawn(&self, taken: Vec<Taken>, mut permits: OwnedSemaphorePermit) {
        let since = Instant::now();
        for request in taken {
            // The database gives no more than it was asked for.
            let place = permits.split(1);
            let (calls, log) = (self.calls.clone(), self.log.clone());
            let (ready, abort) = (self.ready.clone(), self.abort.clone());
            self.tasks.spawn(async move {
                let ticket = request.ticket;
                let performing = calls.perform(request, since);
                if let Some(performed) = abort.run_until_cancelled(performing).await {
                    let Performed { reply, entries } = performed;
                    // The receiver ends only after every task has.
                    let _answering_lives = ready.send(Ready { ticket, reply }).await;
                    log.write(entries);
                }
                drop(place);
            });
        }
    }

    /// Waits for a place, and takes every other free one too; `None` when the loop is stopped.
    async fn free_places(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let waiting = async {
            let first = places.clone().acquire_owned().await;
            let mut permits = first.expect("the semaphore is never closed");
            let more = u32::try_from(places.available_permits()).unwrap_or_default();
            if let Ok(more) = places.clone().try_acquire_many_owned(more) {
                permits.merge(more);
            }
            permits
        };
        match self.stop.is_cancelled() {
            true => None,
            false => self.stop.run_until_cancelled(waiting).await,
        }
    }

    fn complain(&self, error: DbError) {
        self.metrics.database_errors.inc();
        let error = anyhow::Error::new(error).context("take enrich requests");
        tracing::warn!("failed to {error:#}");
    }
}
