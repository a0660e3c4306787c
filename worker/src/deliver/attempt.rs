//! One attempt from claim to outcome.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actionflow_core::enrich::answer::MAX_ANSWER_BYTES;
use actionflow_core::outcome::{Outcome, SendError, classify};
use actionflow_core::retry;
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::answer::{answered, usable};
use super::request::prepare;
use super::{Client, Failure, Limit, Response, Target};
use crate::queue::{Delivery, Finished, Privacy};
use crate::telemetry::{Metrics, UnderWay};

/// Makes attempts; shared by all of them.
pub(crate) struct Attempts {
    client: Client,
    metrics: Arc<Metrics>,
}

impl Attempts {
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { client, metrics }
    }

    /// Attempts a delivery. Never fails: whatever happens is an outcome.
    pub(crate) async fn perform(&self, delivery: Delivery, target: &Target) -> Finished {
        // The lease is renewed while the delivery waits; the attempt's time begins when it is its turn.
        let _turn = target.endpoint.requests.acquire().await;
        let started_at = SystemTime::now();
        let start = Instant::now();
        // Gauges are restored also when this future is dropped at shutdown.
        let _in_flight = UnderWay::enter(&self.metrics.in_flight);
        let sending = async {
            let (timeout, limit) = match delivery.enrich_timeout {
                Some(timeout) => (timeout, Limit::whole(MAX_ANSWER_BYTES)),
                None => (target.endpoint.timeout, Limit::START),
            };
            let id = delivery.lease.id;
            let request = prepare(target, id, &delivery.body, timeout, started_at)?;
            self.client.send(request, limit).await
        };
        let answer = AssertUnwindSafe(sending).catch_unwind().await;
        let answer = answer.unwrap_or_else(|panic| Err(self.panicked(&delivery, &*panic)));
        let finished = conclude(&delivery, target, answer, started_at, start.elapsed());
        report(&delivery, target, &finished);
        finished
    }

    /// A defect in this worker must not take the delivery with it: it is a failed attempt like any other.
    fn panicked(&self, delivery: &Delivery, panic: &(dyn Any + Send)) -> Failure {
        let (id, message) = (delivery.lease.id, panic_message(panic));
        tracing::error!(
            delivery = id,
            "the attempt at delivery {id} panicked: {message}"
        );
        self.metrics.panics.inc();
        Failure {
            kind: SendError::Panicked,
            status: None,
            message: "the attempt failed inside the worker".to_owned(),
        }
    }
}

/// What a panic says, when it says something.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Decides the outcome and gathers what is recorded of the attempt.
fn conclude(
    delivery: &Delivery,
    target: &Target,
    sent: Result<Response, Failure>,
    started_at: SystemTime,
    duration: Duration,
) -> Finished {
    let endpoint = &target.endpoint;
    let now = SystemTime::now();
    let asked = sent.as_ref().ok().and_then(|r| r.retry_after.as_deref());
    let asked = asked.and_then(|value| retry::parse_retry_after(value, now));
    let next = retry::delay(&endpoint.schedule, delivery.retry, rand::random(), asked);
    let (outcome, answer, error) = match (delivery.enrich_timeout, &sent) {
        (_, Err(failure)) => {
            let outcome = classify(Err(failure.kind), endpoint.success, next);
            (outcome, None, Some(failure.message.clone()))
        }
        (None, Ok(response)) => {
            let outcome = classify(Ok(response.status), endpoint.success, next);
            let error = (outcome != Outcome::Delivered).then(|| answered(response.status));
            (outcome, None, error)
        }
        (Some(_), Ok(response)) if response.status == 410 => {
            (Outcome::Gone, None, Some(answered(response.status)))
        }
        (Some(_), Ok(response)) => match usable(endpoint, delivery.lease.id, response, now) {
            Ok(answer) => (Outcome::Delivered, Some(answer.to_json().to_string()), None),
            Err(unusable) => {
                let outcome = next.map_or(Outcome::Dead, Outcome::Retry);
                (outcome, None, Some(unusable.to_string()))
            }
        },
    };
    let (status, response) = match sent {
        Ok(response) => (Some(response.status), Some(response.prefix())),
        Err(failure) => (failure.status, None),
    };
    Finished {
        lease: delivery.lease,
        outcome,
        status,
        error,
        response: response.filter(|text| !text.is_empty() && delivery.privacy == Privacy::Ordinary),
        answer,
        started_at,
        duration,
        metrics: endpoint.metrics.clone(),
    }
}

/// One line for an attempt that did not deliver; a failed attempt is ordinary, the end of the attempts needs a person.
fn report(delivery: &Delivery, target: &Target, finished: &Finished) {
    let (id, attempt, endpoint) = (
        delivery.lease.id,
        delivery.attempt,
        target.endpoint.name.as_str(),
    );
    let error = finished.error.as_deref().unwrap_or_default();
    let duration_ms = finished.duration_ms();
    match finished.outcome {
        Outcome::Delivered => {
            tracing::debug!(
                delivery = id,
                endpoint,
                attempt,
                duration_ms,
                "delivery {id} reached {endpoint}"
            );
        }
        Outcome::Retry(wait) => {
            let retry_in = wait.as_secs();
            tracing::info!(
                delivery = id,
                endpoint,
                attempt,
                duration_ms,
                error,
                retry_in,
                "delivery {id} did not reach {endpoint}: {error}; next attempt in {retry_in} s"
            );
        }
        Outcome::Dead => {
            tracing::warn!(
                delivery = id,
                endpoint,
                attempt,
                duration_ms,
                error,
                "delivery {id} to {endpoint} is dead after {attempt} attempts: {error}"
            );
        }
        Outcome::Gone => {
            tracing::warn!(
                delivery = id,
                endpoint,
                attempt,
                duration_ms,
                "endpoint {endpoint} wants no more requests (410 for delivery {id}) and is disabled"
            );
        }
    }
}
