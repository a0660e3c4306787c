//! A backlog is queued while the worker is stopped; how fast is it drained, and with how much memory?

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::contestant::Contestant;
use crate::process::{POLL_INTERVAL, WAIT_TIMEOUT, Worker};
use crate::report::{Table, range};
use crate::stats::Summary;

/// One drained backlog.
#[derive(Debug)]
struct Drained {
    /// Requests a second, from the first arrival to the last.
    arrivals_per_second: f64,
    /// The same until the queue knew that all were done.
    done_per_second: f64,
    wal_bytes_each: f64,
    commits_each: f64,
    repeats: f64,
    body_bytes: f64,
    /// Attempts on record for each delivery; `None` where none are kept.
    history_each: Option<f64>,
    /// Processor time of the worker, start-up included; the server's and the receiver's are not.
    worker_cpu_us_each: f64,
    peak_memory_mib: f64,
}

/// Drains `deliveries` once per round with each contestant in turn.
///
/// # Errors
/// When a contestant fails, ends early or does not finish in time.
pub async fn run(bench: &Bench, deliveries: u32, rounds: usize) -> Result<Table> {
    let contestants: Vec<Contestant> = bench
        .contestants
        .iter()
        .copied()
        .filter(|contestant| contestant.delivers())
        .collect();
    let mut samples: Vec<Vec<Drained>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        for (contestant, samples) in contestants.iter().zip(&mut samples) {
            let drained = drain(bench, *contestant, deliveries)
                .await
                .with_context(|| format!("drain {}", contestant.name()))?;
            eprintln!(
                "drain {deliveries}, round {round}: {} {:.0}/s",
                contestant.name(),
                drained.done_per_second
            );
            samples.push(drained);
        }
    }
    let mut table = Table::new(
        format!("Drain of {deliveries} deliveries"),
        &[
            "queue",
            "arrivals/s",
            "done/s",
            "WAL bytes each",
            "commits each",
            "attempts kept each",
            "repeats",
            "body bytes",
            "worker CPU us each",
            "peak memory MiB",
        ],
    );
    for (contestant, samples) in contestants.iter().zip(&samples) {
        let column = |value: fn(&Drained) -> f64| range(Summary::of(samples.iter().map(value)));
        table.push([
            contestant.name().to_owned(),
            column(|d| d.arrivals_per_second),
            column(|d| d.done_per_second),
            column(|d| d.wal_bytes_each),
            column(|d| d.commits_each),
            range(Summary::of(samples.iter().filter_map(|d| d.history_each))),
            column(|d| d.repeats),
            column(|d| d.body_bytes),
            column(|d| d.worker_cpu_us_each),
            column(|d| d.peak_memory_mib),
        ]);
    }
    Ok(table)
}

async fn drain(bench: &Bench, contestant: Contestant, deliveries: u32) -> Result<Drained> {
    let count = f64::from(deliveries);
    let database = contestant.fresh_database(bench).await?;
    fill(bench, &database, deliveries).await?;
    bench.receiver.reset();
    let commits = bench.server.commits(&database).await?;
    let wal = bench.server.wal_bytes().await?;

    let mut worker = contestant.start_worker(bench, &database)?;
    wait_for_arrivals(bench, &mut worker, u64::from(deliveries)).await?;
    let (done, polls) = wait_until_done(bench, contestant, &database, &mut worker).await?;

    let wal = bench.server.wal_bytes().await? - wal;
    let worker_cpu_us_each = worker.cpu_seconds()? * 1e6 / count;
    let peak_memory_mib = worker.peak_memory_mib()?;
    worker.stop().await?;
    let commits = bench.server.commits(&database).await? - commits - polls;
    let history_each = match contestant.history_query() {
        Some(query) => {
            let client = bench.server.connect(&database).await?;
            let kept: i64 = client.query_one(query, &[]).await?.get(0);
            Some(kept as f64 / count)
        }
        None => None,
    };
    bench.server.drop(&database).await?;

    let ledger = bench.receiver.ledger();
    let (first, last) = ledger.first.zip(ledger.last).context("nothing arrived")?;
    Ok(Drained {
        arrivals_per_second: count / (last - first).as_secs_f64(),
        done_per_second: count / (done.max(last) - first).as_secs_f64(),
        wal_bytes_each: wal / count,
        commits_each: commits / count,
        repeats: (ledger.arrivals - ledger.distinct()) as f64,
        body_bytes: ledger.body_bytes as f64 / ledger.arrivals as f64,
        history_each,
        worker_cpu_us_each,
        peak_memory_mib,
    })
}

/// Rows per transaction: graphile-worker's `add_job` slows down with the number of jobs in one.
const FILL_CHUNK: u32 = 1000;

/// Queues the backlog, and leaves the tables as autovacuum would.
async fn fill(bench: &Bench, database: &str, deliveries: u32) -> Result<()> {
    let client = bench.server.connect(database).await?;
    let insert = client.prepare(include_str!("../sql/fill.sql")).await?;
    let mut missing = deliveries;
    while missing > 0 {
        let rows = missing.min(FILL_CHUNK);
        client
            .execute(&insert, &[&rows.cast_signed()])
            .await
            .context("queue the backlog")?;
        missing -= rows;
    }
    client.batch_execute("vacuum analyze").await?;
    client.batch_execute("checkpoint").await?;
    Ok(())
}

/// Waits until `expected` different requests have arrived.
///
/// # Errors
/// When the worker ends or ten minutes pass before that.
pub async fn wait_for_arrivals(bench: &Bench, worker: &mut Worker, expected: u64) -> Result<()> {
    let arrived = || bench.receiver.ledger().distinct();
    worker.wait_for("requests arrived", expected, arrived).await
}

/// Returns when the queue had nothing left, and how many queries it took to see that. Asked only after the last
/// arrival, so that the questions do not slow the drain.
async fn wait_until_done(
    bench: &Bench,
    contestant: Contestant,
    database: &str,
    worker: &mut Worker,
) -> Result<(Instant, f64)> {
    let query = contestant.remaining_query().context("no worker")?;
    let client = bench.server.connect(database).await?;
    let deadline = Instant::now() + WAIT_TIMEOUT;
    let mut polls = 0.0;
    loop {
        let remaining: i64 = client.query_one(query, &[]).await?.get(0);
        polls += 1.0;
        if remaining == 0 {
            return Ok((Instant::now(), polls));
        }
        worker.ensure_running()?;
        ensure!(
            Instant::now() < deadline,
            "{remaining} deliveries are still not done"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
