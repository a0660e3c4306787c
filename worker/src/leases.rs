//! The leases that this worker holds, and their renewal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::queue::{Lease, Queue};
use crate::telemetry::Metrics;

/// A third of the lease (12 s): two renewals may fail before one is lost.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// Younger leases wait for the next renewal, when they still have half of their time. Under load nearly every delivery
/// ends before that, so renewals cost nothing.
const RENEW_FROM_AGE: Duration = Duration::from_secs(2);

/// Every lease from its claim until its outcome is recorded.
#[derive(Default)]
pub(crate) struct Held {
    leases: Mutex<HashMap<i64, Holding>>,
    /// Locked while a renewal is under way.
    renewing: tokio::sync::Mutex<()>,
}

struct Holding {
    token: i64,
    since: Instant,
    purpose: Purpose,
}

/// What a lease is held for at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its attempt is under way, or has ended and waits to be recorded.
    Attempt,
    /// A call that records it is under way. It is not renewed meanwhile: the two would lock the same rows in whatever order
    /// the server's plans have, and deadlock.
    Recording,
}

impl Held {
    pub(crate) fn insert(&self, lease: Lease, since: Instant) {
        let holding = Holding {
            token: lease.token,
            since,
            purpose: Purpose::Attempt,
        };
        self.lock().insert(lease.id, holding);
    }

    pub(crate) fn remove<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>) {
        let mut held = self.lock();
        for lease in leases {
            remove_one(&mut held, *lease);
        }
    }

    /// Everything that is held, in the order of ids, which every statement that locks deliveries keeps.
    pub(crate) fn all(&self) -> Vec<Lease> {
        self.collect(|_| true)
    }

    /// A call that records these is about to begin; waits for a renewal that is under way.
    pub(crate) async fn begin_recording<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>) {
        let _no_renewal = self.renewing.lock().await;
        self.set_purpose(leases, Purpose::Recording);
    }

    /// The call has failed, so that the leases are needed for longer.
    pub(crate) fn end_recording<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>) {
        self.set_purpose(leases, Purpose::Attempt);
    }

    fn set_purpose<'a>(&self, leases: impl IntoIterator<Item = &'a Lease>, purpose: Purpose) {
        let mut held = self.lock();
        for lease in leases {
            if let Some(holding) = held
                .get_mut(&lease.id)
                .filter(|holding| holding.token == lease.token)
            {
                holding.purpose = purpose;
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<Lease> {
        self.collect(|holding| {
            holding.purpose == Purpose::Attempt
                && now.duration_since(holding.since) >= RENEW_FROM_AGE
        })
    }

    fn collect(&self, wanted: impl Fn(&Holding) -> bool) -> Vec<Lease> {
        let held = self.lock();
        let wanted = held.iter().filter(|(_, holding)| wanted(holding));
        let mut leases: Vec<Lease> = wanted
            .map(|(&id, holding)| Lease {
                id,
                token: holding.token,
            })
            .collect();
        leases.sort_unstable();
        leases
    }

    /// Forgets those that were asked for and not answered; returns how many were still in use.
    fn forget_lost(&self, asked: &[Lease], answered: &[i64]) -> usize {
        let answered: std::collections::HashSet<i64> = answered.iter().copied().collect();
        let mut held = self.lock();
        let lost = asked.iter().filter(|lease| !answered.contains(&lease.id));
        lost.filter(|lease| remove_one(&mut held, **lease)).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Holding>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only with the same token: the delivery may have been lost and claimed again in the meantime.
fn remove_one(held: &mut HashMap<i64, Holding>, lease: Lease) -> bool {
    let is_same = held
        .get(&lease.id)
        .is_some_and(|holding| holding.token == lease.token);
    is_same && held.remove(&lease.id).is_some()
}

/// Renews leases until it is dropped.
pub(crate) async fn renew<Q: Queue>(queue: Arc<Q>, held: Arc<Held>, metrics: Arc<Metrics>) {
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let _renewing = held.renewing.lock().await;
        let due = held.due(Instant::now());
        if due.is_empty() {
            continue;
        }
        match queue.renew(&due).await {
            Ok(answered) => {
                let lost = held.forget_lost(&due, &answered);
                if lost > 0 {
                    metrics.leases_lost.inc_by(lost as u64);
                    tracing::warn!(
                        lost,
                        "lost {lost} leases; their deliveries may be attempted twice"
                    );
                }
            }
            Err(error) => {
                metrics.database_errors.inc();
                let error = anyhow::Error::new(error).context("renew leases");
                tracing::warn!(held = due.len(), "failed to {error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64, token: i64) -> Lease {
        Lease { id, token }
    }

    #[tokio::test(start_paused = true)]
    async fn only_leases_with_some_age_are_renewed() {
        let held = Held::default();
        held.insert(lease(2, 7), Instant::now());
        tokio::time::advance(RENEW_FROM_AGE).await;
        held.insert(lease(1, 8), Instant::now());
        assert_eq!(held.due(Instant::now()), [lease(2, 7)]);
        assert_eq!(held.all(), [lease(1, 8), lease(2, 7)]);
    }

    #[tokio::test(start_paused = true)]
    async fn leases_are_not_renewed_while_they_are_being_recorded() {
        let held = Held::default();
        held.insert(lease(1, 7), Instant::now());
        tokio::time::advance(RENEW_FROM_AGE).await;
        held.begin_recording(&[lease(1, 7)]).await;
        assert_eq!(held.due(Instant::now()), []);
        held.end_recording(&[lease(1, 7)]);
        assert_eq!(held.due(Instant::now()), [lease(1, 7)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_token_does_not_end_the_lease_that_replaced_it() {
        let held = Held::default();
        held.insert(lease(1, 7), Instant::now());
        held.insert(lease(1, 8), Instant::now());
        held.remove(&[lease(1, 7)]);
        assert_eq!(held.all(), [lease(1, 8)]);
        assert_eq!(held.forget_lost(&[lease(1, 7)], &[]), 0);
        assert_eq!(held.forget_lost(&[lease(1, 8)], &[]), 1);
        assert_eq!(held.all(), []);
    }
}
