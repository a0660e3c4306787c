//! Every SQL call of the worker, as a function. Only public functions of the schema `actionflow` are used.
//!
//! Each purpose has a connection of its own, because a slow call must not delay a quick one: claims, completions, lease
//! renewals, the listening connection, segments, bulk jobs, upkeep and statistics; and of Enrich takes, answers, endpoints and
//! records. Inbound webhooks have several.

mod clock;
mod connect;
mod deliveries;
mod enrich;
pub(crate) mod tls;
mod webhooks;

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use connect::Link;
pub use connect::{Database, DatabaseUrlError};
use enrich::EnrichLinks;
pub use webhooks::PgWebhooks;

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
    #[error("actionflow is not in shared_preload_libraries of the database server")]
    NotPreloaded,
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

    /// What failed, without anything that the server may repeat of what it was given: neither detail nor context, and of a data
    /// exception not even the message.
    #[must_use]
    pub fn without_data(&self) -> String {
        let of_the_server = match self {
            Self::Call(error) | Self::Connect(error) => error.as_db_error(),
            _ => None,
        };
        match of_the_server.map(|error| (error.code().code(), error.message())) {
            Some((code, _)) if code.starts_with("22") => format!("{self}: {code}"),
            Some((code, message)) => format!("{self}: {code}: {message}"),
            // What the client library says has no data.
            None => {
                let (mut text, mut cause) = (self.to_string(), self.source());
                while let Some(error) = cause {
                    text = format!("{text}: {error}");
                    cause = error.source();
                }
                text
            }
        }
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

/// The queue in the database, what the clock drives there, and the callers who wait.
pub struct PgQueue {
    claims: Mutex<Link>,
    completions: Mutex<Link>,
    leases: Mutex<Link>,
    listener: Mutex<Link>,
    segments: Mutex<Link>,
    bulk_jobs: Mutex<Link>,
    upkeep: Mutex<Link>,
    stats: Mutex<Link>,
    enrich: EnrichLinks,
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
            segments: link("segments"),
            bulk_jobs: link("bulk jobs"),
            upkeep: link("upkeep"),
            stats: link("stats"),
            enrich: EnrichLinks::new(database),
            wake,
        }
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

/// Calls a function that answers with one row.
async fn call(
    link: &Mutex<Link>,
    budget: Duration,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Row, DbError> {
    let mut link = link.lock().await;
    let call = async {
        let (session, _) = link.session().await?;
        let statement = session.statement(sql).await?;
        Ok(session.client().query_one(&statement, parameters).await?)
    };
    let result = within(budget, call).await;
    settle(&mut link, result)
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
