//! New segments over many customers, and what a writer notices of them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio_postgres::Client;

use super::rules::{all, any, attribute, within_last};
use super::setup;
use crate::Bench;
use crate::report::{Table, range};
use crate::stats::Summary;

const SEGMENT: &str = "new";

/// About as long as a creation, to see what the machine alone makes a writer wait.
const ALONE: Duration = Duration::from_secs(1);

/// One round of one rule, in milliseconds.
struct Created {
    create: f64,
    /// `select count(*)` as the server's settings have it.
    count: f64,
    /// The same without parallel workers, which no statement that writes may use.
    serial_count: f64,
    member_rows: f64,
    flip_rows: f64,
    members: f64,
    /// The longest update of another session during the creation, and with nothing beside it.
    longest_wait: f64,
    longest_alone: f64,
}

impl Created {
    fn without_rows(&self) -> f64 {
        self.create - self.member_rows - self.flip_rows
    }
}

/// # Errors
/// When the server refuses, or a segment has other members than its predicate.
pub(super) async fn run(bench: &Bench, database: &str) -> Result<Table> {
    let client = bench.server.connect(database).await?;
    client
        .batch_execute(include_str!("../../sql/segments/copies.sql"))
        .await
        .context("make tables like those of memberships")?;
    let customers = setup::count(&client, "customers").await?;
    let rules = rules();
    let mut samples: Vec<Vec<Created>> = rules.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.rounds {
        for ((name, rule), samples) in rules.iter().zip(&mut samples) {
            let created = measure(bench, database, &client, rule)
                .await
                .with_context(|| format!("create the segment {name}"))?;
            eprintln!(
                "create over {customers}, {name}, round {round}: {:.0} ms, count {:.0} ms, longest wait {:.1} ms",
                created.create, created.count, created.longest_wait
            );
            samples.push(created);
        }
    }
    Ok(table(customers, &rules, &samples))
}

fn rules() -> [(&'static str, Value); 3] {
    let countries = ["country1", "country2", "country3", "country4", "country5"];
    let mixed = any([
        all([
            attribute("country", "in", countries.as_slice()),
            attribute("score", "gte", 125_000),
        ]),
        all([
            attribute("tags", "has_any", ["tag1", "tag2"].as_slice()),
            attribute("plan", "not_in", ["plan1", "plan2"].as_slice()),
        ]),
    ]);
    [
        ("one attribute", attribute("plan", "eq", "plan3")),
        ("all and any of four attributes", mixed),
        ("within_last", within_last("last_seen", 10)),
    ]
}

async fn measure(bench: &Bench, database: &str, client: &Client, rule: &Value) -> Result<Created> {
    let row = client
        .query_one("select actionflow.segment_sql($1)", &[rule])
        .await
        .context("ask for the predicate")?;
    let predicate: String = row.try_get(0)?;
    let query = format!("select count(*) from customers where {predicate}");
    let count = setup::time(client, &query).await?;
    client
        .batch_execute("set max_parallel_workers_per_gather = 0")
        .await?;
    let serial_count = setup::time(client, &query).await?;
    client
        .batch_execute("reset max_parallel_workers_per_gather")
        .await?;

    let start = Instant::now();
    let members = setup::create_segment(client, SEGMENT, rule).await?;
    let create = setup::milliseconds_since(start);
    let expected = setup::count(client, &format!("customers where {predicate}")).await?;
    // The clock may have moved some out meanwhile.
    ensure!(
        members > 0 && members.abs_diff(expected) <= expected.unsigned_abs() / 1000,
        "{members} members, but the predicate holds for {expected}"
    );
    let member_rows = setup::time(client, setup::COPY_MEMBERS).await?;
    let flip_rows = setup::time(client, setup::COPY_FLIPS).await?;
    clean_up(client).await?;

    let writer = bench.server.connect(database).await?;
    let done = Cell::new(false);
    let creation = async {
        setup::create_segment(client, SEGMENT, rule).await?;
        done.set(true);
        Ok(())
    };
    let ((), longest_wait) = tokio::try_join!(creation, longest_update(&writer, &done))?;
    clean_up(client).await?;
    done.set(false);
    let pause = async {
        tokio::time::sleep(ALONE).await;
        done.set(true);
        Ok(())
    };
    let ((), longest_alone) = tokio::try_join!(pause, longest_update(&writer, &done))?;
    Ok(Created {
        create,
        count,
        serial_count,
        member_rows,
        flip_rows,
        members: members as f64,
        longest_wait,
        longest_alone,
    })
}

/// Updates one customer after another until `done`, and returns the longest time of one update in milliseconds.
async fn longest_update(client: &Client, done: &Cell<bool>) -> Result<f64> {
    let update = client
        .prepare("update customers set score = score + 100 where id = $1::bigint")
        .await?;
    let mut longest: f64 = 0.0;
    let mut id: i64 = 0;
    while !done.get() {
        id += 1;
        let start = Instant::now();
        client.execute(&update, &[&id]).await?;
        longest = longest.max(setup::milliseconds_since(start));
    }
    Ok(longest)
}

/// Leaves all tables as they were for the next segment, the copies treated like the originals.
async fn clean_up(client: &Client) -> Result<()> {
    client
        .execute("select actionflow.delete_segment($1)", &[&SEGMENT])
        .await
        .context("delete the segment")?;
    // Its rows go in steps, which would otherwise be part of what is measured next.
    loop {
        let more: bool = client
            .query_one("select (actionflow.maintain() ->> 'more')::boolean", &[])
            .await?
            .get(0);
        if !more {
            break;
        }
    }
    for table in [
        "member_copy",
        "flip_copy",
        "actionflow._segment_member",
        "actionflow._segment_flip",
    ] {
        if table.ends_with("_copy") {
            client
                .batch_execute(&format!("delete from {table}"))
                .await?;
        }
        client.batch_execute(&format!("vacuum {table}")).await?;
    }
    client.batch_execute("checkpoint").await?;
    Ok(())
}

fn table(customers: i64, rules: &[(&str, Value)], samples: &[Vec<Created>]) -> Table {
    let mut table = Table::new(
        format!(
            "New segments over {customers} customers (target: 2 times the count, plus the rows)"
        ),
        &[
            "rule",
            "members",
            "create ms",
            "count ms",
            "count without parallel workers ms",
            "member rows ms",
            "flips ms",
            "create less rows, times count",
            "times count without parallel workers",
            "longest wait of a writer ms",
            "the same with no creation ms",
        ],
    );
    for ((name, _), samples) in rules.iter().zip(samples) {
        let column = |value: fn(&Created) -> f64| range(Summary::of(samples.iter().map(value)));
        table.push([
            (*name).to_owned(),
            column(|c| c.members),
            column(|c| c.create),
            column(|c| c.count),
            column(|c| c.serial_count),
            column(|c| c.member_rows),
            column(|c| c.flip_rows),
            column(|c| c.without_rows() / c.count),
            column(|c| c.without_rows() / c.serial_count),
            column(|c| c.longest_wait),
            column(|c| c.longest_alone),
        ]);
    }
    table
}
