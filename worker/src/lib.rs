//! The sidecar of actionflow: it claims deliveries from the database, makes the HTTP requests, and records what came of them. It
//! also asks endpoints for the answers that database sessions wait for, and passes inbound webhooks to the database.
//!
//! # Nouns
//! - A *delivery* is the obligation to make one successful request; an *attempt* is one try.
//! - A *lease* is the right to attempt a delivery, for seconds; its token makes a late record of a lost lease change nothing.
//! - A *slot* is a place for an attempt under way; there are `--concurrency` of them.
//! - An *outcome* says what an attempt means for its delivery: delivered, again later, dead, or gone.
//! - A *request* (of Enrich) is a question whose *caller*, a database session, waits for the *reply*; its *ticket* names the
//!   caller, and it is under way in a *place*.
//! - A *webhook* is what another system sends here; its *source* is the address that it came from, behind trusted proxies.
//!
//! # Who calls whom
//! 1. [`run`] opens the HTTP server ([`ingress`]), starts the clock and an [`enrich::Enricher`], and runs a [`Worker`].
//! 2. The claim loop (`dispatcher`) claims as many deliveries as there are free slots and gives each to a task. When there are
//!    none it sleeps until a notification (`listener`).
//! 3. A task makes one attempt (`deliver`): prepare, send, classify; it passes the outcome to the recorder and frees its slot.
//! 4. The recorder writes outcomes in batches, one call at a time; the next batch gathers meanwhile.
//! 5. `leases` renews what is held for longer than a moment.
//! 6. The clock (`clock`) calls what changes by time alone, each on a connection of its own: segments twice a second, bulk jobs once,
//!    retention every minute.
//! 7. The take loop (`enrich`) waits in the database for requests and gives each to a task, which answers from the cache or makes
//!    one attempt, or two. Replies are handed over as soon as the call before has returned; attempts are recorded after that.
//! 8. The HTTP server reads a webhook within its limits, makes one call to the database, and answers what the call returned
//!    after its commit. It decides nothing itself, and refuses at once what it has no room for.
//!
//! # What it never does
//! It holds no transaction open during a request, and no state that matters: it may be killed at any moment. It follows no
//! redirect, uses no system proxy, and reaches no private address unless told to. It believes no answer that is not signed as
//! its endpoint is configured. It logs no secret, body, answer or header value. It uses nothing of the database but the public
//! functions of the schema `actionflow`.
#![forbid(unsafe_code)]

mod backoff;
pub mod clock;
pub mod config;
pub mod db;
pub mod deliver;
mod dispatcher;
pub mod enrich;
pub mod health;
pub mod ingress;
mod leases;
mod listener;
pub mod queue;
pub mod telemetry;
mod worker;

use std::future::Future;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

pub use crate::config::Config;
pub use crate::worker::{Grace, Worker};

use crate::db::{PgQueue, PgWebhooks};
use crate::deliver::Client;
use crate::enrich::{Enricher, on_own_thread};
use crate::health::Health;
use crate::ingress::{Ingress, Limits};
use crate::telemetry::Metrics;

/// Runs the worker until `shutdown`, and ends in order.
///
/// # Errors
/// When the HTTP server cannot listen or TLS cannot be set up, and with a [`db::DbError`] that is final when the database does
/// not hold an extension of a known version. A database that cannot be reached is no error: it is tried again for ever.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let server =
        ingress::listen(config.listen).with_context(|| format!("listen on {}", config.listen))?;
    let address = server.local_addr().context("listen")?;
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    let queue = Arc::new(PgQueue::new(&config.database));

    let ingress = Ingress {
        webhooks: Arc::new(PgWebhooks::new(&config.database)),
        calls: config.ingress_connections,
        proxies: config.trusted_proxies,
        limits: Limits::default(),
        health: health.clone(),
        metrics: metrics.clone(),
        queue: queue.clone(),
    };
    let (stop, grace) = (CancellationToken::new(), Grace::default());
    let serving = tokio::spawn({
        let serving = ingress.serve(server, stop.clone(), grace.attempts);
        // Its end is the end of the worker, also when it is a defect.
        let ends_the_worker = stop.clone().drop_guard();
        async move {
            serving.await;
            drop(ends_the_worker);
        }
    });
    let ticking = tokio::spawn(clock::run(queue.clone(), metrics.clone()));
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "the worker has started, and listens on {address}");

    let client = Client::new(config.addresses)?;
    // Connections belong to the thread that makes them.
    let enrich_client = Client::new(config.addresses)?;
    health.await_enrich();
    let enricher = Enricher {
        rendezvous: queue.clone(),
        client: enrich_client,
        grace,
        health: health.clone(),
        metrics: metrics.clone(),
    };
    let enriching = on_own_thread({
        let enriching = enricher.run(stop.clone().cancelled_owned());
        let ends_the_worker = stop.clone().drop_guard();
        async move {
            enriching.await;
            drop(ends_the_worker);
        }
    })
    .context("start the thread of enrich")?;
    let worker = Worker {
        queue,
        client,
        concurrency: config.concurrency,
        grace,
        health,
        metrics,
    };
    let ended = worker
        .run(async {
            stop.run_until_cancelled(shutdown).await;
            stop.cancel();
        })
        .await;
    stop.cancel();
    let enriched = enriching.await;
    ticking.abort();
    let served = serving.await;
    ended?;
    let enriched = enriched.context("answer enrich requests")?;
    enriched.context("answer enrich requests")?;
    served.context("serve HTTP requests")?;
    tracing::info!("the worker has ended");
    Ok(())
}
