//! What an Enrich costs its caller beside the HTTP call: the caller's latency less the time that the worker has on
//! record for the same event's request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;

use super::calls::{Call, Commit, Session};
use super::setup::Stage;
use crate::Bench;
use crate::process::POLL_INTERVAL;
use crate::report::{Table, range};
use crate::stats::{Summary, percentile};

const SESSIONS: u32 = 32;

/// The worker records its attempts in batches, soon after.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);

/// How the sessions call.
#[derive(Debug)]
struct Load {
    name: &'static str,
    /// Between two calls of one session.
    pause: Duration,
}

const LOADS: [Load; 2] = [
    // As an application's pool does: the machine has time to spare, and what is measured is the way, not the queue.
    Load {
        name: "20 ms between a session's calls",
        pause: Duration::from_millis(20),
    },
    // All processors are busy, so each step of the way waits for one.
    Load {
        name: "no pause",
        pause: Duration::ZERO,
    },
];

/// Median and 99th percentile, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Spread {
    p50: f64,
    p99: f64,
}

/// One round of one load.
#[derive(Debug, Clone, Copy)]
struct Sample {
    calls_per_second: f64,
    whole: Spread,
    http: Spread,
    outside: Spread,
    /// An `emit_event` that starts nothing, under the same load.
    bare: Spread,
}

/// One call: the event's id, and the statement's microseconds without the commit.
type Called = (i64, f64);

/// Measures each load once a round, with runs of this length.
///
/// # Errors
/// When the server refuses, a call is not answered by the endpoint, or an attempt is not on record in time.
pub(super) async fn run(bench: &Bench, stage: &mut Stage, length: Duration) -> Result<Table> {
    let mut samples: Vec<Vec<Sample>> = LOADS.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        for (load, samples) in LOADS.iter().zip(&mut samples) {
            let sample = measure(bench, stage, load, length)
                .await
                .with_context(|| format!("measure the overhead with {}", load.name))?;
            eprintln!(
                "overhead, round {round}, {}: outside HTTP p50 {:.0} us, p99 {:.0} us",
                load.name, sample.outside.p50, sample.outside.p99
            );
            samples.push(sample);
        }
    }
    let mut table = Table::new(
        format!("Time of an Enrich outside of its HTTP call, {SESSIONS} sessions"),
        &[
            "load",
            "calls/s",
            "statement p50 us",
            "p99 us",
            "HTTP p50 us",
            "p99 us",
            "outside HTTP p50 us",
            "p99 us",
            "emit_event, no flow p50 us",
            "p99 us",
        ],
    );
    for (load, samples) in LOADS.iter().zip(&samples) {
        let column = |value: fn(&Sample) -> f64| range(Summary::of(samples.iter().map(value)));
        table.push([
            load.name.to_owned(),
            column(|s| s.calls_per_second),
            column(|s| s.whole.p50),
            column(|s| s.whole.p99),
            column(|s| s.http.p50),
            column(|s| s.http.p99),
            column(|s| s.outside.p50),
            column(|s| s.outside.p99),
            column(|s| s.bare.p50),
            column(|s| s.bare.p99),
        ]);
    }
    Ok(table)
}

async fn measure(
    bench: &Bench,
    stage: &mut Stage,
    load: &Load,
    length: Duration,
) -> Result<Sample> {
    let (bare, _) = call(bench, stage, Call::Emit, load, length).await?;
    let (called, seconds) = call(bench, stage, Call::Enrich, load, length).await?;
    let recorded = recorded(bench, stage, &called).await?;
    let mut http = Vec::new();
    let mut outside = Vec::new();
    for (event, whole) in &called {
        let request = recorded.get(event);
        let request = request.with_context(|| format!("no attempt for event {event}"))?;
        http.push(*request);
        outside.push(whole - request);
    }
    Ok(Sample {
        calls_per_second: called.len() as f64 / seconds,
        whole: spread(called.iter().map(|(_, whole)| *whole).collect())?,
        http: spread(http)?,
        outside: spread(outside)?,
        bare: spread(bare.iter().map(|(_, whole)| *whole).collect())?,
    })
}

/// The calls of all sessions, and the seconds in which they were made.
async fn call(
    bench: &Bench,
    stage: &Stage,
    call: Call,
    load: &Load,
    length: Duration,
) -> Result<(Vec<Called>, f64)> {
    let sessions = Session::open_warm(bench, stage, call, Commit::Durable, SESSIONS).await?;
    let start = Instant::now();
    let runs = sessions.iter().zip(0..).map(|(session, place)| {
        // Otherwise all would call at the same moment, again and again.
        let first = start + load.pause * place / SESSIONS;
        repeat(session, load.pause, first, start + length)
    });
    let called = try_join_all(runs).await?.concat();
    Ok((called, start.elapsed().as_secs_f64()))
}

async fn repeat(
    session: &Session,
    pause: Duration,
    first: Instant,
    until: Instant,
) -> Result<Vec<Called>> {
    let mut called = Vec::new();
    tokio::time::sleep_until(first.into()).await;
    while Instant::now() < until {
        let (answer, took) = session.call_in_transaction().await?;
        called.push((event_id(&answer)?, took.as_secs_f64() * 1e6));
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(called)
}

fn event_id(answer: &Value) -> Result<i64> {
    let id = answer["event_id"].as_str();
    Ok(id.context("an answer without an event_id")?.parse()?)
}

/// The microseconds of the HTTP calls for each event, its attempts added up. Waits until all are on record.
async fn recorded(
    bench: &Bench,
    stage: &mut Stage,
    called: &[Called],
) -> Result<HashMap<i64, f64>> {
    let ids = || called.iter().map(|(id, _)| *id);
    let (first, last) = ids().min().zip(ids().max()).context("no calls")?;
    let client = bench.server.connect(stage.database).await?;
    let deadline = Instant::now() + RECORD_TIMEOUT;
    loop {
        let rows = client
            .query(
                "select event_id::bigint, sum(duration_ms)::float8 * 1000 from actionflow.enrich_attempts
                 where event_id::bigint between $1 and $2 group by 1",
                &[&first, &last],
            )
            .await
            .context("read the attempts")?;
        let pairs = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let recorded: HashMap<i64, f64> = pairs.collect::<Result<_>>()?;
        let missing = ids().filter(|id| !recorded.contains_key(id)).count();
        if missing == 0 {
            return Ok(recorded);
        }
        if let Some(worker) = &mut stage.worker {
            worker.ensure_running()?;
        }
        ensure!(
            Instant::now() < deadline,
            "{missing} of {} attempts are not on record",
            called.len()
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn spread(mut microseconds: Vec<f64>) -> Result<Spread> {
    microseconds.sort_by(f64::total_cmp);
    Ok(Spread {
        p50: percentile(&microseconds, 50.0).context("no samples")?,
        p99: percentile(&microseconds, 99.0).context("no samples")?,
    })
}
