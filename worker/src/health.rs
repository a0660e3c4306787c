//! Whether this worker is doing its work: what `/readyz` answers, and whether claiming must wait for recording.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A claim loop that has not come round for this long is stuck: idle, it comes round with every poll of the dispatcher.
const PROGRESS_LIMIT: Duration = Duration::from_secs(15);

/// What the loops report of themselves.
pub struct Health {
    claims: Mutex<Claims>,
    recording: watch::Sender<Recording>,
}

struct Claims {
    last_progress: Option<Instant>,
    unready: Option<&'static str>,
    is_enrich_awaited: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Recording {
    Works,
    Fails,
}

impl Default for Health {
    fn default() -> Self {
        let claims = Claims {
            last_progress: None,
            unready: None,
            is_enrich_awaited: false,
        };
        Self {
            claims: Mutex::new(claims),
            recording: watch::Sender::new(Recording::Works),
        }
    }
}

impl Health {
    /// Why the worker is not ready, or `None` when it is.
    #[must_use]
    pub fn unready(&self, now: Instant) -> Option<&'static str> {
        let claims = self.lock();
        match claims.last_progress {
            _ if claims.unready.is_some() => claims.unready,
            None => Some("the database has not been reached yet"),
            Some(last) if now.duration_since(last) > PROGRESS_LIMIT => {
                Some("the claim loop makes no progress")
            }
            Some(_) if claims.is_enrich_awaited => Some("enrich requests are not taken yet"),
            Some(_) => None,
        }
    }

    /// The claim loop came round.
    pub(crate) fn progress(&self) {
        let mut claims = self.lock();
        claims.last_progress = Some(Instant::now());
        claims.unready = None;
    }

    /// The worker is not ready before it takes enrich requests: whoever stops another one when this one is ready leaves nobody
    /// without an answer.
    pub(crate) fn await_enrich(&self) {
        self.lock().is_enrich_awaited = true;
    }

    /// Enrich requests are taken, or there will be none.
    pub(crate) fn takes_enrich(&self) {
        self.lock().is_enrich_awaited = false;
    }

    /// A claim failed.
    pub(crate) fn unreachable(&self) {
        self.lock().unready = Some("the database is unreachable");
    }

    /// The worker is ending.
    pub(crate) fn stopping(&self) {
        self.lock().unready = Some("the worker is shutting down");
    }

    pub(crate) fn recording_fails(&self) {
        self.recording.send_replace(Recording::Fails);
    }

    pub(crate) fn recording_works(&self) {
        self.recording.send_replace(Recording::Works);
    }

    /// Waits until outcomes can be recorded. Claiming earlier could claim again what has been delivered and not yet recorded.
    pub(crate) async fn wait_for_recording(&self) {
        let mut recording = self.recording.subscribe();
        // The sender lives as long as `self`, so there is always an answer.
        let _always_ok = recording.wait_for(|state| *state == Recording::Works).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ready_means_that_the_claim_loop_came_round_in_the_last_15_seconds() {
        let health = Health::default();
        assert!(
            health.unready(Instant::now()).is_some(),
            "before the first claim"
        );
        health.progress();
        assert_eq!(health.unready(Instant::now()), None);
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(health.unready(Instant::now()), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(
            health.unready(Instant::now()),
            Some("the claim loop makes no progress")
        );
        health.progress();
        health.await_enrich();
        assert!(
            health.unready(Instant::now()).is_some(),
            "before the first take"
        );
        health.takes_enrich();
        assert_eq!(health.unready(Instant::now()), None);
        health.unreachable();
        assert_eq!(
            health.unready(Instant::now()),
            Some("the database is unreachable")
        );
    }
}
