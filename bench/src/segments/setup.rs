//! Databases with customers and segments.

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_postgres::Client;

use super::rules;
use crate::Bench;

/// Fill the tables of `sql/segments/copies.sql` with the rows that are there.
pub(super) const COPY_MEMBERS: &str =
    "insert into member_copy overriding system value select * from actionflow._segment_member";
pub(super) const COPY_FLIPS: &str =
    "insert into flip_copy overriding system value select * from actionflow._segment_flip";
pub(super) const COPY_CROSSINGS: &str = "insert into event_copy overriding system value \
    select * from actionflow._event where name in ('segment-entered', 'segment-exited')";

/// Makes a database with the two tables and the extension; the tables are empty, and none is watched yet.
///
/// # Errors
/// When the server refuses.
pub(super) async fn create_tables(bench: &Bench, database: &str) -> Result<Client> {
    bench.server.create(database, None).await?;
    let client = bench.server.connect(database).await?;
    client
        .batch_execute(include_str!("../../sql/segments/customers.sql"))
        .await
        .context("create the tables")?;
    client.batch_execute("create extension actionflow").await?;
    Ok(client)
}

/// Makes a database with so many customers in the watched table.
///
/// # Errors
/// When the server refuses.
pub(super) async fn create_customers(bench: &Bench, database: &str, customers: i64) -> Result<()> {
    let client = create_tables(bench, database).await?;
    client
        .execute(
            "insert into customers select * from make_customers(1, $1, 1)",
            &[&customers],
        )
        .await
        .context("make customers")?;
    watch(&client).await?;
    settle(&client).await
}

/// # Errors
/// When the server refuses.
pub(super) async fn watch(client: &Client) -> Result<()> {
    client
        .batch_execute("select actionflow.watch_customers('customers')")
        .await
        .context("watch the customers")
}

/// Creates the segments with these numbers of the mixture, each in a transaction of its own.
///
/// # Errors
/// When a rule is refused.
pub(super) async fn create_mixture(client: &Client, numbers: Range<u32>) -> Result<()> {
    // Durability of the preparation is of no interest.
    client.batch_execute("set synchronous_commit = off").await?;
    for number in numbers {
        create_segment(client, &format!("segment-{number}"), &rules::rule(number)).await?;
    }
    client.batch_execute("reset synchronous_commit").await?;
    Ok(())
}

/// Creates a segment and returns how many members it has.
///
/// # Errors
/// When the rule is refused.
pub(super) async fn create_segment(client: &Client, name: &str, rule: &Value) -> Result<i64> {
    let row = client
        .query_one("select actionflow.create_segment($1, $2)", &[&name, rule])
        .await
        .with_context(|| format!("create segment {name} with rule {rule}"))?;
    Ok(row.try_get(0)?)
}

/// Leaves the tables as autovacuum would, and nothing for a checkpoint to do.
///
/// # Errors
/// When the server refuses.
pub(super) async fn settle(client: &Client) -> Result<()> {
    // Neither may share a transaction with another statement.
    client.batch_execute("vacuum analyze").await?;
    client.batch_execute("checkpoint").await?;
    Ok(())
}

/// Enter and exit events so far.
///
/// # Errors
/// When the server refuses.
pub(super) async fn crossings(client: &Client) -> Result<i64> {
    count(
        client,
        "actionflow.events where name in ('segment-entered', 'segment-exited')",
    )
    .await
}

/// # Errors
/// When the server refuses.
pub(super) async fn count(client: &Client, from: &str) -> Result<i64> {
    let query = format!("select count(*) from {from}");
    let row = client.query_one(&query, &[]).await;
    Ok(row.with_context(|| format!("run {query}"))?.try_get(0)?)
}

/// Runs statements and returns how many milliseconds they took.
///
/// # Errors
/// When the server refuses.
pub(super) async fn time(client: &Client, sql: &str) -> Result<f64> {
    let start = Instant::now();
    client
        .batch_execute(sql)
        .await
        .with_context(|| format!("run {sql}"))?;
    Ok(milliseconds_since(start))
}

pub(super) fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
