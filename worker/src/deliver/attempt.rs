//! One attempt from claim to outcome.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actionflow_core::outcome::{Outcome, SendError, classify};
use actionflow_core::retry;
use actionflow_core::signature::sign;
use futures_util::FutureExt as _;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Request};
use tokio::time::Instant;

use super::{Client, Failure, Response, Target};
use crate::queue::{Delivery, Finished};
use crate::telemetry::Metrics;

static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

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
        let _in_flight = InFlight::enter(&self.metrics);
        let sending = async {
            let request = prepare(&delivery, target, started_at)?;
            self.client.send(request).await
        };
        let answer = AssertUnwindSafe(sending).catch_unwind().await;
        let answer = answer.unwrap_or_else(|panic| Err(self.panicked(&delivery, &*panic)));
        let finished = conclude(&delivery, target, answer, started_at, start.elapsed());
        report(&delivery, target, &finished);
        finished
    }

    /// A defect in this worker must not take the delivery with it: it is a failed attempt like any other.
    fn panicked(&self, delivery: &Delivery, panic: &(dyn Any + Send)) -> Failure {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let id = delivery.lease.id;
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

struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn enter(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Builds and signs the request.
fn prepare(delivery: &Delivery, target: &Target, now: SystemTime) -> Result<Request, Failure> {
    let unsendable = |message: &str| Failure {
        kind: SendError::Unsendable,
        status: None,
        message: message.to_owned(),
    };
    let endpoint = &target.endpoint;
    if let Some(fault) = &endpoint.fault {
        return Err(unsendable(fault));
    }
    let url = target.url.as_ref().map_err(|problem| unsendable(problem))?;

    let id = delivery.lease.id.to_string();
    let timestamp = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
        .to_string();
    let signature = sign(&endpoint.secrets, &id, &timestamp, &delivery.body);

    let mut request = Request::new(Method::POST, url.clone());
    let headers = request.headers_mut();
    headers.clone_from(&endpoint.headers);
    for (name, value) in [
        (&WEBHOOK_ID, id),
        (&WEBHOOK_TIMESTAMP, timestamp),
        (&WEBHOOK_SIGNATURE, signature),
    ] {
        let value =
            HeaderValue::try_from(value).expect("digits and base64 are allowed in a header");
        headers.insert(name, value);
    }
    *request.timeout_mut() = Some(endpoint.timeout);
    *request.body_mut() = Some(delivery.body.clone().into());
    Ok(request)
}

/// Decides the outcome and gathers what is recorded of the attempt.
fn conclude(
    delivery: &Delivery,
    target: &Target,
    answer: Result<Response, Failure>,
    started_at: SystemTime,
    duration: Duration,
) -> Finished {
    let endpoint = &target.endpoint;
    let (verdict, status, error, retry_after, response) = match answer {
        Ok(r) => (
            Ok(r.status),
            Some(r.status),
            None,
            r.retry_after,
            Some(r.prefix),
        ),
        Err(f) => (Err(f.kind), f.status, Some(f.message), None, None),
    };
    let asked = retry_after.and_then(|value| retry::parse_retry_after(&value, SystemTime::now()));
    let next = retry::delay(&endpoint.schedule, delivery.retry, rand::random(), asked);
    let outcome = classify(verdict, endpoint.success, next);
    let error = match outcome {
        Outcome::Delivered => None,
        _ => error.or_else(|| status.map(|status| format!("the endpoint answered {status}"))),
    };
    Finished {
        lease: delivery.lease,
        outcome,
        status,
        error,
        response: response.filter(|text| !text.is_empty()),
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
