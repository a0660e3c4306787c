//! The queue as the loops see it: claim, complete, renew, release, sleep. The database implements it; tests have one in memory.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actionflow_core::outcome::Outcome;
use bytes::Bytes;

use crate::db::DbError;
use crate::telemetry::EndpointMetrics;

/// The right to attempt one delivery. Whoever claims it later gets another token, and this one then changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub id: i64,
    pub token: i64,
}

/// A claimed delivery.
#[derive(Debug)]
pub struct Delivery {
    pub lease: Lease,
    /// Counts all attempts, from 1.
    pub attempt: i32,
    /// Index into the retry schedule if this attempt fails.
    pub retry: usize,
    pub url: String,
    pub body: Bytes,
    pub endpoint_id: i64,
    /// The endpoint's settings as JSON, on the first delivery of each endpoint in a claim.
    pub endpoint: Option<String>,
    /// Of an enrich step: the time for one attempt. Its answer is read whole, checked and handed over.
    pub enrich_timeout: Option<Duration>,
    pub privacy: Privacy,
}

/// Whether what an endpoint answers may be kept with the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    Ordinary,
    /// The message holds a link that gives access, which an answer may repeat.
    Private,
}

/// The answer to a claim.
#[derive(Debug, Default)]
pub struct Claim {
    pub deliveries: Vec<Delivery>,
    /// How long until something that is scheduled may be claimable.
    pub next_claim_in: Option<Duration>,
}

/// An attempt that has ended and is to be recorded.
#[derive(Debug)]
pub struct Finished {
    pub lease: Lease,
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub error: Option<String>,
    /// The first part of the answer's body, without NUL.
    pub response: Option<String>,
    /// Of an enrich step that was delivered: core's `Answer` as JSON.
    pub answer: Option<String>,
    pub started_at: SystemTime,
    pub duration: Duration,
    /// Counts the outcome once it is recorded.
    pub metrics: Arc<EndpointMetrics>,
}

impl Finished {
    /// The outcome as SQL and the metrics name it.
    #[must_use]
    pub fn outcome_name(&self) -> &'static str {
        match self.outcome {
            Outcome::Delivered => "delivered",
            Outcome::Retry(_) => "retry",
            Outcome::Dead => "dead",
            Outcome::Gone => "gone",
        }
    }

    pub(crate) fn retry_after_ms(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Retry(wait) => Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
            Outcome::Delivered | Outcome::Dead | Outcome::Gone => None,
        }
    }

    pub(crate) fn duration_ms(&self) -> i32 {
        i32::try_from(self.duration.as_millis()).unwrap_or(i32::MAX)
    }
}

/// What the loops ask of the queue. Every call is a short transaction of its own.
pub trait Queue: Send + Sync + 'static {
    /// Leases up to `max` deliveries. The claim is committed when this returns.
    fn claim(&self, max: usize) -> impl Future<Output = Result<Claim, DbError>> + Send;

    /// Records ended attempts; returns the ids whose lease was still held.
    fn complete(
        &self,
        batch: &[Finished],
    ) -> impl Future<Output = Result<Vec<i64>, DbError>> + Send;

    /// Extends leases; returns the ids that were still held.
    fn renew(&self, leases: &[Lease]) -> impl Future<Output = Result<Vec<i64>, DbError>> + Send;

    /// Gives deliveries back unattempted; returns the ids that were still held.
    fn release(&self, leases: &[Lease]) -> impl Future<Output = Result<Vec<i64>, DbError>> + Send;

    /// Announces that this worker is about to sleep. It may, after one more claim, when this is true.
    fn prepare_to_sleep(&self) -> impl Future<Output = Result<bool, DbError>> + Send;

    /// Takes the announcement back.
    fn wake_up(&self) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Waits for a notification that came since the last announcement, or for the loss of the connection that would bring it.
    fn notified(&self) -> impl Future<Output = ()> + Send;
}
