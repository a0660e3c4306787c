//! Does an endpoint that answers slowly delay the deliveries of another one? Only actionflow has endpoints.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::Bench;
use crate::contestant::Contestant;
use crate::latency::{PAUSE, Percentiles, Probe};
use crate::process::Worker;
use crate::receiver::SLOW_ANSWER;
use crate::report::{Table, range};
use crate::stats::Summary;

/// Deliveries queued for each slow endpoint.
const BACKLOG: i32 = 1000;

/// Who disturbs.
struct Neighbours {
    slow_endpoints: usize,
    measurements: &'static [Measurement],
}

/// When the disturbed endpoint is measured.
struct Measurement {
    name: &'static str,
    /// Since the first request hung.
    after: Duration,
}

const NEIGHBOURS: [Neighbours; 2] = [
    Neighbours {
        slow_endpoints: 1,
        measurements: &[Measurement {
            name: "1 slow endpoint",
            after: Duration::ZERO,
        }],
    },
    Neighbours {
        slow_endpoints: 3,
        measurements: &[
            Measurement {
                name: "3 slow endpoints",
                after: Duration::ZERO,
            },
            // All answers come within a few milliseconds, and are followed by as many new requests: both should fall
            // into the measurement, which takes 5 s at least.
            Measurement {
                name: "3 slow endpoints, as their answers come",
                after: SLOW_ANSWER.saturating_sub(Duration::from_secs(3)),
            },
        ],
    },
];

/// One measurement of one round.
struct Compared {
    idle: Percentiles,
    beside: Percentiles,
    /// Requests that waited for their answer when the measurement ended.
    hanging: f64,
}

/// Measures `inserts` single inserts with nothing else queued and again beside the backlog; `None` when actionflow is
/// not among the contestants.
///
/// # Errors
/// When the worker fails or loses a request.
pub async fn run(bench: &Bench, inserts: u32) -> Result<Option<Table>> {
    if !bench.contestants.contains(&Contestant::Actionflow) {
        return Ok(None);
    }
    let measurements = || NEIGHBOURS.iter().flat_map(|n| n.measurements);
    let mut samples: Vec<Vec<Compared>> = measurements().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        let mut compared = Vec::new();
        for neighbours in &NEIGHBOURS {
            let count = neighbours.slow_endpoints;
            let results = compare(bench, neighbours, inserts).await;
            compared.extend(results.with_context(|| format!("measure beside {count} slow"))?);
        }
        for ((measurement, compared), samples) in measurements().zip(compared).zip(&mut samples) {
            eprintln!(
                "isolation, round {round}: {}: p99 {:.2} ms, idle {:.2} ms",
                measurement.name, compared.beside.p99, compared.idle.p99
            );
            samples.push(compared);
        }
    }
    let mut table = Table::new(
        format!(
            "Latency of {inserts} inserts, {} ms apart, beside endpoints that answer after {} s with {BACKLOG} \
             deliveries queued for each",
            PAUSE.as_millis(),
            SLOW_ANSWER.as_secs()
        ),
        &[
            "beside",
            "idle p50 ms",
            "idle p99 ms",
            "p50 ms",
            "p99 ms",
            "p99 / idle p99",
            "hanging requests",
        ],
    );
    for (measurement, samples) in measurements().zip(&samples) {
        let column = |value: fn(&Compared) -> f64| range(Summary::of(samples.iter().map(value)));
        table.push([
            measurement.name.to_owned(),
            column(|c| c.idle.p50),
            column(|c| c.idle.p99),
            column(|c| c.beside.p50),
            column(|c| c.beside.p99),
            column(|c| c.beside.p99 / c.idle.p99),
            column(|c| c.hanging),
        ]);
    }
    Ok(Some(table))
}

async fn compare(bench: &Bench, neighbours: &Neighbours, inserts: u32) -> Result<Vec<Compared>> {
    let database = Contestant::Actionflow.fresh_database(bench).await?;
    let client = bench.server.connect(&database).await?;
    let flows: Vec<String> = (1..=neighbours.slow_endpoints)
        .map(|number| format!("slow_{number}"))
        .collect();
    for flow in &flows {
        let sql = include_str!("../sql/slow.sql")
            .replace(":name", &format!("'{flow}'"))
            .replace(":url", &format!("'{}'", bench.receiver.slow_url()));
        client
            .batch_execute(&sql)
            .await
            .context("make a slow endpoint")?;
    }
    let mut worker = Contestant::Actionflow.start_worker(bench, &database)?;
    let probe = Probe::connect(bench, &database).await?;
    probe.warm_up(&mut worker).await?;
    let idle = probe.measure(&mut worker, inserts).await?;

    hang(bench, &client, &mut worker, &flows).await?;
    let hung = Instant::now();
    let mut compared = Vec::new();
    for measurement in neighbours.measurements {
        tokio::time::sleep_until((hung + measurement.after).into()).await;
        compared.push(Compared {
            idle,
            beside: probe.measure(&mut worker, inserts).await?,
            hanging: bench.receiver.hanging() as f64,
        });
    }

    // Not stopped: it would wait for answers first.
    worker.kill().await?;
    bench.server.drop(&database).await?;
    Ok(compared)
}

/// Queues the backlogs, and waits until requests hang at the receiver.
async fn hang(bench: &Bench, client: &Client, worker: &mut Worker, flows: &[String]) -> Result<()> {
    let left_over = bench.receiver.hanging();
    ensure!(
        left_over == 0,
        "{left_over} requests of an earlier run still hang"
    );
    for flow in flows {
        let row = client
            .query_one(include_str!("../sql/backlog.sql"), &[flow, &BACKLOG])
            .await
            .context("queue the backlog")?;
        let started: i64 = row.try_get(0)?;
        ensure!(
            started == i64::from(BACKLOG),
            "only {started} of {BACKLOG} runs have started"
        );
    }
    let hanging = || bench.receiver.hanging();
    worker.wait_for("requests hang", 1, hanging).await
}
