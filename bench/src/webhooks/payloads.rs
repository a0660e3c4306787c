//! What senders send, and the queries over many of them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::database::Server;

/// Signs everything here; it protects nothing.
pub(super) const SECRET: &str = "whsec_actionflow_benchmark_signing_key";

/// A payment, as a provider of payments tells of it: 1 KiB.
pub(super) fn event() -> &'static str {
    include_str!("../../sql/webhooks/event.json").trim_end()
}

/// The mapping of [`event`] without code. `with_id` says whether the payment's id identifies the invocation.
pub(super) fn fields(with_id: bool) -> Value {
    let mut mapping = json!({
        "kind": "fields",
        "targetUserIds": "$.data.object.metadata.customer_id",
        "variables": {
            "amount": "$.data.object.amount",
            "currency": "$.data.object.currency",
            "email": "$.data.object.receipt_email",
            "source": {"const": "payments"},
        },
        "metadata": {"type": "$.type"},
    });
    if with_id {
        mapping["flowInvocationId"] = json!("$.id");
    }
    mapping
}

/// Makes an empty database, and connects to it in a session that plans queries as they are meant here: on one core, and not
/// compiled, because that depends on the rows' number and on how the server was built.
///
/// # Errors
/// When the server refuses.
pub(super) async fn open(server: &Server, database: &str, sql: &str) -> Result<Client> {
    server.create(database, None).await?;
    let client = server.connect(database).await?;
    client
        .batch_execute("set max_parallel_workers_per_gather = 0; set jit = off")
        .await?;
    client
        .batch_execute(sql)
        .await
        .with_context(|| format!("set up {database}"))?;
    Ok(client)
}

/// Signs a text with [`SECRET`] by HMAC-SHA-256, as hex digits.
///
/// # Errors
/// When the server refuses, such as one without pgcrypto.
pub(super) async fn sign(client: &Client, text: &[u8]) -> Result<String> {
    let row = client
        .query_one(
            "select encode(hmac($1::bytea, $2::bytea, 'sha256'), 'hex')",
            &[&text, &SECRET.as_bytes()],
        )
        .await
        .context("sign by pgcrypto")?;
    Ok(row.try_get(0)?)
}

/// Runs a query that counts, and returns the seconds that it took.
///
/// # Errors
/// When the server refuses, or the count is another than `expected`.
pub(super) async fn time_count(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    expected: u32,
) -> Result<f64> {
    let statement = client
        .prepare(sql)
        .await
        .with_context(|| format!("prepare {sql}"))?;
    let start = Instant::now();
    let row = client.query_one(&statement, parameters).await;
    let took = start.elapsed();
    let count: i64 = row.with_context(|| format!("run {sql}"))?.try_get(0)?;
    ensure!(
        count == i64::from(expected),
        "{count} instead of {expected} rows by {sql}"
    );
    Ok(took.as_secs_f64())
}

/// What the server says that it is, such as `18.6`.
///
/// # Errors
/// When the server refuses.
pub(super) async fn version(client: &Client) -> Result<String> {
    let row = client
        .query_one("select current_setting('server_version')", &[])
        .await?;
    let version: String = row.try_get(0)?;
    Ok(version.split(' ').next().unwrap_or_default().to_owned())
}

/// Leaves the tables as autovacuum would, and nothing for a checkpoint to do.
///
/// # Errors
/// When the server refuses.
pub(super) async fn settle(client: &Client) -> Result<()> {
    for sql in ["vacuum analyze", "checkpoint"] {
        client
            .batch_execute(sql)
            .await
            .with_context(|| format!("run {sql}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_is_json_of_one_kibibyte() {
        assert_eq!(event().len(), 1024);
        let event: Value = serde_json::from_str(event()).unwrap();
        assert_eq!(event["data"]["object"]["metadata"]["customer_id"], "42");
    }
}
