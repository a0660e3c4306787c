//! One HTTP request of an enrich request, and what its answer means.

use std::time::{Duration, SystemTime};

use actionflow_core::enrich::answer::{Answer, MAX_ANSWER_BYTES};
use actionflow_core::enrich::reply::{Failure, FailureKind};
use actionflow_core::outcome::SendError;
use actionflow_core::retry::parse_retry_after;
use bytes::Bytes;
use tokio::time::Instant;

use crate::deliver::{self, Client, Limit, Response, Target, prepare, usable};

/// The wait before the second attempt, when the endpoint asks for no longer one.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// With less time than this a second attempt is not worth its request.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(10);

/// What came of an attempt.
pub(super) struct Attempted {
    pub(super) status: Option<u16>,
    /// A failure comes with the wait after which another attempt may be made, if that leaves time for it.
    pub(super) result: Result<Answer, (Failure, Option<Duration>)>,
}

/// Makes one attempt, which ends at the deadline at the latest.
pub(super) async fn attempt(
    client: &Client,
    target: &Target,
    id: i64,
    message: &Bytes,
    deadline: Instant,
) -> Attempted {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Attempted {
            status: None,
            result: Err((
                failure(
                    FailureKind::Timeout,
                    "the time ran out before the request was made",
                ),
                None,
            )),
        };
    }
    let sent = match prepare(target, id, message, left, SystemTime::now()) {
        Ok(request) => client.send(request, Limit::whole(MAX_ANSWER_BYTES)).await,
        Err(unsendable) => Err(unsendable),
    };
    let (status, result) = match sent {
        Ok(response) => (
            Some(response.status),
            usable(&target.endpoint, id, &response, SystemTime::now()).map_err(|unusable| {
                let wait = is_passing(response.status).then(|| asked_wait(&response));
                (failure(unusable.kind(), &unusable.to_string()), wait)
            }),
        ),
        Err(failure) => (failure.status, Err(unanswered(failure))),
    };
    let has_time = |wait: &Duration| Instant::now() + *wait + SHORTEST_ATTEMPT <= deadline;
    Attempted {
        status,
        result: result.map_err(|(failure, wait)| (failure, wait.filter(has_time))),
    }
}

/// A request that got no answer, and the wait before it may be made again.
fn unanswered(sent: deliver::Failure) -> (Failure, Option<Duration>) {
    let (kind, wait) = match sent.kind {
        SendError::Connect => (FailureKind::Connect, Some(RETRY_WAIT)),
        SendError::Broken => (FailureKind::Broken, Some(RETRY_WAIT)),
        SendError::Timeout => (FailureKind::Timeout, None),
        SendError::AddressRefused => (FailureKind::AddressRefused, None),
        SendError::Unsendable => (FailureKind::Unsendable, None),
        SendError::Panicked => (FailureKind::Internal, None),
    };
    (failure(kind, &sent.message), wait)
}

/// Whether this status says that the next request may be answered.
fn is_passing(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

fn asked_wait(response: &Response) -> Duration {
    let asked = response.retry_after.as_deref();
    let asked = asked.and_then(|value| parse_retry_after(value, SystemTime::now()));
    asked.unwrap_or_default().max(RETRY_WAIT)
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    Failure {
        kind,
        message: message.to_owned(),
    }
}
