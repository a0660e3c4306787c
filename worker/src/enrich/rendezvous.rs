//! The rendezvous as the loops see it: take, answer, record. The database implements it; tests have one in memory.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::db::DbError;

/// A request whose caller waits.
#[derive(Debug)]
pub struct Taken {
    /// Names the waiting caller. It means nothing once it has been answered.
    pub ticket: i64,
    /// What was left of the caller's time when the request was taken.
    pub remaining: Duration,
    /// [`Head`] as JSON.
    pub head: String,
    /// The message, to be signed and sent.
    pub body: Bytes,
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Head {
    /// The same on every attempt; a signed answer repeats it.
    pub id: i64,
    pub endpoint_id: i64,
    /// Counts the changes of the endpoint's settings.
    pub endpoint_revision: i64,
    pub url: String,
    pub flow_id: Option<i64>,
    pub run_id: Option<i64>,
    pub event_id: Option<i64>,
    pub action: String,
    pub user_id: String,
    pub mode: String,
    /// Requests to one endpoint with the same key may have the same answer.
    pub cache_key: Option<String>,
    pub cache_seconds: Option<u32>,
}

/// Replies and whom they are for, as the two columns that the database takes.
#[derive(Debug, Default)]
pub struct Replies {
    pub tickets: Vec<i64>,
    /// Core's `Reply` as JSON, at the place of its ticket.
    pub replies: Vec<String>,
}

/// What is recorded of one attempt, or of an answer from the cache.
#[derive(Debug, Clone)]
pub struct Entry {
    pub head: Arc<Head>,
    /// From 1.
    pub attempt: u32,
    pub started_at: SystemTime,
    pub duration: Duration,
    pub status: Option<u16>,
    /// `allow`, `challenge`, `block` or `failed`.
    pub outcome: &'static str,
    /// The answer's own reason.
    pub reason: Option<String>,
    pub error: Option<String>,
    pub is_cached: bool,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since_1970 = self.started_at.duration_since(SystemTime::UNIX_EPOCH);
        let started_at = microseconds(since_1970.unwrap_or_default());
        let mut entry = serializer.serialize_struct("Entry", 16)?;
        entry.serialize_field("request_id", &self.head.id)?;
        entry.serialize_field("event_id", &self.head.event_id)?;
        entry.serialize_field("run_id", &self.head.run_id)?;
        entry.serialize_field("flow_id", &self.head.flow_id)?;
        entry.serialize_field("endpoint_id", &self.head.endpoint_id)?;
        entry.serialize_field("action", &self.head.action)?;
        entry.serialize_field("user_id", &self.head.user_id)?;
        entry.serialize_field("mode", &self.head.mode)?;
        entry.serialize_field("attempt", &self.attempt)?;
        entry.serialize_field("started_at", &started_at)?;
        entry.serialize_field("duration_us", &microseconds(self.duration))?;
        entry.serialize_field("status", &self.status)?;
        entry.serialize_field("outcome", &self.outcome)?;
        entry.serialize_field("reason", &self.reason)?;
        entry.serialize_field("error", &self.error)?;
        entry.serialize_field("is_cached", &self.is_cached)?;
        entry.end()
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What the loops ask of the database.
pub trait Rendezvous: Send + Sync + 'static {
    /// Takes up to `max` requests; waits up to `wait` for the first. What is taken fails for its callers when the connection
    /// that took it ends.
    fn take(
        &self,
        max: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Taken>, DbError>> + Send;

    /// Takes no more, so that nobody waits for this worker from now on; what has been taken can still be answered.
    fn retire(&self) -> impl Future<Output = Result<(), DbError>> + Send;

    /// Ends the connection that takes: what it has taken and nobody has answered fails for its callers at once.
    fn leave(&self) -> impl Future<Output = ()> + Send;

    /// Hands replies over; returns the tickets whose caller was still waiting.
    fn answer(&self, replies: &Replies) -> impl Future<Output = Result<Vec<i64>, DbError>> + Send;

    /// The settings of an endpoint as JSON, the revision among them, or `None` when there is no such endpoint.
    fn endpoint(
        &self,
        endpoint_id: i64,
    ) -> impl Future<Output = Result<Option<String>, DbError>> + Send;

    /// Records attempts.
    fn record(&self, entries: &[Entry]) -> impl Future<Output = Result<(), DbError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_written_with_the_keys_that_the_database_reads() {
        let head = r#"{"id": 123, "endpoint_id": 1, "endpoint_revision": 5, "url": "https://example.com/", "flow_id": 3,
            "run_id": 17, "event_id": null, "action": "risk", "user_id": "42", "mode": "live", "cache_key": null,
            "cache_seconds": 30}"#;
        let entry = Entry {
            head: Arc::new(serde_json::from_str(head).unwrap()),
            attempt: 2,
            started_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_316_400_123),
            duration: Duration::from_micros(1500),
            status: Some(503),
            outcome: "failed",
            reason: None,
            error: Some("the endpoint answered 503".to_owned()),
            is_cached: false,
        };
        assert_eq!(
            serde_json::to_value(&entry).unwrap(),
            serde_json::json!({
                "request_id": 123, "event_id": null, "run_id": 17, "flow_id": 3, "endpoint_id": 1, "action": "risk",
                "user_id": "42", "mode": "live", "attempt": 2, "started_at": 1_795_316_400_123_000_u64,
                "duration_us": 1500, "status": 503, "outcome": "failed", "reason": null,
                "error": "the endpoint answered 503", "is_cached": false
            })
        );
    }
}
