//! How many webhooks may be in the database at once, how many may wait for that, and how much of both one URL may take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Refusal;
use crate::telemetry::UnderWay;

/// Waiting places for each place in the database. At a few milliseconds a call a full queue is short in time as well; a longer
/// one would only hold requests whose senders give up.
const QUEUE_FACTOR: usize = 8;

/// First come, first served, except that one token has at most three quarters of the places and of the queue: a webhook whose
/// calls are slow, or wait for a lock, leaves room for the others.
pub(super) struct Gate {
    places: Arc<Semaphore>,
    queue: Semaphore,
    /// What one token may take of each. One place cannot be divided: it is open to every token.
    share: (usize, usize),
    tokens: Tokens,
    /// How long to wait in the queue: beyond, senders have given up.
    patience: Duration,
    waiting: Gauge,
}

/// The tokens that have a request here, so there are no more than requests.
type Tokens = Arc<Mutex<HashMap<String, Guest>>>;

struct Guest {
    share: Share,
    requests: usize,
}

#[derive(Clone)]
struct Share {
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

/// A place in the database, until it is dropped.
pub(super) struct Place {
    _place: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _visit: Visit,
}

/// A request of a token, from its arrival until it has left the database.
struct Visit {
    token: String,
    share: Share,
    tokens: Tokens,
}

impl Gate {
    pub(super) fn new(places: usize, patience: Duration, waiting: Gauge) -> Self {
        let queue = places * QUEUE_FACTOR;
        Self {
            places: Arc::new(Semaphore::new(places)),
            queue: Semaphore::new(queue),
            share: (share_of(places), share_of(queue)),
            tokens: Tokens::default(),
            patience,
            waiting,
        }
    }

    /// A place in the database. When the queue, or the token's share of it, is full the answer is no at once.
    pub(super) async fn enter(&self, token: &str) -> Result<Place, Refusal> {
        let visit = self.visit(token);
        let own = visit.share.places.clone().try_acquire_owned().ok();
        if let Some(own) = own {
            // Without a place for it the share is given back, and both are waited for in turn.
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return Ok(Place::new(place, own, visit));
            }
        }
        let share = visit.share.clone();
        let _own_queued = share.queue.try_acquire().map_err(|_| Refusal::Busy)?;
        let _queued = self.queue.try_acquire().map_err(|_| Refusal::Busy)?;
        let _waiting = UnderWay::enter(&self.waiting);
        let both = async {
            // The share first: who waits for that is not in line for a place that another token could have.
            let own = share.places.clone().acquire_owned().await?;
            let place = self.places.clone().acquire_owned().await?;
            Ok::<_, tokio::sync::AcquireError>((place, own))
        };
        match timeout(self.patience, both).await {
            Ok(Ok((place, own))) => Ok(Place::new(place, own, visit)),
            // Neither semaphore is ever closed, so this is the patience.
            Ok(Err(_)) | Err(_) => Err(Refusal::Busy),
        }
    }

    fn visit(&self, token: &str) -> Visit {
        let (places, queue) = self.share;
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let guest = tokens.entry(token.to_owned()).or_insert_with(|| Guest {
            share: Share {
                places: Arc::new(Semaphore::new(places)),
                queue: Arc::new(Semaphore::new(queue)),
            },
            requests: 0,
        });
        guest.requests += 1;
        Visit {
            token: token.to_owned(),
            share: guest.share.clone(),
            tokens: self.tokens.clone(),
        }
    }
}

fn share_of(all: usize) -> usize {
    (all - all.div_ceil(4)).max(1)
}

impl Place {
    fn new(place: OwnedSemaphorePermit, own: OwnedSemaphorePermit, visit: Visit) -> Self {
        Self {
            _place: place,
            _own: own,
            _visit: visit,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = tokens.get_mut(&self.token) {
            guest.requests -= 1;
            if guest.requests == 0 {
                tokens.remove(&self.token);
            }
        }
    }
}
