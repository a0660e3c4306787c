//! Enrich's calls.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::connect::{Database, Freshness, Link};
use super::deliveries::milliseconds;
use super::{DbError, PgQueue, call, settle, within};
use crate::enrich::{Entry, Rendezvous, Replies, Taken};

/// What a take may last beyond its wait.
const TAKE_BUDGET: Duration = Duration::from_secs(5);
/// No caller waits longer than this for what an answer could still tell it, were the database as slow.
const ANSWER_BUDGET: Duration = Duration::from_secs(10);
/// Small calls that read a row.
const ENDPOINT_BUDGET: Duration = Duration::from_secs(5);
/// A batch that waits for a slow disk longer than this is recorded again on a new connection.
const RECORD_BUDGET: Duration = Duration::from_secs(30);

/// The connections of Enrich.
pub(super) struct EnrichLinks {
    takes: tokio::sync::Mutex<Link>,
    answers: tokio::sync::Mutex<Link>,
    endpoints: tokio::sync::Mutex<Link>,
    records: tokio::sync::Mutex<Link>,
}

impl EnrichLinks {
    pub(super) fn new(database: &Database) -> Self {
        let link = |purpose| {
            let link = Link::new(database.clone(), purpose, Default::default());
            tokio::sync::Mutex::new(link)
        };
        Self {
            takes: link("enrich takes"),
            answers: link("enrich answers"),
            endpoints: link("enrich endpoints"),
            records: link("enrich records"),
        }
    }
}

async fn take(link: &mut Link, max: usize, wait: Duration) -> Result<Vec<Taken>, DbError> {
    // Only where the library is preloaded; the call itself would leave an error in the server's log every time.
    const IS_PRELOADED: &str =
        "select pg_catalog.current_setting('actionflow.enrich_slots', true) is not null";
    const TAKE: &str =
        "select ticket, remaining_ms, head, body from actionflow.take_enrichments($1, $2)";

    let (session, freshness) = link.session().await?;
    if freshness == Freshness::New {
        let row = session.client().query_one(IS_PRELOADED, &[]).await?;
        if !row.try_get::<_, bool>(0)? {
            return Err(DbError::NotPreloaded);
        }
    }
    let statement = session.statement(TAKE).await?;
    let max = i32::try_from(max).unwrap_or(i32::MAX);
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let rows = session.client().query(&statement, &[&max, &wait]).await?;
    rows.iter().map(taken).collect()
}

impl Rendezvous for PgQueue {
    async fn take(&self, max: usize, wait: Duration) -> Result<Vec<Taken>, DbError> {
        let mut link = self.enrich.takes.lock().await;
        let result = within(wait + TAKE_BUDGET, take(&mut link, max, wait)).await;
        settle(&mut link, result)
    }

    async fn retire(&self) -> Result<(), DbError> {
        const SQL: &str = "select actionflow.leave_enrichments()";
        if self.enrich.takes.lock().await.is_connected() {
            call(&self.enrich.takes, ENDPOINT_BUDGET, SQL, &[]).await?;
        }
        Ok(())
    }

    async fn leave(&self) {
        self.enrich.takes.lock().await.reset();
    }

    async fn answer(&self, replies: &Replies) -> Result<Vec<i64>, DbError> {
        const SQL: &str = "select actionflow.answer_enrichments($1, $2)";
        let Replies { tickets, replies } = replies;
        let row = call(
            &self.enrich.answers,
            ANSWER_BUDGET,
            SQL,
            &[tickets, replies],
        )
        .await?;
        Ok(row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default())
    }

    async fn endpoint(&self, endpoint_id: i64) -> Result<Option<String>, DbError> {
        const SQL: &str = "select actionflow.enrich_endpoint($1)";
        let row = call(
            &self.enrich.endpoints,
            ENDPOINT_BUDGET,
            SQL,
            &[&endpoint_id],
        )
        .await?;
        Ok(row.try_get(0)?)
    }

    async fn record(&self, entries: &[Entry]) -> Result<(), DbError> {
        const SQL: &str = "select actionflow.record_enrichments($1)";
        call(&self.enrich.records, RECORD_BUDGET, SQL, &[&Json(entries)]).await?;
        Ok(())
    }
}

fn taken(row: &Row) -> Result<Taken, DbError> {
    Ok(Taken {
        ticket: row.try_get(0)?,
        remaining: milliseconds(row.try_get(1)?),
        head: row.try_get(2)?,
        body: Bytes::from(row.try_get::<_, String>(3)?),
    })
}
