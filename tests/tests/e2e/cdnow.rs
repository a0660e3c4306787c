//! Eighteen months of real purchases, replayed as events while the clock follows them.
//!
//! The clock goes from midnight to midnight of UTC. At each, the tick comes first and the purchases of the day after it, at that
//! very moment, so that windows of whole days end just when purchases are made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use actionflow_tests::{Cluster, Database, Session};

/// Name, rule, and the same in plain SQL over all purchases `p` that one customer has made by `n.now`.
const SEGMENTS: [(&str, &str, &str); 3] = [
    (
        "frequent",
        r#"{"event": "purchase", "count": {"gte": 3}, "within_last": "90 days"}"#,
        "count(*) filter (where p.at > n.now - interval '2160 hours') >= 3",
    ),
    (
        "lapsed",
        r#"{"all": [{"event": "purchase"}, {"not": {"event": "purchase", "within_last": "180 days"}}]}"#,
        "max(p.at) <= n.now - interval '4320 hours'",
    ),
    (
        "big spender",
        r#"{"event": "purchase", "sum": {"of": "properties.dollar_value", "gt": 100}, "within_last": "30 days"}"#,
        "sum(p.dollar_value) filter (where p.at > n.now - interval '720 hours') > 100",
    ),
];

/// Whether each of [`SEGMENTS`] holds on a day for someone with these purchases, of that day or earlier.
const RECOMPUTE: [fn(&[Purchase], i64) -> bool; 3] = [
    |purchases, day| within(purchases, day, 90).count() >= 3,
    |purchases, day| !purchases.is_empty() && within(purchases, day, 180).next().is_none(),
    |purchases, day| {
        within(purchases, day, 30)
            .map(|purchase| purchase.cents)
            .sum::<i64>()
            > 10_000
    },
];

#[derive(Debug, Clone, Copy)]
struct Purchase {
    /// Since the first day of the data.
    day: i64,
    cents: i64,
}

/// By segment and customer: the days of crossings in their order, each with whether it is an exit.
type Crossings = BTreeMap<(String, String), Vec<(i64, bool)>>;

fn within(purchases: &[Purchase], day: i64, length: i64) -> impl Iterator<Item = &Purchase> {
    purchases
        .iter()
        .rev()
        .take_while(move |purchase| purchase.day > day - length)
}

#[tokio::test]
async fn a_replay_of_real_purchases_agrees_with_a_recompute() {
    let db = Database::within(Cluster::shared()).await;
    load(&db);
    let sql = &db.sql;
    for (name, rule, _) in SEGMENTS {
        sql.run(&format!(
            "select actionflow.create_segment('{name}', '{rule}')"
        ))
        .await;
    }
    let last = sql.number("select max(day) from purchase").await;
    let mut changed_by_clock = 0;
    for day in 0..=last {
        changed_by_clock += replay(sql, day).await;
        let is_month_end = sql
            .text(&format!(
                "select extract(day from date '1997-01-01' + {day} + 1) = 1"
            ))
            .await;
        if is_month_end == "t" {
            agree(sql, day).await;
        }
    }
    let (expected, expected_by_clock) = recompute(sql, last).await;
    let found = crossings(sql).await;
    for (who, crossings) in &expected {
        assert_eq!(found.get(who), Some(crossings), "{who:?}");
    }
    assert_eq!(found.len(), expected.len());
    assert_eq!(changed_by_clock, expected_by_clock);
}

/// The purchases as a plain table, and a customer for everybody in it.
fn load(db: &Database<'_>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/CDNOW_master.txt");
    let text = std::fs::read_to_string(file).expect("the purchases can be read");
    let rows: Vec<String> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [customer, date, _, dollars] = fields[..] else {
                return None;
            };
            Some(format!("{customer}\t{date}\t{dollars}"))
        })
        .collect();
    assert_eq!(rows.len(), 69_659);
    db.psql(&format!(
        "create table purchase (
             customer_id int, date date, dollar_value numeric,
             day int generated always as (date - date '1997-01-01') stored,
             at timestamptz generated always as (date::timestamp at time zone 'UTC') stored
         );
         copy purchase (customer_id, date, dollar_value) from stdin;\n{}\n\\.
         create index on purchase (day);
         create table customers (id int primary key);
         select actionflow.watch_customers('customers');
         insert into customers select distinct customer_id from purchase;
         analyze;",
        rows.join("\n")
    ));
}

