//! One HTTP request of an enrich request, and what its answer means.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actionflow_core::enrich::answer::{Answer, MAX_ANSWER_BYTES};
use actionflow_core::enrich::reply::{Failure, FailureKind};
use actionflow_core::outcome::SendError;
use actionflow_core::retry::parse_retry_after;
use bytes::Bytes;
use reqwest::Request;
use tokio::time::Instant;

use super::thread::aside;
use crate::deliver::{self, Client, Limit, Response, Target, Unusable, prepare, usable};

/// The wait before the second attempt, when the endpoint asks for no longer one.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// With less time than this a second attempt is not worth its request.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(10);

/// So much is signed or read in the time that others can wait. A token takes longer to sign, however small it is.
const QUICK_BYTES: usize = 64 * 1024;

/// What came of an attempt.
pub(super) struct Attempted {
    pub(super) status: Option<u16>,
    /// A failure comes with the wait after which another attempt may be made, if that leaves time for it.
    pub(super) result: Result<Answer, (Failure, Option<Duration>)>,
}

/// Makes one attempt, which ends at the deadline at the latest.
pub(super) async fn attempt(
    client: &Client,
    target: &Arc<Target>,
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
    let sent = match request(target, id, message, left).await {
        Ok(request) => client.send(request, Limit::whole(MAX_ANSWER_BYTES)).await,
        Err(unsendable) => Err(unsendable),
    };
    let (status, result) = match sent {
        Ok(response) => (
            Some(response.status),
            answer(target, id, response)
                .await
                .map_err(|(unusable, wait)| {
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

/// The request, ready to be sent.
async fn request(
    target: &Arc<Target>,
    id: i64,
    message: &Bytes,
    timeout: Duration,
) -> Result<Request, deliver::Failure> {
    let is_quick = target.endpoint.set.is_none() && message.len() <= QUICK_BYTES;
    let (target, message) = (target.clone(), message.clone());
    let prepare = move || prepare(&target, id, &message, timeout, SystemTime::now());
    match is_quick {
        true => prepare(),
        false => aside(prepare).await,
    }
}

/// What a response says. One that is of no use comes with the wait after which the request may be made again.
async fn answer(
    target: &Arc<Target>,
    id: i64,
    response: Response,
) -> Result<Answer, (Unusable, Option<Duration>)> {
    let is_quick = response.body.len() <= QUICK_BYTES;
    let target = target.clone();
    let read = move || {
        usable(&target.endpoint, id, &response, SystemTime::now()).map_err(|unusable| {
            let wait = is_passing(response.status).then(|| asked_wait(&response));
            (unusable, wait)
        })
    };
    match is_quick {
        true => read(),
        false => aside(read).await,
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
