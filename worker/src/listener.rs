//! How the claim loop sleeps without missing a delivery.
//!
//! Sleeping is announced first; then the queue is looked at once more; and only when that finds nothing, and the announcement
//! was answered with leave to sleep, the loop waits. A transaction that commits after the announcement sends a notification,
//! one that committed before it is found by the last look, and one that straddles it is why leave is sometimes refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::db::DbError;
use crate::queue::Queue;

/// The safety net: how long a sleep lasts when nothing ends it.
pub(crate) const POLL: Duration = Duration::from_secs(5);

/// What is due and yet cannot be claimed, behind a limit that no clock ends, is not looked at more often than this.
const SHORTEST_SLEEP: Duration = Duration::from_millis(5);

/// The longest pause between two announcements while a transaction that straddles them stays open. It may stay open for
/// minutes, and its deliveries must still be found quickly once it commits.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Where the claim loop stands with the announcement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is announced.
    Awake,
    /// Announced, and not allowed to sleep; the pause before asking again.
    Refused(Duration),
    /// Announced, and allowed to sleep after one more look.
    Allowed,
    /// Something ended the sleep, so that the announcement may be used up.
    Roused,
}

/// Puts the claim loop to sleep and wakes it.
pub(crate) struct Listener<Q> {
    queue: Arc<Q>,
    recorded: Arc<Notify>,
    state: State,
}

impl<Q: Queue> Listener<Q> {
    /// `recorded` also ends a sleep: an outcome that was recorded may have made room for another delivery.
    pub(crate) fn new(queue: Arc<Q>, recorded: Arc<Notify>) -> Self {
        Self {
            queue,
            recorded,
            state: State::Awake,
        }
    }

    /// A claim found deliveries: whatever was announced is taken back.
    pub(crate) async fn found_some(&mut self) -> Result<(), DbError> {
        if std::mem::replace(&mut self.state, State::Awake) != State::Awake {
            self.queue.wake_up().await?;
        }
        Ok(())
    }

    /// A claim found nothing: announces, or sleeps when that has been done, and returns when it is time to claim again.
    pub(crate) async fn found_none(
        &mut self,
        next_claim_in: Option<Duration>,
    ) -> Result<(), DbError> {
        match self.state {
            State::Awake => self.announce(Duration::ZERO).await,
            State::Refused(pause) => {
                // The announcement stands, so a new transaction's notification ends the pause.
                tokio::select! {
                    () = self.queue.notified() => {}
                    () = sleep(pause) => {}
                }
                let longer = (pause * 2).clamp(Duration::from_millis(1), LONGEST_PAUSE);
                self.announce(longer).await
            }
            State::Allowed => {
                self.sleep(next_claim_in).await;
                Ok(())
            }
            State::Roused => {
                self.queue.wake_up().await?;
                self.announce(Duration::ZERO).await
            }
        }
    }

    /// A call failed: the next sleep begins with a new announcement.
    pub(crate) fn failed(&mut self) {
        self.state = State::Roused;
    }

    async fn announce(&mut self, pause: Duration) -> Result<(), DbError> {
        self.state = match self.queue.prepare_to_sleep().await? {
            true => State::Allowed,
            false => State::Refused(pause),
        };
        Ok(())
    }

    async fn sleep(&mut self, next_claim_in: Option<Duration>) {
        let due = next_claim_in
            .filter(|wait| *wait < POLL)
            .map(|wait| wait.max(SHORTEST_SLEEP));
        tokio::select! {
            () = self.queue.notified() => self.state = State::Roused,
            // The announcement still stands after these two, so that the next sleep needs no new one.
            () = self.recorded.notified() => {}
            () = sleep(due.unwrap_or(POLL)) => {
                if due.is_none() {
                    self.state = State::Roused;
                }
            }
        }
    }
}
