//! The queue's calls.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio_postgres::Row;

use super::connect::{Freshness, Link};
use super::{DbError, PgQueue, call, settle, within};
use crate::queue::{Claim, Delivery, Finished, Lease, Privacy, Queue};

/// Below the lease (12 s): what is claimed later than this is not ours for long enough to be worth having.
const CLAIM_BUDGET: Duration = Duration::from_secs(10);
/// A batch that waits for a slow disk longer than this is recorded again on a new connection.
const COMPLETE_BUDGET: Duration = Duration::from_secs(30);
/// Less than the renewal interval (4 s), so that a stuck renewal does not swallow the next one.
const RENEW_BUDGET: Duration = Duration::from_secs(3);
/// Small calls that touch no rows.
const SIGNAL_BUDGET: Duration = Duration::from_secs(5);

impl PgQueue {
    /// Calls one of the functions that take leases and return the ids that were still held.
    async fn call_on_leases(
        &self,
        sql: &'static str,
        leases: &[Lease],
    ) -> Result<Vec<i64>, DbError> {
        let (tokens, ids) = columns(leases);
        let row = call(&self.leases, RENEW_BUDGET, sql, &[&tokens, &ids]).await?;
        Ok(row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default())
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
    const CLAIMED: &str = "select id, attempt, retry, url, body, endpoint_id, endpoint::text, \
        enrich_timeout_ms, is_private from actionflow.claimed_deliveries($1, $2)";

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
        enrich_timeout: row.try_get::<_, Option<i32>>(7)?.map(milliseconds),
        privacy: match row.try_get(8)? {
            true => Privacy::Private,
            false => Privacy::Ordinary,
        },
    })
}

async fn complete(link: &mut Link, batch: &[Finished]) -> Result<Vec<i64>, DbError> {
    const SQL: &str =
        "select actionflow.complete_deliveries($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

    let tokens: Vec<i64> = batch.iter().map(|f| f.lease.token).collect();
    let ids: Vec<i64> = batch.iter().map(|f| f.lease.id).collect();
    let outcomes: Vec<&str> = batch.iter().map(Finished::outcome_name).collect();
    let waits: Vec<Option<i64>> = batch.iter().map(Finished::retry_after_ms).collect();
    let statuses: Vec<Option<i32>> = batch.iter().map(|f| f.status.map(i32::from)).collect();
    let errors: Vec<Option<&str>> = batch.iter().map(|f| f.error.as_deref()).collect();
    let started: Vec<SystemTime> = batch.iter().map(|f| f.started_at).collect();
    let durations: Vec<i32> = batch.iter().map(Finished::duration_ms).collect();
    let responses: Vec<Option<&str>> = batch.iter().map(|f| f.response.as_deref()).collect();
    let answers: Vec<Option<&str>> = batch.iter().map(|f| f.answer.as_deref()).collect();

    let (session, _) = link.session().await?;
    let statement = session.statement(SQL).await?;
    let row = session
        .client()
        .query_one(
            &statement,
            &[
                &tokens, &ids, &outcomes, &waits, &statuses, &errors, &started, &durations,
                &responses, &answers,
            ],
        )
        .await?;
    Ok(row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default())
}

fn columns(leases: &[Lease]) -> (Vec<i64>, Vec<i64>) {
    leases.iter().map(|lease| (lease.token, lease.id)).unzip()
}

pub(super) fn milliseconds(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or_default())
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::MAX)
}
