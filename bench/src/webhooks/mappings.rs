//! `map_payload` over many payloads, warm.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::payloads::{self, event, fields, time_count};
use crate::Bench;
use crate::report::{Table, range};
use crate::stats::Summary;

const DATABASE: &str = "bench_webhook_mappings";

const TABLES: &str = "create extension actionflow;
    create table payloads (payload jsonb not null)";

const FILL: &str = "insert into payloads (payload)
    select replace($1::text, 'evt_000000000000000000000001', 'evt_' || lpad(i::text, 24, '0'))::jsonb
    from generate_series(1, $2::int) as i";

const READ: &str = "select count(payload -> 'id') from payloads";

const OPERATORS: &str = include_str!("../../sql/webhooks/operators.sql");

const MAP: &str = "select count(actionflow.map_payload($1, payload, $2)) from payloads";

const WARM_UP: &str = "select count(actionflow.map_payload($1, payload, $2))
    from (select payload from payloads limit 1000) as first_payloads";

/// What the sender's request has beside its body.
const HEADERS: &str = r#"{
    "host": "shop.example.com", "accept": "*/*", "content-type": "application/json",
    "user-agent": "Payments/1.0", "x-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"
}"#;

/// Makes of a payment the same as the mapping of fields does.
const SOURCE: &str = "function map(payload, request) {
    const payment = payload.data.object;
    return {
        targetUserIds: [payment.metadata.customer_id],
        flowInvocationId: payload.id,
        variables: {
            amount: payment.amount,
            currency: payment.currency,
            email: payment.receipt_email,
            source: 'payments',
        },
        metadata: {type: payload.type},
    };
}";

/// One way to make a trigger payload.
struct Contestant {
    name: &'static str,
    /// `None`: no function of actionflow is called.
    mapping: Option<Value>,
    sql: &'static str,
}

fn contestants() -> [Contestant; 4] {
    let mapping = |name, mapping| Contestant {
        name,
        mapping: Some(mapping),
        sql: MAP,
    };
    let plain = |name, sql| Contestant {
        name,
        mapping: None,
        sql,
    };
    [
        mapping("map_payload, fields", fields(true)),
        mapping(
            "map_payload, javascript",
            json!({"kind": "javascript", "source": SOURCE}),
        ),
        plain("operators of jsonb", OPERATORS),
        plain("none: one key is read", READ),
    ]
}

/// # Errors
/// When the server refuses, or a mapping makes something else of the payload than it should.
pub(super) async fn run(bench: &Bench, rows: u32) -> Result<Table> {
    let client = payloads::open(&bench.server, DATABASE, TABLES).await?;
    client
        .execute(FILL, &[&event(), &rows.cast_signed()])
        .await
        .context("make the payloads")?;
    payloads::settle(&client).await?;
    let headers: Value = serde_json::from_str(HEADERS)?;
    let contestants = contestants();
    for contestant in &contestants {
        warm_up(&client, contestant, &headers).await?;
    }
    let mut samples: Vec<Vec<f64>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        for (contestant, samples) in contestants.iter().zip(&mut samples) {
            let parameters: Vec<&(dyn ToSql + Sync)> = match &contestant.mapping {
                Some(mapping) => vec![mapping, &headers],
                None => Vec::new(),
            };
            let seconds = time_count(&client, contestant.sql, &parameters, rows).await?;
            let per_second = f64::from(rows) / seconds;
            eprintln!(
                "webhooks, round {round}: {}: {per_second:.0}/s",
                contestant.name
            );
            samples.push(per_second);
        }
    }
    let mut table = Table::new(
        format!("{rows} payloads of 1 KiB, mapped by one query on one core"),
        &["mapping", "payloads/s", "us each"],
    );
    for (contestant, samples) in contestants.iter().zip(&samples) {
        let each = samples.iter().map(|per_second| 1e6 / per_second);
        table.push([
            contestant.name.to_owned(),
            range(Summary::of(samples.iter().copied())),
            range(Summary::of(each)),
        ]);
    }
    drop(client);
    bench.server.drop(DATABASE).await?;
    Ok(table)
}

/// Compiles the mapping, and looks at what it makes.
async fn warm_up(client: &Client, contestant: &Contestant, headers: &Value) -> Result<()> {
    let Some(mapping) = &contestant.mapping else {
        return Ok(());
    };
    let row = client
        .query_one(
            "select actionflow.map_payload($1, $2::text::jsonb, $3)",
            &[mapping, &event(), headers],
        )
        .await
        .with_context(|| format!("map by {}", contestant.name))?;
    let mapped: Value = row.try_get(0)?;
    ensure!(
        mapped["targetUserIds"] == json!(["42"]) && mapped["variables"]["amount"] == json!(4990),
        "{} made {mapped}",
        contestant.name
    );
    let warm = client.query_one(WARM_UP, &[mapping, headers]).await;
    warm.with_context(|| format!("run {WARM_UP}"))?;
    Ok(())
}
