//! How long after its commit does a lone insert reach the receiver?

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_postgres::{Client, Statement};

use crate::Bench;
use crate::contestant::Contestant;
use crate::drain::wait_for_arrivals;
use crate::process::Worker;
use crate::report::{Table, range};
use crate::stats::{Summary, percentile};

/// Between two inserts, so that each finds the worker asleep.
pub const PAUSE: Duration = Duration::from_millis(10);

/// Enough to open the connections and fill the caches on both sides.
const WARM_UP: u32 = 20;

/// One round's percentiles, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Percentiles {
    /// From when the client knew of the commit.
    pub p50: f64,
    pub p99: f64,
    /// From before the INSERT was sent, so the commit's own flush is in it.
    pub whole_p50: f64,
}

/// Measures `inserts` single inserts per round with each contestant in turn.
///
/// # Errors
/// When a contestant fails or loses a request.
pub async fn run(bench: &Bench, inserts: u32) -> Result<Table> {
    let contestants: Vec<Contestant> = bench
        .contestants
        .iter()
        .copied()
        .filter(|contestant| contestant.delivers())
        .collect();
    let mut samples: Vec<Vec<Percentiles>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        for (contestant, samples) in contestants.iter().zip(&mut samples) {
            let percentiles = measure(bench, *contestant, inserts)
                .await
                .with_context(|| format!("measure the latency of {}", contestant.name()))?;
            eprintln!(
                "latency, round {round}: {} p50 {:.2} ms, p99 {:.2} ms",
                contestant.name(),
                percentiles.p50,
                percentiles.p99
            );
            samples.push(percentiles);
        }
    }
    let mut table = Table::new(
        format!(
            "Latency of {inserts} inserts, {} ms apart",
            PAUSE.as_millis()
        ),
        &[
            "queue",
            "commit to receiver p50 ms",
            "commit to receiver p99 ms",
            "INSERT sent to receiver p50 ms",
        ],
    );
    for (contestant, samples) in contestants.iter().zip(&samples) {
        let column = |value: fn(&Percentiles) -> f64| range(Summary::of(samples.iter().map(value)));
        table.push([
            contestant.name().to_owned(),
            column(|p| p.p50),
            column(|p| p.p99),
            column(|p| p.whole_p50),
        ]);
    }
    Ok(table)
}

async fn measure(bench: &Bench, contestant: Contestant, inserts: u32) -> Result<Percentiles> {
    let database = contestant.fresh_database(bench).await?;
    let mut worker = contestant.start_worker(bench, &database)?;
    let probe = Probe::connect(bench, &database).await?;
    probe.warm_up(&mut worker).await?;
    let percentiles = probe.measure(&mut worker, inserts).await?;
    worker.stop().await?;
    bench.server.drop(&database).await?;
    Ok(percentiles)
}

/// A client that inserts one customer at a time.
pub struct Probe<'a> {
    bench: &'a Bench,
    client: Client,
    insert: Statement,
}

/// One insert.
struct Inserted {
    /// The customer's id.
    user: String,
    sent: Instant,
    /// When the client knew of the commit.
    committed: Instant,
}

impl<'a> Probe<'a> {
    /// # Errors
    /// When the server refuses.
    pub async fn connect(bench: &'a Bench, database: &str) -> Result<Self> {
        let client = bench.server.connect(database).await?;
        let insert = client
            .prepare(concat!(
                include_str!("../sql/insert.sql"),
                " returning id::text"
            ))
            .await?;
        Ok(Self {
            bench,
            client,
            insert,
        })
    }

    /// Opens connections and fills caches on both sides.
    ///
    /// # Errors
    /// When a request is lost.
    pub async fn warm_up(&self, worker: &mut Worker) -> Result<()> {
        self.bench.receiver.reset();
        self.insert(WARM_UP).await?;
        wait_for_arrivals(self.bench, worker, u64::from(WARM_UP)).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// Inserts so many customers, one at a time, and compares with when their requests arrived.
    ///
    /// # Errors
    /// When a request is lost.
    pub async fn measure(&self, worker: &mut Worker, inserts: u32) -> Result<Percentiles> {
        self.bench.receiver.reset_and_trace();
        let inserted = self.insert(inserts).await?;
        wait_for_arrivals(self.bench, worker, u64::from(inserts)).await?;
        let ledger = self.bench.receiver.ledger();
        let (mut after_commit, mut whole) = (Vec::new(), Vec::new());
        for insert in inserted {
            let arrival = ledger
                .arrival_of(&insert.user)
                .with_context(|| format!("no request for customer {}", insert.user))?;
            let since = |start| arrival.saturating_duration_since(start).as_secs_f64() * 1e3;
            // The worker may be faster than the client's own reading of the COMMIT.
            after_commit.push(since(insert.committed));
            whole.push(since(insert.sent));
        }
        after_commit.sort_by(f64::total_cmp);
        whole.sort_by(f64::total_cmp);
        Ok(Percentiles {
            p50: percentile(&after_commit, 50.0).context("no samples")?,
            p99: percentile(&after_commit, 99.0).context("no samples")?,
            whole_p50: percentile(&whole, 50.0).context("no samples")?,
        })
    }

    async fn insert(&self, count: u32) -> Result<Vec<Inserted>> {
        let mut inserted = Vec::new();
        for _ in 0..count {
            let sent = Instant::now();
            let row = self.client.query_one(&self.insert, &[]).await;
            let row = row.context("insert")?;
            inserted.push(Inserted {
                user: row.try_get(0)?,
                sent,
                committed: Instant::now(),
            });
            tokio::time::sleep(PAUSE).await;
        }
        Ok(inserted)
    }
}
