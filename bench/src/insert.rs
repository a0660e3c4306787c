//! What does a queue cost the transaction that feeds it? One-row inserts by pgbench.

use std::path::Path;

use anyhow::{Context, Result};

use crate::Bench;
use crate::contestant::Contestant;
use crate::drain::wait_for_arrivals;
use crate::pgbench;
use crate::report::{Table, figure, range};
use crate::stats::Summary;

/// The load of one table row.
#[derive(Debug)]
pub struct Load {
    /// Numbers of clients to run with, workers stopped.
    pub clients: Vec<u32>,
    /// Number of clients to run with beside a running worker.
    pub clients_beside_worker: u32,
    pub seconds: u32,
}

/// One pgbench run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    inserts_per_second: f64,
    /// Against the plain table in the same round; `None` if that was not measured.
    ratio: Option<f64>,
    wal_bytes_each: f64,
    commits_each: f64,
    /// Requests per second that arrived meanwhile.
    arrivals_per_second: f64,
}

/// Measures every client count with every contestant, and once more beside running workers.
///
/// # Errors
/// When pgbench or a contestant fails.
pub async fn run(bench: &Bench, load: &Load) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for &clients in &load.clients {
        let title = format!("One-row inserts, {clients} clients, worker stopped");
        let contestants = bench.contestants.clone();
        tables.push(compare(bench, &title, &contestants, clients, load.seconds, false).await?);
    }
    let clients = load.clients_beside_worker;
    let title = format!("One-row inserts, {clients} clients, worker running");
    let contestants: Vec<Contestant> = bench
        .contestants
        .iter()
        .copied()
        .filter(|contestant| contestant.delivers() || *contestant == Contestant::Plain)
        .collect();
    tables.push(compare(bench, &title, &contestants, clients, load.seconds, true).await?);
    Ok(tables)
}

async fn compare(
    bench: &Bench,
    title: &str,
    contestants: &[Contestant],
    clients: u32,
    seconds: u32,
    beside_worker: bool,
) -> Result<Table> {
    let mut samples: Vec<Vec<Sample>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        let mut plain = None;
        for (&contestant, samples) in contestants.iter().zip(&mut samples) {
            let beside_worker = beside_worker && contestant.delivers();
            let mut sample = measure(bench, contestant, clients, seconds, beside_worker)
                .await
                .with_context(|| format!("insert into the table of {}", contestant.name()))?;
            if contestant == Contestant::Plain {
                plain = Some(sample.inserts_per_second);
            }
            sample.ratio = plain.map(|plain| sample.inserts_per_second / plain);
            eprintln!(
                "{title}, round {round}: {} {}/s",
                contestant.name(),
                figure(sample.inserts_per_second)
            );
            samples.push(sample);
        }
    }
    let mut table = Table::new(
        title,
        &[
            "table",
            "inserts/s",
            "of plain",
            "WAL bytes each",
            "commits each",
            "arrivals/s",
        ],
    );
    for (contestant, samples) in contestants.iter().zip(&samples) {
        let column = |value: fn(&Sample) -> f64| range(Summary::of(samples.iter().map(value)));
        table.push([
            contestant.name().to_owned(),
            column(|s| s.inserts_per_second),
            range(Summary::of(samples.iter().filter_map(|s| s.ratio))),
            column(|s| s.wal_bytes_each),
            column(|s| s.commits_each),
            column(|s| s.arrivals_per_second),
        ]);
    }
    Ok(table)
}

async fn measure(
    bench: &Bench,
    contestant: Contestant,
    clients: u32,
    seconds: u32,
    beside_worker: bool,
) -> Result<Sample> {
    let database = contestant.fresh_database(bench).await?;
    bench.receiver.reset();
    let worker = if beside_worker {
        let mut worker = contestant.start_worker(bench, &database)?;
        // One request through the whole chain shows that the worker is up.
        let client = bench.server.connect(&database).await?;
        client
            .execute(include_str!("../sql/insert.sql"), &[])
            .await?;
        wait_for_arrivals(bench, &mut worker, 1).await?;
        Some(worker)
    } else {
        None
    };
    let commits = match &worker {
        Some(_) => bench.server.commits(&database).await?,
        None => bench.server.published_commits(&database).await?,
    };
    let wal = bench.server.wal_bytes().await?;
    let arrivals = bench.receiver.ledger().arrivals;

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/insert.sql");
    let run = pgbench::run(bench, &database, &script, clients, seconds).await?;

    let arrivals = bench.receiver.ledger().arrivals - arrivals;
    let wal = bench.server.wal_bytes().await? - wal;
    let commits = bench.server.commits(&database).await? - commits;
    if let Some(worker) = worker {
        worker.stop().await?;
    }
    bench.server.drop(&database).await?;
    Ok(Sample {
        inserts_per_second: run.per_second,
        ratio: None,
        wal_bytes_each: wal / run.transactions,
        commits_each: commits / run.transactions,
        arrivals_per_second: arrivals as f64 / f64::from(seconds),
    })
}
