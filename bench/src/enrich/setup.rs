//! The database in which all calls are made, and the worker beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::calls::{Call, Commit, Session};
use crate::Bench;
use crate::contestant::Contestant;
use crate::process::{POLL_INTERVAL, Worker};

const DATABASE: &str = "bench_enrich";

/// Far longer than a worker needs to connect.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the calls are made.
pub(super) struct Stage {
    pub(super) database: &'static str,
    /// What the endpoint is sent by a call that has no event to tell of.
    pub(super) body: String,
    /// Absent when actionflow is not measured.
    pub(super) worker: Option<Worker>,
}

/// Makes the database, and starts the worker when actionflow is among the contestants.
///
/// # Errors
/// When the server refuses, or no worker listens in time.
pub(super) async fn open(bench: &Bench, module: &Path) -> Result<Stage> {
    bench.server.create(DATABASE, None).await?;
    let client = bench.server.connect(DATABASE).await?;
    let url = format!("'{}'", bench.receiver.enrich_url());
    let module = module.to_str().context("the module's path is not text")?;
    let sql = include_str!("../../sql/enrich/libcurl.sql")
        .replace(":url", &url)
        .replace(":module", &format!("'{module}'"));
    client.batch_execute(&sql).await.context("set up libcurl")?;
    let row = client
        .query_one(
            "select login_payload(1, '1', '{\"ip\": \"203.0.113.9\"}')::text",
            &[],
        )
        .await
        .context("build a body")?;
    let mut stage = Stage {
        database: DATABASE,
        body: row.try_get(0)?,
        worker: None,
    };
    if bench.contestants.contains(&Contestant::Actionflow) {
        let sql = include_str!("../../sql/enrich/actionflow.sql").replace(":url", &url);
        client
            .batch_execute(&sql)
            .await
            .context("set up actionflow")?;
        let mut worker = Contestant::Actionflow.start_worker(bench, DATABASE)?;
        wait_until_answered(bench, &stage, &mut worker).await?;
        stage.worker = Some(worker);
    }
    Ok(stage)
}

/// # Errors
/// When the worker cannot be stopped or the database not be dropped.
pub(super) async fn close(bench: &Bench, stage: Stage) -> Result<()> {
    if let Some(worker) = stage.worker {
        worker.stop().await?;
    }
    bench.server.drop(stage.database).await
}

/// Until a worker listens, callers get the action's `on_failure` at once.
async fn wait_until_answered(bench: &Bench, stage: &Stage, worker: &mut Worker) -> Result<()> {
    let session = Session::open(bench, stage, Call::Enrich, Commit::Durable, 1).await?;
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let answer = session.ask().await?;
        if Call::Enrich.is_answered_by(&answer) {
            return Ok(());
        }
        worker.ensure_running()?;
        ensure!(
            Instant::now() < deadline,
            "no worker has performed the action: {answer}"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
