//! Hands replies over in batches: while one call is under way, the next batch gathers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Rendezvous, Replies};
use crate::db::DbError;
use crate::telemetry::Metrics;

/// The largest batch. More gains little and makes the first of them wait.
const MAX_BATCH: usize = 512;

/// A batch ends with the reply that makes it larger than this: answers may hold a mebibyte each.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// A reply and whom it is for.
pub(super) struct Ready {
    pub(super) ticket: i64,
    pub(super) reply: String,
}

/// Takes replies from the requests and hands them over until all senders are gone.
pub(super) struct Answering<R> {
    pub(super) rendezvous: Arc<R>,
    pub(super) ready: mpsc::Receiver<Ready>,
    pub(super) metrics: Arc<Metrics>,
}

impl<R: Rendezvous> Answering<R> {
    pub(super) async fn run(mut self) {
        let mut batch = Replies::default();
        while let Some(first) = self.ready.recv().await {
            self.gather(first, &mut batch);
            self.hand_over(&batch).await;
            batch.tickets.clear();
            batch.replies.clear();
        }
    }

    /// What is ready now, and nothing is waited for: a caller sleeps until this has arrived.
    fn gather(&mut self, first: Ready, batch: &mut Replies) {
        let (mut next, mut bytes) = (Some(first), 0);
        while let Some(Ready { ticket, reply }) = next {
            bytes += reply.len();
            batch.tickets.push(ticket);
            batch.replies.push(reply);
            let has_room = batch.tickets.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES;
            next = has_room.then(|| self.ready.try_recv().ok()).flatten();
        }
    }

    /// Once more on a new connection when the first try fails: the callers may still wait. What cannot be handed over then
    /// is dropped, and its callers go on when their time is over.
    async fn hand_over(&self, batch: &Replies) {
        let mut tried = self.rendezvous.answer(batch).await;
        if let Err(error) = &tried {
            self.metrics.database_errors.inc();
            if error.is_about_the_data() && batch.tickets.len() > 1 {
                return self.hand_over_each(batch).await;
            }
            tracing::debug!("a call that hands replies over failed, and is made again: {error}");
            tried = self.rendezvous.answer(batch).await;
        }
        match tried {
            Ok(waiting) => {
                let late = batch.tickets.len().saturating_sub(waiting.len());
                if late > 0 {
                    tracing::debug!(late, "{late} replies came when nobody waited any more");
                }
            }
            Err(error) => self.complain(error, batch.tickets.len()),
        }
    }

    /// One reply that the database refuses must not take the others with it.
    async fn hand_over_each(&self, batch: &Replies) {
        for (ticket, reply) in batch.tickets.iter().zip(&batch.replies) {
            let single = Replies {
                tickets: vec![*ticket],
                replies: vec![reply.clone()],
            };
            if let Err(error) = self.rendezvous.answer(&single).await {
                self.complain(error, 1);
            }
        }
    }

    fn complain(&self, error: DbError, replies: usize) {
        self.metrics.database_errors.inc();
        let error = anyhow::Error::new(error).context("hand replies over");
        tracing::warn!(replies, "failed to {error:#}");
    }
}
