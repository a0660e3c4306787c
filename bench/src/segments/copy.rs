//! COPY of many customers, of whom some enter segments.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, TryStreamExt};
use hyper::body::Bytes;
use tokio_postgres::Client;

use super::setup;
use crate::Bench;
use crate::report::{Table, range};
use crate::stats::Summary;

const ROWS: i64 = 100_000;

const SEGMENTS: u32 = 100;

/// One customer in so many has values that rules name, and nearly all of those enter something.
const LIVELY_EVERY: i32 = 10;

/// One round, in milliseconds.
struct Copied {
    bare: f64,
    watched: f64,
    /// For the member rows alone, their events alone, and the moments to look at members again.
    member_rows: f64,
    event_rows: f64,
    flip_rows: f64,
    members: f64,
    /// Customers who entered a segment.
    entered: f64,
}

impl Copied {
    fn rows(&self) -> f64 {
        self.member_rows + self.flip_rows
    }
}

/// # Errors
/// When the server refuses, or memberships and events do not belong together.
pub(super) async fn run(bench: &Bench) -> Result<Table> {
    let template = "bench_template_segments_copy";
    let client = setup::create_tables(bench, template).await?;
    setup::watch(&client).await?;
    setup::create_mixture(&client, 0..SEGMENTS).await?;
    let rows = rows(&client).await?;
    drop(client);

    let mut samples = Vec::new();
    for round in 1..=bench.rounds {
        let copied = measure(bench, template, &rows).await?;
        eprintln!(
            "COPY of {ROWS} under {SEGMENTS} segments, round {round}: {:.0} ms, bare {:.0} ms, rows of {} members {:.0} ms",
            copied.watched,
            copied.bare,
            copied.members,
            copied.rows()
        );
        samples.push(copied);
    }
    bench.server.drop(template).await?;
    Ok(table(&samples))
}

async fn rows(client: &Client) -> Result<Vec<Bytes>> {
    let query =
        format!("copy (select c.* from make_customers(1, {ROWS}, {LIVELY_EVERY}) as c) to stdout");
    let rows = client.copy_out(&query).await.context("make the rows")?;
    Ok(rows.try_collect().await?)
}

/// Each COPY begins in a fresh database: a second one in the same would pay for what the first left to be written.
async fn measure(bench: &Bench, template: &str, rows: &[Bytes]) -> Result<Copied> {
    let database = "bench_segments_copy";
    bench.server.create(database, Some(template)).await?;
    let client = bench.server.connect(database).await?;
    let bare = copy(&client, "bare_customers", rows).await?;
    drop(client);

    bench.server.create(database, Some(template)).await?;
    let client = &bench.server.connect(database).await?;
    let watched = copy(client, "customers", rows).await?;
    let members = setup::count(client, "actionflow.segment_members").await?;
    let crossings = setup::crossings(client).await?;
    ensure!(
        members > 0 && members == crossings,
        "{members} members, but {crossings} events of them"
    );
    let entered = "(select distinct user_id from actionflow.segment_members) as m";
    let entered = setup::count(client, entered).await?;

    client
        .batch_execute(include_str!("../../sql/segments/copies.sql"))
        .await
        .context("make tables like those of memberships")?;
    client.batch_execute("checkpoint").await?;
    let copied = Copied {
        bare,
        watched,
        member_rows: setup::time(client, setup::COPY_MEMBERS).await?,
        flip_rows: setup::time(client, setup::COPY_FLIPS).await?,
        event_rows: setup::time(client, setup::COPY_CROSSINGS).await?,
        members: members as f64,
        entered: entered as f64,
    };
    bench.server.drop(database).await?;
    Ok(copied)
}

async fn copy(client: &Client, table: &str, rows: &[Bytes]) -> Result<f64> {
    let start = Instant::now();
    let sink = client
        .copy_in::<_, Bytes>(&format!("copy {table} from stdin"))
        .await
        .with_context(|| format!("copy into {table}"))?;
    let mut sink = Box::pin(sink);
    for chunk in rows {
        sink.feed(chunk.clone()).await?;
    }
    let copied = sink.as_mut().finish().await;
    let copied = copied.with_context(|| format!("copy into {table}"))?;
    ensure!(copied == ROWS.cast_unsigned(), "only {copied} rows copied");
    Ok(setup::milliseconds_since(start))
}

fn table(samples: &[Copied]) -> Table {
    let mut table = Table::new(
        format!("COPY of {ROWS} customers under {SEGMENTS} segments"),
        &["what", "figure", "target"],
    );
    let column = |value: fn(&Copied) -> f64| range(Summary::of(samples.iter().map(value)));
    for (what, figure, target) in [
        ("bare COPY ms", column(|c| c.bare), "-"),
        ("watched COPY ms", column(|c| c.watched), "-"),
        ("times bare", column(|c| c.watched / c.bare), "-"),
        ("customers who enter a segment", column(|c| c.entered), "-"),
        ("member rows", column(|c| c.members), "-"),
        (
            "member rows and flips by plain SQL ms",
            column(Copied::rows),
            "-",
        ),
        (
            "their events by plain SQL ms",
            column(|c| c.event_rows),
            "-",
        ),
        (
            "times bare, without the time of member rows",
            column(|c| (c.watched - c.rows()) / c.bare),
            "3",
        ),
        (
            "times bare, without the time of member rows and events",
            column(|c| (c.watched - c.rows() - c.event_rows) / c.bare),
            "-",
        ),
    ] {
        table.push([what.to_owned(), figure, target.to_owned()]);
    }
    table
}
