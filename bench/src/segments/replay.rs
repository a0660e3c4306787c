//! Real purchases in the order of time, each an event of its own transaction, under segments that count them.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_postgres::{Client, Statement};

use super::rules::all;
use super::setup;
use crate::Bench;
use crate::report::{Table, figure, range};
use crate::stats::Summary;

#[derive(Debug, PartialEq)]
struct Purchase {
    /// `YYYYMMDD`, which the server reads as a date.
    day: String,
    user: String,
    properties: Value,
}

impl Purchase {
    fn month(&self) -> &str {
        self.day.get(..6).unwrap_or(&self.day)
    }
}

/// A database that lives through the history.
struct World {
    client: Client,
    emit: Statement,
    has_segments: bool,
    /// Milliseconds of each day's tick.
    ticks: Vec<f64>,
}

/// One month: events a second, ticks included.
struct Month {
    bare: f64,
    segments: f64,
}

/// Replays the file in a database without segments and in one with three, a month at a time in turn.
///
/// # Errors
/// When the file or the server refuses, or the members at the end are not those of a recount.
pub(super) async fn run(bench: &Bench, path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let purchases = parse(&text).with_context(|| format!("parse {}", path.display()))?;
    let names = ["bench_segments_replay_bare", "bench_segments_replay"];
    let mut bare = World::create(bench, names[0], &purchases, &[]).await?;
    let mut segments = World::create(bench, names[1], &purchases, &rules()).await?;
    let mut months = Vec::new();
    for month in purchases.chunk_by(|a, b| a.month() == b.month()) {
        months.push(Month {
            bare: bare.replay(month).await?,
            segments: segments.replay(month).await?,
        });
    }
    let last = purchases.last().context("no purchases")?;
    segments.check(&last.day).await?;
    let table = table(purchases.len(), &months, &mut segments).await?;
    drop((bare, segments));
    for name in names {
        bench.server.drop(name).await?;
    }
    Ok(table)
}

fn rules() -> [(&'static str, Value); 3] {
    let bought = json!({"event": "purchase"});
    let lately = json!({"event": "purchase", "within_last": "180 days"});
    [
        (
            "frequent",
            json!({"event": "purchase", "count": {"gte": 3}, "within_last": "90 days"}),
        ),
        ("lapsed", all([bought, json!({"not": lately})])),
        (
            "spender",
            json!({
                "event": "purchase",
                "within_last": "30 days",
                "sum": {"of": "properties.dollar_value", "gt": 100},
            }),
        ),
    ]
}

/// Reads the lines below the header, each of a customer, a date, a number of CDs and a sum of dollars, and sorts by date.
fn parse(text: &str) -> Result<Vec<Purchase>> {
    let mut purchases = Vec::new();
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [user, day, cds, dollars] = fields[..] else {
            anyhow::bail!("a line has other than four fields: {line}");
        };
        purchases.push(Purchase {
            day: day.to_owned(),
            user: user.to_owned(),
            properties: json!({
                "number_of_cds": cds.parse::<u32>()?,
                "dollar_value": dollars.parse::<f64>()?,
            }),
        });
    }
    purchases.sort_by(|a, b| a.day.cmp(&b.day));
    Ok(purchases)
}

impl World {
    async fn create(
        bench: &Bench,
        database: &str,
        purchases: &[Purchase],
        rules: &[(&str, Value)],
    ) -> Result<Self> {
        bench.server.create(database, None).await?;
        let client = bench.server.connect(database).await?;
        client
            .batch_execute(
                "create extension actionflow;
                 create table customers (id text primary key);
                 select actionflow.watch_customers('customers')",
            )
            .await?;
        let users: Vec<&str> = purchases.iter().map(|p| p.user.as_str()).collect();
        client
            .execute(
                "insert into customers select distinct u.id from unnest($1::text[]) as u (id)",
                &[&users],
            )
            .await?;
        if let Some(first) = purchases.first() {
            set_now(&client, &first.day).await?;
        }
        for (name, rule) in rules {
            setup::create_segment(&client, name, rule).await?;
        }
        setup::settle(&client).await?;
        let emit = client
            .prepare("select actionflow.emit_event('purchase', $1, $2)")
            .await?;
        Ok(Self {
            client,
            emit,
            has_segments: !rules.is_empty(),
            ticks: Vec::new(),
        })
    }

    /// Returns events a second.
    async fn replay(&mut self, purchases: &[Purchase]) -> Result<f64> {
        let start = Instant::now();
        for day in purchases.chunk_by(|a, b| a.day == b.day) {
            set_now(&self.client, &day[0].day).await?;
            if self.has_segments {
                self.tick().await?;
            }
            for purchase in day {
                self.client
                    .execute(&self.emit, &[&purchase.user, &purchase.properties])
                    .await
                    .context("emit a purchase")?;
            }
        }
        Ok(purchases.len() as f64 / start.elapsed().as_secs_f64())
    }

    async fn tick(&mut self) -> Result<()> {
        let milliseconds = setup::time(&self.client, "select actionflow.tick()").await?;
        self.ticks.push(milliseconds);
        Ok(())
    }

    async fn check(&self, day: &str) -> Result<()> {
        let row = self
            .client
            .query_one(
                include_str!("../../sql/segments/differences.sql"),
                &[&moment(day)],
            )
            .await
            .context("count the members afresh")?;
        let differences: i64 = row.try_get(0)?;
        ensure!(
            differences == 0,
            "{differences} memberships are not those of a recount"
        );
        Ok(())
    }
}

fn moment(day: &str) -> String {
    format!("{day} 00:00:00+00")
}

async fn set_now(client: &Client, day: &str) -> Result<()> {
    client
        .batch_execute(&format!("set actionflow.now = '{}'", moment(day)))
        .await
        .context("move the clock")
}

async fn table(events: usize, months: &[Month], segments: &mut World) -> Result<Table> {
    let crossings = setup::crossings(&segments.client).await?;
    let ticks = Summary::of(segments.ticks.iter().copied());
    let column = |value: fn(&Month) -> f64| range(Summary::of(months.iter().map(value)));
    let mut table = Table::new(
        format!("Replay of {events} purchases, one transaction each, by month"),
        &["what", "figure"],
    );
    for (what, figure) in [
        ("events/s without segments", column(|m| m.bare)),
        ("events/s under 3 segments", column(|m| m.segments)),
        ("of those without", column(|m| m.segments / m.bare)),
        ("one day's tick ms", range(ticks)),
        ("crossings", figure(crossings as f64)),
    ] {
        table.push([what.to_owned(), figure]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purchases_are_sorted_by_day_and_keep_the_ids_text() {
        let text = "customer_id date\r\n 00002 19970112 5 77.00\r\n 00001 19970101 1 11.77\r\n";
        let purchases = parse(text).unwrap();
        let expected = Purchase {
            day: "19970101".to_owned(),
            user: "00001".to_owned(),
            properties: json!({"number_of_cds": 1, "dollar_value": 11.77}),
        };
        assert_eq!(purchases[0], expected);
        assert_eq!(purchases[1].month(), "199701");
    }
}
