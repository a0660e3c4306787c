//! `verify_signature` beside the same check written with pgcrypto, and beside the speed at which OpenSSL hashes.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_postgres::Client;

use super::payloads::{self, SECRET, event, sign, time_count};
use crate::Bench;
use crate::database::Server;
use crate::report::{Table, figure, range};
use crate::stats::Summary;

const DATABASE: &str = "bench_webhook_signatures";

const TABLES: &str = "create extension actionflow;
    create extension pgcrypto;
    create table signed (headers jsonb not null, body bytea not null)";

const READ: &str = "select count(*) from signed where headers is not null and length(body) > 0";

const VERIFY: &str = "select count(*) from signed
    where actionflow.verify_signature($1, headers, body, to_timestamp($2))";

const PGCRYPTO: &str = include_str!("../../sql/webhooks/pgcrypto.sql");

/// `$1` times the same request; each at another time, or the server would check once.
const VERIFY_ONE: &str = "select count(*) from generate_series(1, $1::int) as i
    where actionflow.verify_signature($2, $3, $4, to_timestamp($5) + i * interval '1 microsecond')";

/// When all requests were signed, and when they are verified; in seconds since 1970.
const SENT_AT: u32 = 1_795_000_000;
const NOW: f64 = 1_795_000_010.0;

/// Bodies whose hashing is nearly all that there is to do.
const LARGE_BODIES: [usize; 2] = [16_384, 1_048_576];

/// What one run over large bodies hashes: about half a second.
const LARGE_RUN_BYTES: usize = 1 << 30;

/// Microseconds for each request of one round.
#[derive(Debug, Clone, Copy)]
struct Checked {
    reading: f64,
    actionflow: f64,
    pgcrypto: f64,
}

/// Bytes a second of one round.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    actionflow: f64,
    openssl: f64,
}

/// Measures small requests, then large ones.
///
/// # Errors
/// When the server refuses, a signature is not what it should be, or openssl is missing.
pub(super) async fn run(bench: &Bench, server: &Server, rows: u32) -> Result<Vec<Table>> {
    let client = payloads::open(server, DATABASE, TABLES).await?;
    let sent_at = SENT_AT.to_string();
    client
        .execute(
            include_str!("../../sql/webhooks/signed.sql"),
            &[&event(), &SECRET.as_bytes(), &sent_at, &rows.cast_signed()],
        )
        .await
        .context("sign the requests")?;
    payloads::settle(&client).await?;
    let tables = vec![
        small(bench, &client, rows).await?,
        large(bench, &client).await?,
    ];
    drop(client);
    server.drop(DATABASE).await?;
    Ok(tables)
}

fn config(secret: &str) -> Value {
    json!({
        "algorithm": "sha256",
        "digest": "hex",
        "secret": secret,
        "data": {
            "signature": {"header": "stripe-signature", "parsePrefix": "v1="},
            "timestamp": {"header": "stripe-signature", "parsePrefix": "t="},
        },
        "template": "[timestamp].[payload]",
    })
}

async fn small(bench: &Bench, client: &Client, rows: u32) -> Result<Table> {
    // A check that says yes to everything would be fast.
    time_count(client, VERIFY, &[&config("another"), &NOW], 0).await?;
    time_count(client, PGCRYPTO, &[&&b"another"[..], &NOW], 0).await?;
    let config = config(SECRET);
    let mut samples = Vec::new();
    for round in 1..=bench.rounds {
        let each = |seconds: f64| seconds * 1e6 / f64::from(rows);
        let checked = Checked {
            reading: each(time_count(client, READ, &[], rows).await?),
            actionflow: each(time_count(client, VERIFY, &[&config, &NOW], rows).await?),
            pgcrypto: each(time_count(client, PGCRYPTO, &[&SECRET.as_bytes(), &NOW], rows).await?),
        };
        eprintln!(
            "webhooks, round {round}: verify_signature {:.2} us, pgcrypto {:.2} us, reading {:.2} us",
            checked.actionflow, checked.pgcrypto, checked.reading
        );
        samples.push(checked);
    }
    let mut table = Table::new(
        format!(
            "{rows} requests of 1 KiB, signed as Stripe does, checked by one query on one core of PostgreSQL {}",
            payloads::version(client).await?
        ),
        &["check", "us each", "us each / SQL with pgcrypto"],
    );
    let mut push = |name: &str, value: fn(&Checked) -> f64| {
        table.push([
            name.to_owned(),
            range(Summary::of(samples.iter().map(value))),
            range(Summary::of(samples.iter().map(|s| value(s) / s.pgcrypto))),
        ]);
    };
    push("verify_signature", |s| s.actionflow);
    push("SQL with pgcrypto", |s| s.pgcrypto);
    push("none: the rows are read", |s| s.reading);
    Ok(table)
}

