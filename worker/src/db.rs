//! Every SQL call of the worker, as a function. Only public functions of the schema `actionflow` are used.
//!
//! Each purpose has a connection of its own, because a slow call must not delay a quick one: claims, completions, lease
//! renewals, the listening connection, upkeep and statistics.

mod connect;
pub(crate) mod tls;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

pub use connect::{Database, DatabaseUrlError};
use connect::{Freshness, Link};

use crate::queue::{Claim, Delivery, Finished, Lease, Queue};

/// Below the lease (12 s): what is claimed later than this is not ours for long enough to be worth having.
const CLAIM_BUDGET: Duration = Duration::from_secs(10);
/// A batch that waits for a slow disk longer than this is recorded again on a new connection.
const COMPLETE_BUDGET: Duration = Duration::from_secs(30);
/// Less than the renewal interval (4 s), so that a stuck renewal does not swallow the next one.
const RENEW_BUDGET: Duration = Duration::from_secs(3);
/// Small calls that touch no rows.
const SIGNAL_BUDGET: Duration = Duration::from_secs(5);
/// Retention may drop partitions and has to wait for their readers.
const MAINTAIN_BUDGET: Duration = Duration::from_secs(120);
/// A scraper gives up after about ten seconds.
const STATS_BUDGET: Duration = Duration::from_secs(5);

/// Why a call to the database failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("connect to the database")]
    Connect(#[source] tokio_postgres::Error),
    #[error("call the database")]
    Call(#[from] tokio_postgres::Error),
    #[error("the database did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error(
        "the extension actionflow is not installed in this database; run \"create extension actionflow\" there, or give another --database-url"
    )]
    ExtensionMissing,
    #[error("the extension actionflow has version {version} in this database, which this worker ({}) does not know; run \"alter extension actionflow update\", or install the worker of that version", env!("CARGO_PKG_VERSION"))]
    ExtensionUnsupported { version: String },
}

impl DbError {
    /// Trying again cannot help until a person acts.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::ExtensionMissing | Self::ExtensionUnsupported { .. }
        )
    }

    /// The server understood the call and refuses its data: the same call would fail again.
    #[must_use]
    pub fn is_about_the_data(&self) -> bool {
        let Self::Call(error) = self else {
            return false;
        };
        let Some(code) = error.code() else {
            return false;
        };
        // Data exception, integrity, and what a function raises itself. Everything else passes with time or a new
        // connection: shutdown, resources, deadlock, serialisation, a plan that no longer fits.
        ["22", "23", "P0"].contains(&&code.code()[..2]) && *code != SqlState::QUERY_CANCELED
    }
}

/// How much one endpoint has waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStat {
    pub endpoint: String,
    pub mode: String,
    pub pending: i64,
    pub running: i64,
    pub oldest_due_seconds: f64,
}

/// The queue in the database.
pub struct PgQueue {
    claims: Mutex<Link>,
    completions: Mutex<Link>,
    leases: Mutex<Link>,
    listener: Mutex<Link>,
    upkeep: Mutex<Link>,
    stats: Mutex<Link>,
    /// Notified of every NOTIFY, and when the listening connection is lost.
    wake: Arc<Notify>,
}

