//! How many webhooks may be in the database at once, and how many may wait for that.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Refusal;
use crate::telemetry::UnderWay;

/// Waiting places for each place in the database. At a few milliseconds a call a full queue is short in time as well; a longer
/// one would only hold requests whose senders give up.
const QUEUE_FACTOR: usize = 8;

/// First come, first served.
pub(super) struct Gate {
    places: Arc<Semaphore>,
    queue: Semaphore,
    /// How long to wait in the queue: beyond, senders have given up.
    patience: Duration,
    waiting: Gauge,
}

impl Gate {
    pub(super) fn new(places: usize, patience: Duration, waiting: Gauge) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            queue: Semaphore::new(places * QUEUE_FACTOR),
            patience,
            waiting,
        }
    }

    /// A place in the database, until it is dropped. When the queue is full the answer is no at once.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let _queued = self.queue.try_acquire().map_err(|_| Refusal::Busy)?;
        let _waiting = UnderWay::enter(&self.waiting);
        match timeout(self.patience, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // The gate is never closed, so this is the patience.
            Ok(Err(_)) | Err(_) => Err(Refusal::Busy),
        }
    }
}