async fn large(bench: &Bench, client: &Client) -> Result<Table> {
    let mut samples: Vec<Vec<Hashed>> = LARGE_BODIES.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        for (&bytes, samples) in LARGE_BODIES.iter().zip(&mut samples) {
            let hashed = Hashed {
                openssl: openssl(bytes).await?,
                actionflow: verify_large(client, bytes).await?,
            };
            eprintln!(
                "webhooks, round {round}: {bytes} bytes: {:.0} MB/s, openssl {:.0} MB/s",
                hashed.actionflow / 1e6,
                hashed.openssl / 1e6
            );
            samples.push(hashed);
        }
    }
    let mut table = Table::new(
        "Large bodies: verify_signature beside `openssl speed -evp sha256`",
        &[
            "body bytes",
            "us each",
            "MB/s",
            "openssl MB/s",
            "MB/s / openssl",
        ],
    );
    for (bytes, samples) in LARGE_BODIES.iter().zip(&samples) {
        let column = |value: &dyn Fn(&Hashed) -> f64| range(Summary::of(samples.iter().map(value)));
        table.push([
            figure(*bytes as f64),
            column(&|s| *bytes as f64 * 1e6 / s.actionflow),
            column(&|s| s.actionflow / 1e6),
            column(&|s| s.openssl / 1e6),
            column(&|s| s.actionflow / s.openssl),
        ]);
    }
    Ok(table)
}

/// Bytes a second of `verify_signature` with a body of this size, which is a parameter: nothing is read from a table.
async fn verify_large(client: &Client, bytes: usize) -> Result<f64> {
    let body: Vec<u8> = event().bytes().cycle().take(bytes).collect();
    let mut signed = format!("{SENT_AT}.").into_bytes();
    signed.extend_from_slice(&body);
    let signature = sign(client, &signed).await?;
    let headers = json!({
        "content-type": "application/json",
        "stripe-signature": format!("t={SENT_AT},v1={signature}"),
    });
    let count = u32::try_from(LARGE_RUN_BYTES / bytes)?;
    let seconds = time_count(
        client,
        VERIFY_ONE,
        &[&count.cast_signed(), &config(SECRET), &headers, &body, &NOW],
        count,
    )
    .await?;
    Ok(bytes as f64 * f64::from(count) / seconds)
}

/// Bytes a second at which OpenSSL hashes blocks of this size.
async fn openssl(bytes: usize) -> Result<f64> {
    let output = Command::new("openssl")
        .args(["speed", "-mr", "-elapsed", "-seconds", "1"])
        .args(["-evp", "sha256", "-bytes"])
        .arg(bytes.to_string())
        .output()
        .await
        .context("run openssl")?;
    parse_openssl(&String::from_utf8_lossy(&output.stdout))
}

fn parse_openssl(output: &str) -> Result<f64> {
    let line = output.lines().find(|line| line.starts_with("+F:"));
    let speed = line.and_then(|line| line.rsplit(':').next());
    let speed = speed.with_context(|| format!("no speed in openssl's output: {output}"))?;
    Ok(speed.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_of_openssl_is_found() {
        let output = "+H:16384\n+F:25:sha256:1811200632.10\n";
        assert_eq!(parse_openssl(output).unwrap(), 1_811_200_632.10);
    }
}
