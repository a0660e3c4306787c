//! One request from taking to reply: the cache, or one attempt, or two.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actionflow_core::enrich::reply::{Failure, FailureKind, Reply};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout_at};

use super::attempt::{Attempted, attempt};
use super::cache::{Answered, Answers, Key};
use super::endpoints::Endpoints;
use super::{Entry, Head, Rendezvous, Taken};
use crate::deliver::{Client, Target, panic_message};
use crate::telemetry::{Metrics, UnderWay};

/// What is kept of the caller's time for bringing the reply back.
const RETURN_TIME: Duration = Duration::from_millis(5);

/// Makes the calls; shared by all requests.
pub(super) struct Calls<R> {
    client: Client,
    endpoints: Arc<Endpoints<R>>,
    answers: Answers,
    metrics: Arc<Metrics>,
}

/// What came of a request.
pub(super) struct Performed {
    /// Core's `Reply` as JSON.
    pub(super) reply: String,
    pub(super) entries: Vec<Entry>,
}

/// A request under way.
struct Call<'a> {
    head: &'a Arc<Head>,
    body: &'a Bytes,
    deadline: Instant,
    entries: &'a mut Vec<Entry>,
}

impl<R: Rendezvous> Calls<R> {
    pub(super) fn new(rendezvous: Arc<R>, client: Client, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            endpoints: Arc::new(Endpoints::new(rendezvous, metrics.clone())),
            answers: Answers::new(),
            metrics,
        }
    }

    /// Answers a request that was taken at `since`. Never fails: whatever happens is a reply.
    pub(super) async fn perform(&self, taken: Taken, since: Instant) -> Performed {
        // The gauge is restored also when this future is dropped at shutdown.
        let _in_flight = UnderWay::enter(&self.metrics.enrich.in_flight);
        let deadline = since + taken.remaining.saturating_sub(RETURN_TIME);
        let mut entries = Vec::with_capacity(1);
        let result = match serde_json::from_str(&taken.head).map(Arc::new) {
            Ok(head) => {
                let call = Call {
                    head: &head,
                    body: &taken.body,
                    deadline,
                    entries: &mut entries,
                };
                let asked = AssertUnwindSafe(self.ask(call)).catch_unwind().await;
                asked.unwrap_or_else(|panic| {
                    let failure = self.panicked(&head, panic_message(&*panic));
                    entries.push(failed(&head, &failure));
                    Err(failure)
                })
            }
            Err(error) => {
                tracing::error!("the head of an enrich request cannot be read: {error}");
                Err(internal("the worker cannot read the request"))
            }
        };
        let metrics = &self.metrics.enrich;
        metrics.duration.observe(since.elapsed().as_secs_f64());
        let reply = match result {
            Ok(answered) => {
                metrics.answered(answered.decision).inc();
                Arc::try_unwrap(answered).map_or_else(|kept| kept.reply.clone(), |own| own.reply)
            }
            Err(failure) => {
                metrics.failed.inc();
                Reply::Failure(failure).to_json().to_string()
            }
        };
        Performed { reply, entries }
    }

    async fn ask(&self, call: Call<'_>) -> Result<Arc<Answered>, Failure> {
        let Some((key, lifetime)) = Key::of(call.head) else {
            return self.ask_endpoint(call).await.map(Arc::new);
        };
        if let Some(answered) = self.answers.get(&key) {
            self.metrics.enrich.cache_hits.inc();
            call.entries.push(Entry {
                is_cached: true,
                ..succeeded(call.head, &answered)
            });
            return Ok(answered);
        }
        let answered = Arc::new(self.ask_endpoint(call).await?);
        self.answers.keep(key, answered.clone(), lifetime);
        Ok(answered)
    }

    async fn ask_endpoint(&self, mut call: Call<'_>) -> Result<Answered, Failure> {
        let target = self.target(&mut call).await?;
        let mut made = 1;
        loop {
            let (failure, wait) = match self.attempt(&mut call, &target, made).await {
                Ok(answered) => return Ok(answered),
                Err(failed) => failed,
            };
            match wait {
                Some(wait) if made == 1 => sleep(wait).await,
                _ => {
                    report(call.head, &target.endpoint.name, failure.kind);
                    return Err(failure);
                }
            }
            made += 1;
        }
    }

    async fn target(&self, call: &mut Call<'_>) -> Result<Arc<Target>, Failure> {
        const LATE: &str = "the time ran out before the endpoint's settings were read";
        let started_at = SystemTime::now();
        let start = Instant::now();
        let found = timeout_at(call.deadline, self.endpoints.target(call.head)).await;
        found
            .unwrap_or(Err((FailureKind::Timeout, LATE)))
            .map_err(|(kind, message)| {
                let failure = Failure {
                    kind,
                    message: message.to_owned(),
                };
                report(call.head, "an unknown endpoint", kind);
                call.entries.push(Entry {
                    started_at,
                    duration: start.elapsed(),
                    ..failed(call.head, &failure)
                });
                failure
            })
    }

    /// One attempt, written down; a failure comes with the wait after which another may be made.
    async fn attempt(
        &self,
        call: &mut Call<'_>,
        target: &Arc<Target>,
        number: u32,
    ) -> Result<Answered, (Failure, Option<Duration>)> {
        let started_at = SystemTime::now();
        let start = Instant::now();
        let Attempted { status, result } =
            attempt(&self.client, target, call.head.id, call.body, call.deadline).await;
        let duration = start.elapsed();
        let (entry, result) = match result {
            Ok(answer) => {
                let answered = Answered::from(answer);
                (succeeded(call.head, &answered), Ok(answered))
            }
            Err((failure, wait)) => (failed(call.head, &failure), Err((failure, wait))),
        };
        call.entries.push(Entry {
            attempt: number,
            started_at,
            duration,
            status,
            ..entry
        });
        result
    }

    /// A defect in this worker must not leave the caller waiting: it is a failure like any other.
    fn panicked(&self, head: &Head, message: &str) -> Failure {
        let id = head.id;
        tracing::error!(request = id, "enrich request {id} panicked: {message}");
        self.metrics.panics.inc();
        internal("the request failed inside the worker")
    }
}

fn internal(message: &str) -> Failure {
    Failure {
        kind: FailureKind::Internal,
        message: message.to_owned(),
    }
}

fn succeeded(head: &Arc<Head>, answered: &Answered) -> Entry {
    entry(
        head,
        answered.decision.as_str(),
        answered.reason.clone(),
        None,
    )
}

fn failed(head: &Arc<Head>, failure: &Failure) -> Entry {
    entry(head, "failed", None, Some(failure.message.clone()))
}

/// A first attempt that begins now and takes no time, until somebody says otherwise.
fn entry(
    head: &Arc<Head>,
    outcome: &'static str,
    reason: Option<String>,
    error: Option<String>,
) -> Entry {
    Entry {
        head: head.clone(),
        attempt: 1,
        started_at: SystemTime::now(),
        duration: Duration::ZERO,
        status: None,
        outcome,
        reason,
        error,
        is_cached: false,
    }
}

/// One line for a request that failed. What it is about is in the database's log.
fn report(head: &Head, endpoint: &str, kind: FailureKind) {
    let (id, kind) = (head.id, kind.as_str());
    tracing::info!(
        request = id,
        endpoint,
        kind,
        "enrich request {id} to {endpoint} failed: {kind}"
    );
}
