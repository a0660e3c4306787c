//! The clock over many memberships: nothing due, and many of them due at once.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use super::rules::within_last;
use super::setup;
use crate::Bench;
use crate::report::{Table, range};
use crate::stats::{Summary, percentile};

/// All customers were seen within the last 100 days, so all are members until half of this has passed.
const DAYS: u32 = 200;

/// Crossings of one tick; as many customers leave the segment at each next moment.
const DUE: i64 = 10_000;

/// As the worker asks.
const BATCH: i32 = 1000;

const IDLE_CALLS: usize = 500;

/// One round, in milliseconds.
struct Ticked {
    idle: f64,
    idle_p99: f64,
    round_trip: f64,
    due: f64,
    batches: f64,
    longest_batch: f64,
}

/// # Errors
/// When the server refuses, or a tick changes other memberships than those that are due.
pub(super) async fn run(bench: &Bench, database: &str) -> Result<Table> {
    let client = bench.server.connect(database).await?;
    let rule = within_last("last_seen", DAYS);
    let members = setup::create_segment(&client, "seen", &rule).await?;
    let flips = setup::count(&client, "actionflow._segment_flip").await?;
    ensure!(members == flips, "{members} members, but {flips} flips");
    setup::settle(&client).await?;
    let mut samples = Vec::new();
    let mut left = 0;
    for round in 1..=bench.rounds {
        let ticked = measure(&client, &mut left).await?;
        eprintln!(
            "tick, round {round}: {:.2} ms when nothing is due, {:.0} ms for {DUE} crossings",
            ticked.idle, ticked.due
        );
        samples.push(ticked);
    }
    Ok(table(members, &samples))
}

async fn measure(client: &Client, left: &mut i64) -> Result<Ticked> {
    let trips = call(client, "select 1::bigint").await?;
    let idle = call(client, "select actionflow.tick()").await?;

    let moment = next_moment(client, left).await?;
    let start = Instant::now();
    let row = client
        .query_one("select actionflow.tick($1::text::timestamptz)", &[&moment])
        .await
        .context("tick")?;
    let due = setup::milliseconds_since(start);
    let changed: i64 = row.try_get(0)?;
    ensure!(changed == DUE, "{changed} memberships changed at {moment}");

    let moment = next_moment(client, left).await?;
    let (batches, longest_batch) = in_batches(client, &moment).await?;
    let at = |sorted: &[f64], percent| percentile(sorted, percent).context("no call");
    Ok(Ticked {
        idle: at(&idle, 50.0)?,
        idle_p99: at(&idle, 99.0)?,
        round_trip: at(&trips, 50.0)?,
        due,
        batches,
        longest_batch,
    })
}

/// Milliseconds of single calls, sorted; what they return must be the same always.
async fn call(client: &Client, sql: &str) -> Result<Vec<f64>> {
    let statement = client.prepare(sql).await?;
    let mut first = None;
    let mut milliseconds = Vec::new();
    for _ in 0..IDLE_CALLS {
        let start = Instant::now();
        let row = client.query_one(&statement, &[]).await?;
        milliseconds.push(setup::milliseconds_since(start));
        let answer: i64 = row.try_get(0)?;
        ensure!(
            *first.get_or_insert(answer) == answer,
            "{sql} did something"
        );
    }
    milliseconds.sort_by(f64::total_cmp);
    Ok(milliseconds)
}

/// When the next customers leave.
async fn next_moment(client: &Client, left: &mut i64) -> Result<String> {
    *left += DUE;
    let query = format!(
        "select (last_seen + interval '{} hours')::text from customers order by last_seen offset $1::bigint - 1 limit 1",
        DAYS * 24
    );
    let row = client.query_one(&query, &[left]).await;
    Ok(row.context("find the next moment")?.try_get(0)?)
}

/// Milliseconds of all and of the longest.
async fn in_batches(client: &Client, moment: &str) -> Result<(f64, f64)> {
    let batch = client
        .prepare("select checked, changed from actionflow.tick_batch($1, $2::text::timestamptz)")
        .await?;
    let start = Instant::now();
    let mut longest: f64 = 0.0;
    let mut total = 0;
    loop {
        let one = Instant::now();
        let row = client.query_one(&batch, &[&BATCH, &moment]).await?;
        longest = longest.max(setup::milliseconds_since(one));
        let checked: i64 = row.try_get(0)?;
        let changed: i64 = row.try_get(1)?;
        total += changed;
        if checked < i64::from(BATCH) {
            break;
        }
    }
    let milliseconds = setup::milliseconds_since(start);
    ensure!(total == DUE, "{total} memberships changed at {moment}");
    Ok((milliseconds, longest))
}

fn table(members: i64, samples: &[Ticked]) -> Table {
    let mut table = Table::new(
        format!("Ticks over {members} memberships that the clock ends"),
        &["what", "ms", "target ms"],
    );
    let column = |value: fn(&Ticked) -> f64| range(Summary::of(samples.iter().map(value)));
    for (what, figure, target) in [
        ("select 1, p50", column(|t| t.round_trip), "-"),
        ("tick, nothing due, p50", column(|t| t.idle), "1"),
        ("tick, nothing due, p99", column(|t| t.idle_p99), "-"),
        ("tick, 10,000 crossings due", column(|t| t.due), "1000"),
        (
            "the same by tick_batch, 1000 checks each",
            column(|t| t.batches),
            "-",
        ),
        ("its longest batch", column(|t| t.longest_batch), "-"),
    ] {
        table.push([what.to_owned(), figure, target.to_owned()]);
    }
    table
}