impl PgQueue {
    /// Connects to nothing yet: each connection is made when it is first needed.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        let link = |purpose| Mutex::new(Link::new(database.clone(), purpose, Arc::default()));
        let wake = Arc::new(Notify::new());
        Self {
            claims: link("claims"),
            completions: link("completions"),
            leases: link("leases"),
            listener: Mutex::new(Link::new(database.clone(), "listener", wake.clone())),
            upkeep: link("upkeep"),
            stats: link("stats"),
            wake,
        }
    }

    /// Retention and whatever else the clock drives in the database; returns its report.
    ///
    /// # Errors
    /// When the call fails; the next one makes up for it.
    pub async fn maintain(&self) -> Result<serde_json::Value, DbError> {
        let mut link = self.upkeep.lock().await;
        let call = async {
            let (session, _) = link.session().await?;
            let statement = session.statement("select actionflow.maintain()").await?;
            Ok(session
                .client()
                .query_one(&statement, &[])
                .await?
                .try_get(0)?)
        };
        let result = within(MAINTAIN_BUDGET, call).await;
        settle(&mut link, result)
    }

    /// How much each endpoint has waiting.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn queue_stats(&self) -> Result<Vec<QueueStat>, DbError> {
        const SQL: &str = "select endpoint, mode, pending, running, oldest_due_seconds from actionflow.queue_stats()";
        let mut link = self.stats.lock().await;
        let call = async {
            let (session, _) = link.session().await?;
            let statement = session.statement(SQL).await?;
            let rows = session.client().query(&statement, &[]).await?;
            rows.iter().map(queue_stat).collect()
        };
        let result = within(STATS_BUDGET, call).await;
        settle(&mut link, result)
    }

    /// Calls one of the functions that take leases and return the ids that were still held.
    async fn call_on_leases(
        &self,
        sql: &'static str,
        leases: &[Lease],
    ) -> Result<Vec<i64>, DbError> {
        let (tokens, ids) = columns(leases);
        let mut link = self.leases.lock().await;
        let call = async {
            let (session, _) = link.session().await?;
            let statement = session.statement(sql).await?;
            let row = session
                .client()
                .query_one(&statement, &[&tokens, &ids])
                .await?;
            Ok(row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default())
        };
        let result = within(RENEW_BUDGET, call).await;
        settle(&mut link, result)
    }
}

impl Queue for PgQueue {
    async fn claim(&self, max: usize) -> Result<Claim, DbError> {
        let mut link = self.claims.lock().await;
        let result = within(CLAIM_BUDGET, claim(&mut link, max)).await;
        settle(&mut link, result)
    }

