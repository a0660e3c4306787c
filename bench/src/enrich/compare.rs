//! Latency and throughput of each call, by number of sessions.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;

use super::Settings;
use super::calls::{Call, Commit, Connection, Session};
use super::setup::Stage;
use crate::Bench;
use crate::contestant::Contestant;
use crate::report::{Table, range};
use crate::stats::{Summary, percentile};

/// In the order in which they alternate.
const CONTESTANTS: [(Call, Commit); 9] = [
    (Call::Emit, Commit::Durable),
    (Call::Enrich, Commit::Durable),
    (Call::Libcurl(Connection::Kept), Commit::Durable),
    (Call::Libcurl(Connection::New), Commit::Durable),
    (Call::Enrich, Commit::Asynchronous),
    (Call::Libcurl(Connection::Kept), Commit::Asynchronous),
    (Call::Libcurl(Connection::New), Commit::Asynchronous),
    (Call::HttpPost(Connection::Kept), Commit::Durable),
    (Call::HttpPost(Connection::New), Commit::Durable),
];

/// So that what a run leaves to do, such as the worker's log of its attempts, does not fall into the next one.
const PAUSE: Duration = Duration::from_millis(500);

/// One run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    calls_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    body_bytes: f64,
}

/// Measures every number of sessions.
///
/// # Errors
/// When the server refuses, or a call is not answered by the endpoint.
pub(super) async fn run(bench: &Bench, stage: &mut Stage, settings: &Settings) -> Result<Table> {
    let has_actionflow = bench.contestants.contains(&Contestant::Actionflow);
    let contestants: Vec<(Call, Commit)> = CONTESTANTS
        .into_iter()
        .filter(|(call, _)| has_actionflow || !call.needs_actionflow())
        .collect();
    let mut table = Table::new(
        "Calls that wait for an endpoint's answer",
        &[
            "call",
            "synchronous_commit",
            "sessions",
            "calls/s",
            "p50 ms",
            "p99 ms",
            "calls/s / kept",
            "p50 / kept",
            "calls/s / new",
            "p50 / new",
            "body bytes",
        ],
    );
    for &sessions in &settings.sessions {
        let mut rounds = Vec::new();
        for round in 1..=bench.rounds {
            let mut samples = Vec::new();
            for &(call, commit) in &contestants {
                let sample = measure(bench, stage, call, commit, sessions, settings.length())
                    .await
                    .with_context(|| format!("measure {} by {sessions}", call.name()))?;
                eprintln!(
                    "enrich, {sessions} sessions, round {round}: {}, commit {}: {:.0}/s, p50 {:.3} ms",
                    call.name(),
                    commit.name(),
                    sample.calls_per_second,
                    sample.p50_ms
                );
                samples.push(sample);
            }
            rounds.push(samples);
        }
        for row in rows(&contestants, sessions, &rounds) {
            table.push(row);
        }
    }
    Ok(table)
}

async fn measure(
    bench: &Bench,
    stage: &mut Stage,
    call: Call,
    commit: Commit,
    count: u32,
    length: Duration,
) -> Result<Sample> {
    let sessions = Session::open_warm(bench, stage, call, commit, count).await?;
    bench
        .server
        .connect(stage.database)
        .await?
        .batch_execute("checkpoint")
        .await?;
    tokio::time::sleep(PAUSE).await;
    bench.receiver.reset();

    let start = Instant::now();
    let runs = sessions
        .iter()
        .map(|session| repeat(session, start + length));
    let mut milliseconds = try_join_all(runs).await?.concat();
    let seconds = start.elapsed().as_secs_f64();

    if let Some(worker) = &mut stage.worker {
        worker.ensure_running()?;
    }
    let (arrivals, body_bytes) = {
        let ledger = bench.receiver.ledger();
        (ledger.arrivals, ledger.body_bytes)
    };
    let calls = milliseconds.len() as u64;
    ensure!(
        arrivals >= if call.asks() { calls } else { 0 },
        "only {arrivals} requests for {calls} calls"
    );
    milliseconds.sort_by(f64::total_cmp);
    Ok(Sample {
        calls_per_second: calls as f64 / seconds,
        p50_ms: percentile(&milliseconds, 50.0).context("no samples")?,
        p99_ms: percentile(&milliseconds, 99.0).context("no samples")?,
        body_bytes: body_bytes as f64 / arrivals.max(1) as f64,
    })
}

/// Calls until then, and returns how many milliseconds each call took.
async fn repeat(session: &Session, until: Instant) -> Result<Vec<f64>> {
    let mut milliseconds = Vec::new();
    let mut start = Instant::now();
    while start < until {
        session.call().await?;
        let end = Instant::now();
        milliseconds.push((end - start).as_secs_f64() * 1e3);
        start = end;
    }
    Ok(milliseconds)
}

/// `rounds` holds, for each round, one sample of each contestant.
fn rows(contestants: &[(Call, Commit)], sessions: u32, rounds: &[Vec<Sample>]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (place, &(call, commit)) in contestants.iter().enumerate() {
        let column = |value: fn(&Sample) -> f64| {
            range(Summary::of(
                rounds.iter().map(|samples| value(&samples[place])),
            ))
        };
        let ratio = |connection: Connection, value: fn(&Sample) -> f64| {
            // Only Enrich does the same work as the call that it is compared with.
            let base = Some((Call::Libcurl(connection), commit)).filter(|_| call == Call::Enrich);
            let base = base.and_then(|base| contestants.iter().position(|c| *c == base));
            range(base.and_then(|base| {
                let ratios = rounds.iter().map(|s| value(&s[place]) / value(&s[base]));
                Summary::of(ratios)
            }))
        };
        rows.push(vec![
            call.name().to_owned(),
            commit.name().to_owned(),
            sessions.to_string(),
            column(|s| s.calls_per_second),
            column(|s| s.p50_ms),
            column(|s| s.p99_ms),
            ratio(Connection::Kept, |s| s.calls_per_second),
            ratio(Connection::Kept, |s| s.p50_ms),
            ratio(Connection::New, |s| s.calls_per_second),
            ratio(Connection::New, |s| s.p50_ms),
            column(|s| s.body_bytes),
        ]);
    }
    rows
}
