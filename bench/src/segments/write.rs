//! Single statements that move nobody into or out of a segment, under more and more segments.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use tokio_postgres::{Client, Statement};

use super::changes::{CHANGES, Change, TABLES, UPDATE_SCORE};
use super::setup;
use crate::Bench;
use crate::report::{Table, range};
use crate::stats::Summary;

/// Members grow with customers times segments, and would be most of the preparation.
const CUSTOMERS: i64 = 2000;

/// Both tables take turns of this length, so short that a disturbance of the machine meets both.
const TURN: Duration = Duration::from_millis(200);

/// Turns of each table in one round.
const TURNS: u32 = 3;

/// As many connections as the change with most clients.
const CONNECTIONS: i64 = 8;

/// One round: microseconds for a statement, over all clients.
#[derive(Debug, Clone, Copy)]
struct Pair {
    bare: f64,
    watched: f64,
}

/// One connection, and the customers that it alone changes.
struct Writer {
    client: Client,
    first: i64,
    written: i64,
}

impl Writer {
    async fn prepare(&self, sql: &str, table: &str) -> Result<Statement> {
        let sql = sql.replace("{table}", table);
        let statement = self.client.prepare(&sql).await;
        statement.with_context(|| format!("prepare {sql}"))
    }

    async fn write(&mut self, statement: &Statement, step: i64, until: Instant) -> Result<u64> {
        let mut count = 0;
        while Instant::now() < until {
            let id = self.first + step * self.written % CUSTOMERS;
            // 99 has no divisor in common with the number of customers, so a customer's next value is another one.
            let value = i32::try_from(1 + self.written % 99)?;
            let changed = self.client.execute(statement, &[&id, &value]).await?;
            ensure!(changed > 0, "there is no customer {id}");
            self.written += 1;
            count += 1;
        }
        Ok(count)
    }
}

/// Measures every change under each number of segments.
///
/// # Errors
/// When the server refuses, or a crossing was emitted although nobody crossed, or none although somebody did.
pub(super) async fn run(bench: &Bench, counts: &[u32]) -> Result<Vec<Table>> {
    let database = "bench_segments_write";
    let client = setup::create_tables(bench, database).await?;
    fill(&client).await?;
    let mut writers = Vec::new();
    for first in 1..=CONNECTIONS {
        writers.push(Writer {
            client: bench.server.connect(database).await?,
            first,
            written: 0,
        });
    }
    let mut sessions = first_table();
    let mut samples: Vec<Vec<(u32, Vec<Pair>)>> = CHANGES.iter().map(|_| Vec::new()).collect();
    let mut segments = 0;
    for &count in counts {
        let start = Instant::now();
        setup::create_mixture(&client, segments..count).await?;
        segments = count;
        setup::settle(&client).await?;
        eprintln!(
            "{count} segments with {} members after {:.1} s",
            setup::count(&client, "actionflow.segment_members").await?,
            start.elapsed().as_secs_f64()
        );
        sessions.push(first_row(bench, database, count).await?);
        for (change, samples) in CHANGES.iter().zip(&mut samples) {
            if change.is_measured(count) {
                let pairs = compare(bench, change, &mut writers[..change.clients]).await;
                let pairs = pairs.with_context(|| format!("{}, {count} segments", change.name))?;
                samples.push((count, pairs));
            }
        }
        // So that the next segments are made over the same customers.
        client
            .batch_execute("delete from customers where city = 'none'; delete from bare_customers where city = 'none'")
            .await?;
    }
    check_crossings(&client, segments).await?;
    drop(writers);
    bench.server.drop(database).await?;
    Ok(vec![table(&samples), sessions])
}

async fn fill(client: &Client) -> Result<()> {
    for table in TABLES {
        let sql = format!("insert into {table} select * from make_customers(1, $1, 1)");
        client.execute(&sql, &[&CUSTOMERS]).await?;
        // All were seen just now, so being seen again moves nobody. The ids of inserted rows follow far behind.
        let sql = format!(
            "update {table} set last_seen = now();
             alter table {table} alter column id restart with 1000000"
        );
        client.batch_execute(&sql).await?;
    }
    setup::watch(client).await
}