    async fn complete(&self, batch: &[Finished]) -> Result<Vec<i64>, DbError> {
        let mut link = self.completions.lock().await;
        let result = within(COMPLETE_BUDGET, complete(&mut link, batch)).await;
        settle(&mut link, result)
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<i64>, DbError> {
        self.call_on_leases("select actionflow.renew_leases($1, $2)", leases)
            .await
    }

    async fn release(&self, leases: &[Lease]) -> Result<Vec<i64>, DbError> {
        self.call_on_leases("select actionflow.release_deliveries($1, $2)", leases)
            .await
    }

    async fn prepare_to_sleep(&self) -> Result<bool, DbError> {
        // What was signalled before this point is found by the look at the queue that follows.
        self.wake.notified().now_or_never();
        let mut link = self.listener.lock().await;
        let call = async {
            let (session, freshness) = link.session().await?;
            if freshness == Freshness::New {
                session
                    .client()
                    .batch_execute("listen actionflow_delivery")
                    .await?;
            }
            let statement = session
                .statement("select actionflow.prepare_to_sleep()")
                .await?;
            Ok(session
                .client()
                .query_one(&statement, &[])
                .await?
                .try_get(0)?)
        };
        let result = within(SIGNAL_BUDGET, call).await;
        settle(&mut link, result)
    }

    async fn wake_up(&self) -> Result<(), DbError> {
        let mut link = self.listener.lock().await;
        if !link.is_connected() {
            // The announcement to sleep ended with its connection.
            return Ok(());
        }
        let call = async {
            let (session, _) = link.session().await?;
            let statement = session.statement("select actionflow.wake_up()").await?;
            session.client().query_one(&statement, &[]).await?;
            Ok(())
        };
        let result = within(SIGNAL_BUDGET, call).await;
        settle(&mut link, result)
    }

    async fn notified(&self) {
        self.wake.notified().await;
    }
}

async fn claim(link: &mut Link, max: usize) -> Result<Claim, DbError> {
    // The wait is computed by the server: its clock and this machine's need not agree.
    const CLAIM: &str = "select lease_token, ids, \
        extract(epoch from next_claim_at - clock_timestamp())::double precision \
        from actionflow.claim_deliveries($1)";
    const CLAIMED: &str = "select id, attempt, retry, url, body, endpoint_id, endpoint::text \
        from actionflow.claimed_deliveries($1, $2)";

    let (session, _) = link.session().await?;
    let statement = session.statement(CLAIM).await?;
    let max = i32::try_from(max).unwrap_or(i32::MAX);
    let row = session.client().query_one(&statement, &[&max]).await?;
    let ids: Vec<i64> = row.try_get::<_, Option<_>>(1)?.unwrap_or_default();
    let next_claim_in = row.try_get::<_, Option<f64>>(2)?.map(seconds);
    if ids.is_empty() {
        return Ok(Claim {
            deliveries: Vec::new(),
            next_claim_in,
        });
    }
    let token: i64 = row.try_get(0)?;
    let statement = session.statement(CLAIMED).await?;
    let rows = session.client().query(&statement, &[&token, &ids]).await?;
    let deliveries = rows
        .iter()
        .map(|row| delivery(row, token))
        .collect::<Result<_, DbError>>()?;
    Ok(Claim {
        deliveries,
        next_claim_in,
    })
}

fn delivery(row: &Row, token: i64) -> Result<Delivery, DbError> {
    Ok(Delivery {
        lease: Lease {
            id: row.try_get(0)?,
            token,
        },
        attempt: row.try_get(1)?,
        retry: usize::try_from(row.try_get::<_, i32>(2)?).unwrap_or_default(),
        url: row.try_get(3)?,
        body: Bytes::from(row.try_get::<_, String>(4)?),
        endpoint_id: row.try_get(5)?,
        endpoint: row.try_get(6)?,
    })
}

async fn complete(link: &mut Link, batch: &[Finished]) -> Result<Vec<i64>, DbError> {
    const SQL: &str = "select actionflow.complete_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9)";

    let tokens: Vec<i64> = batch.iter().map(|f| f.lease.token).collect();
    let ids: Vec<i64> = batch.iter().map(|f| f.lease.id).collect();
    let outcomes: Vec<&str> = batch.iter().map(Finished::outcome_name).collect();
    let waits: Vec<Option<i64>> = batch.iter().map(Finished::retry_after_ms).collect();
    let statuses: Vec<Option<i32>> = batch.iter().map(|f| f.status.map(i32::from)).collect();
    let errors: Vec<Option<&str>> = batch.iter().map(|f| f.error.as_deref()).collect();
    let started: Vec<SystemTime> = batch.iter().map(|f| f.started_at).collect();
    let durations: Vec<i32> = batch.iter().map(Finished::duration_ms).collect();
    let responses: Vec<Option<&str>> = batch.iter().map(|f| f.response.as_deref()).collect();

    let (session, _) = link.session().await?;
    let statement = session.statement(SQL).await?;
    let row = session
        .client()
        .query_one(
            &statement,
            &[
                &tokens, &ids, &outcomes, &waits, &statuses, &errors, &started, &durations,
                &responses,
            ],
        )
        .await?;
    Ok(row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default())
}

fn queue_stat(row: &Row) -> Result<QueueStat, DbError> {
    Ok(QueueStat {
        endpoint: row.try_get(0)?,
        mode: row.try_get(1)?,
        pending: row.try_get::<_, Option<_>>(2)?.unwrap_or_default(),
        running: row.try_get::<_, Option<_>>(3)?.unwrap_or_default(),
        oldest_due_seconds: row.try_get::<_, Option<_>>(4)?.unwrap_or_default(),
    })
}

fn columns(leases: &[Lease]) -> (Vec<i64>, Vec<i64>) {
    leases.iter().map(|lease| (lease.token, lease.id)).unzip()
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}

async fn within<T>(
    budget: Duration,
    call: impl Future<Output = Result<T, DbError>>,
) -> Result<T, DbError> {
    timeout(budget, call)
        .await
        .unwrap_or(Err(DbError::Silent(budget)))
}

fn settle<T>(link: &mut Link, result: Result<T, DbError>) -> Result<T, DbError> {
    if result.is_err() {
        link.reset();
    }
    result
}
