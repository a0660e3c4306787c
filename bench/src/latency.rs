//! How long after its commit does a lone insert reach the receiver?

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_postgres::{Client, Statement};

use crate::Bench;
use crate::contestant::Contestant;
use crate::drain::wait_for_arrivals;
use crate::report::{Table, range};
use crate::stats::{Summary, percentile};

/// Between two inserts, so that each finds the worker asleep.
const PAUSE: Duration = Duration::from_millis(10);

/// Opens connections and fills caches on both sides.
const WARM_UP: u32 = 20;

/// One round's percentiles, in milliseconds.
#[derive(Debug)]
struct Percentiles {
    p50: f64,
    p99: f64,
    /// From before the INSERT was sent, so the commit's own flush is in it.
    whole_p50: f64,
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
    bench.receiver.reset_and_trace();
    let mut worker = contestant.start_worker(bench, &database)?;
    let client = bench.server.connect(&database).await?;
    let insert = client
        .prepare(concat!(
            include_str!("../sql/insert.sql"),
            " returning id::text"
        ))
        .await?;
    insert_apart(&client, &insert, WARM_UP).await?;
    wait_for_arrivals(bench, &mut worker, u64::from(WARM_UP)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let committed = insert_apart(&client, &insert, inserts).await?;
    wait_for_arrivals(bench, &mut worker, u64::from(WARM_UP + inserts)).await?;
    worker.stop().await?;
    bench.server.drop(&database).await?;

    let ledger = bench.receiver.ledger();
    let (mut after_commit, mut whole) = (Vec::new(), Vec::new());
    for (user, sent, done) in committed {
        let arrival = ledger
            .arrival_of(&user)
            .with_context(|| format!("no request for customer {user}"))?;
        // The worker may be faster than the client's own reading of the COMMIT.
        after_commit.push(arrival.saturating_duration_since(done).as_secs_f64() * 1e3);
        whole.push(arrival.saturating_duration_since(sent).as_secs_f64() * 1e3);
    }
    after_commit.sort_by(f64::total_cmp);
    whole.sort_by(f64::total_cmp);
    Ok(Percentiles {
        p50: percentile(&after_commit, 50.0).context("no samples")?,
        p99: percentile(&after_commit, 99.0).context("no samples")?,
        whole_p50: percentile(&whole, 50.0).context("no samples")?,
    })
}

/// Returns for each insert the customer's id, and when it was sent and known to be committed.
async fn insert_apart(
    client: &Client,
    insert: &Statement,
    count: u32,
) -> Result<Vec<(String, Instant, Instant)>> {
    let mut committed = Vec::new();
    for _ in 0..count {
        let sent = Instant::now();
        let row = client.query_one(insert, &[]).await.context("insert")?;
        committed.push((row.get(0), sent, Instant::now()));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(committed)
}
