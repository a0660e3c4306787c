//! The loops around one rendezvous, and how they end together.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Rendezvous;
use super::answering::Answering;
use super::call::Calls;
use super::recording::log;
use super::taker::Taker;
use crate::deliver::Client;
use crate::health::Health;
use crate::telemetry::Metrics;
use crate::worker::Grace;

/// Replies that may wait to be handed over beyond those whose task still has its place.
const UNANSWERED: usize = 1024;

/// A rendezvous, an HTTP client, and what they report to.
pub struct Enricher<R> {
    pub rendezvous: Arc<R>,
    pub client: Client,
    pub grace: Grace,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}

impl<R: Rendezvous> Enricher<R> {
    /// Answers requests until `shutdown`, then ends in order: no more takes, and nobody waits for one; requests under way end, replies are handed over,
    /// what is left fails for its callers, and attempts are recorded.
    ///
    /// A database that cannot be reached, or is not prepared for Enrich, is tried again for ever.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self {
            rendezvous,
            client,
            grace,
            health,
            metrics,
        } = self;
        let (ready, to_answer) = mpsc::channel(UNANSWERED);
        let (log, recording) = log(rendezvous.clone(), metrics.clone());
        let (stop, abort, tasks) = (
            CancellationToken::new(),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        let answering = Answering {
            rendezvous: rendezvous.clone(),
            ready: to_answer,
            metrics: metrics.clone(),
        };
        let taker = Taker {
            rendezvous: rendezvous.clone(),
            calls: Arc::new(Calls::new(rendezvous.clone(), client, metrics.clone())),
            log: Arc::new(log),
            health,
            metrics,
            ready,
            tasks: tasks.clone(),
            stop: stop.clone(),
            abort: abort.clone(),
        };
        let mut recording = tokio::spawn(recording.run());
        let mut answering = tokio::spawn(answering.run());
        let mut taking = tokio::spawn(taker.run());

        let ended = tokio::select! {
            ended = &mut taking => Some(ended),
            () = shutdown => None,
        };
        stop.cancel();
        let deadline = Instant::now() + grace.attempts;
        let taken = match ended {
            Some(taken) => taken,
            // At most one take is under way; what it brings is still answered.
            None => timeout_at(deadline, &mut taking).await.unwrap_or(Ok(())),
        };
        taking.abort();
        if let Err(error) = rendezvous.retire().await {
            tracing::debug!("failed to say that no more enrich requests are taken: {error}");
        }
        tasks.close();
        if timeout_at(deadline, tasks.wait()).await.is_err() {
            tracing::info!(
                unfinished = tasks.len(),
                "{} enrich requests did not end in time and are given up",
                tasks.len()
            );
            abort.cancel();
        }
        // Both end when the last request has dropped its senders and everything is handed over and recorded.
        if timeout(grace.records, &mut answering).await.is_err() {
            answering.abort();
        }
        rendezvous.leave().await;
        if timeout(grace.records, &mut recording).await.is_err() {
            tracing::warn!("some enrich attempts could not be recorded in time");
            recording.abort();
        }
        taken.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    }
}