/// One day: its tick, then its purchases. Returns how many memberships the tick changed.
async fn replay(sql: &Session, day: i64) -> i64 {
    let rows = sql
        .rows(&format!(
            "select set_config('actionflow.now', (date '1997-01-01' + {day})::text || ' 00:00:00+00', false) is null;
             select actionflow.tick();
             select count(actionflow.emit_event('purchase', p.customer_id::text, jsonb_build_object('dollar_value', p.dollar_value)))
             from purchase as p where p.day = {day}"
        ))
        .await;
    rows[1].parse().expect("tick returns a number")
}

/// Members now are those that plain SQL finds.
async fn agree(sql: &Session, day: i64) {
    for (name, _, condition) in SEGMENTS {
        let differing = sql
            .rows(&format!(
                "with expected as (
                     select p.customer_id::text as user_id
                     from purchase as p, (select timestamptz '1997-01-01 00:00:00+00' + {day} * interval '24 hours') as n (now)
                     where p.at <= n.now
                     group by p.customer_id, n.now
                     having {condition}
                 ),
                 found as (select m.user_id from actionflow.segment_members as m where m.segment = '{name}')
                 (table expected except table found) union all (table found except table expected)"
            ))
            .await;
        assert!(
            differing.is_empty(),
            "\"{name}\" differs after {day} days in {differing:?}"
        );
    }
}

/// The crossings that must have been, found day by day in memory, and how many of them are the clock's.
async fn recompute(sql: &Session, last: i64) -> (Crossings, i64) {
    let mut by_customer: BTreeMap<String, Vec<Purchase>> = BTreeMap::new();
    for row in sql
        .rows("select p.customer_id, p.day, (p.dollar_value * 100)::bigint from purchase as p order by p.day")
        .await
    {
        let fields: Vec<&str> = row.split('|').collect();
        let number = |place: usize| fields[place].parse().expect("a field is a number");
        by_customer.entry(fields[0].to_owned()).or_default().push(Purchase {
            day: number(1),
            cents: number(2),
        });
    }
    let (mut crossings, mut by_clock) = (Crossings::new(), 0);
    for (user_id, purchases) in by_customer {
        for ((name, ..), holds) in SEGMENTS.iter().zip(RECOMPUTE) {
            let mut is_member = false;
            let mut found = Vec::new();
            // Nothing can change on any other day.
            let days: BTreeSet<i64> = purchases
                .iter()
                .flat_map(|purchase| [0, 30, 90, 180].map(|later| purchase.day + later))
                .collect();
            for day in days.into_iter().filter(|day| *day <= last) {
                let before = purchases.partition_point(|purchase| purchase.day < day);
                let after =
                    before + purchases[before..].partition_point(|purchase| purchase.day == day);
                for (known, is_clock) in [(before, true), (after, false)] {
                    if holds(&purchases[..known], day) != is_member {
                        found.push((day, is_member));
                        is_member = !is_member;
                        by_clock += i64::from(is_clock);
                    }
                }
            }
            if !found.is_empty() {
                crossings.insert(((*name).to_owned(), user_id.clone()), found);
            }
        }
    }
    (crossings, by_clock)
}

/// The crossings that there have been.
async fn crossings(sql: &Session) -> Crossings {
    let mut crossings = Crossings::new();
    let events = "select e.properties ->> 'segment', e.user_id, (e.occurred_at at time zone 'UTC')::date - date '1997-01-01',
             e.name = 'segment-exited'
         from actionflow.events as e
         where e.name in ('segment-entered', 'segment-exited')
         order by e.id";
    for row in sql.rows(events).await {
        let fields: Vec<&str> = row.split('|').collect();
        let day = fields[2].parse().expect("a day is a number");
        let who = (fields[0].to_owned(), fields[1].to_owned());
        crossings
            .entry(who)
            .or_default()
            .push((day, fields[3] == "t"));
    }
    crossings
}