async fn compare(bench: &Bench, change: &Change, writers: &mut [Writer]) -> Result<Vec<Pair>> {
    let mut statements = [Vec::new(), Vec::new()];
    for writer in &*writers {
        for (table, statements) in TABLES.iter().zip(&mut statements) {
            statements.push(writer.prepare(change.sql, table).await?);
        }
    }
    // Also compiles the rules in each session.
    take_turns(writers, &statements, 1).await?;
    let mut pairs = Vec::new();
    for round in 1..=bench.rounds {
        let pair = take_turns(writers, &statements, TURNS).await?;
        eprintln!(
            "{}, round {round}: {:.1} us, bare {:.1} us",
            change.name, pair.watched, pair.bare
        );
        pairs.push(pair);
    }
    Ok(pairs)
}

async fn take_turns(
    writers: &mut [Writer],
    statements: &[Vec<Statement>; 2],
    turns: u32,
) -> Result<Pair> {
    let step = i64::try_from(writers.len())?;
    let mut seconds = [0.0; 2];
    let mut written = [0; 2];
    for _ in 0..turns {
        for (table, statements) in statements.iter().enumerate() {
            let start = Instant::now();
            let writes = writers
                .iter_mut()
                .zip(statements)
                .map(|(writer, statement)| writer.write(statement, step, start + TURN));
            written[table] += try_join_all(writes).await?.iter().sum::<u64>();
            seconds[table] += start.elapsed().as_secs_f64();
        }
    }
    let each = |table: usize| seconds[table] * 1e6 / written[table] as f64;
    Ok(Pair {
        bare: each(0),
        watched: each(1),
    })
}

/// A fast trigger that looks at nothing would look good above.
async fn check_crossings(client: &Client, segments: u32) -> Result<()> {
    let crossings = setup::crossings(client).await?;
    ensure!(crossings == 0, "{crossings} crossings, but nobody crossed");
    if segments >= 10 {
        client
            .batch_execute("update customers set score = 250001 - score where id <= 100")
            .await?;
        let crossings = setup::crossings(client).await?;
        ensure!(crossings > 0, "customers crossed, but no event says so");
    }
    Ok(())
}

fn table(samples: &[Vec<(u32, Vec<Pair>)>]) -> Table {
    let mut table = Table::new(
        "Statements that cross nothing, under live segments",
        &[
            "statement",
            "segments",
            "bare us each",
            "watched us each",
            "times bare",
            "target",
        ],
    );
    for (change, samples) in CHANGES.iter().zip(samples) {
        for (segments, pairs) in samples {
            let column = |value: fn(&Pair) -> f64| range(Summary::of(pairs.iter().map(value)));
            let target = change.target(*segments);
            table.push([
                change.name.to_owned(),
                segments.to_string(),
                column(|p| p.bare),
                column(|p| p.watched),
                column(|p| p.watched / p.bare),
                target.map_or_else(|| "-".to_owned(), |ratio| ratio.to_string()),
            ]);
        }
    }
    table
}

fn first_table() -> Table {
    Table::new(
        "First update of a new connection, which compiles the rules",
        &["segments", "bare ms", "watched ms"],
    )
}

async fn first_row(bench: &Bench, database: &str, segments: u32) -> Result<[String; 3]> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..bench.rounds {
        for (table, samples) in TABLES.iter().zip(&mut samples) {
            let client = bench.server.connect(database).await?;
            let sql = UPDATE_SCORE
                .replace("{table}", table)
                .replace("$1", "1")
                .replace("$2", "50");
            samples.push(setup::time(&client, &sql).await?);
        }
    }
    let [bare, watched] = samples.map(|samples| range(Summary::of(samples)));
    Ok([segments.to_string(), bare, watched])
}
