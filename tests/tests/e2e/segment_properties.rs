//! Incremental membership against a full recompute, over random tables, rules and histories.
//!
//! After each step of a history three answers must agree for every segment: the memberships that writes, events and the clock
//! have brought about (evaluated in Rust), the product's own SQL predicate, and a predicate that this test has written in
//! plain SQL. The events of the step must be exactly the difference that it made.
//!
//! `ACTIONFLOW_SEGMENT_SEEDS` is the number of random cases, or a range such as `1000..2000`; `ACTIONFLOW_SEGMENT_WITHOUT`
//! lists kinds of columns and other features to leave out, which changes what every seed means.

mod columns;
mod conditions;
mod draw;
mod history;
mod kinds;
mod rules;
mod run;
mod schema;
mod statements;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actionflow_tests::{Cluster, Database};
use history::Case;
use tokio::task::JoinSet;

/// Seeds that once failed, each with what it found.
const FAILING: &[u64] = &[];

const SEEDS: Range<u64> = 1..21;
const AT_ONCE: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_histories_agree_with_a_recompute() {
    let without = Arc::new(left_out().await);
    let seeds: Arc<Vec<u64>> = Arc::new(FAILING.iter().copied().chain(seeds()).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (without, seeds, next) = (Arc::clone(&without), Arc::clone(&seeds), Arc::clone(&next));
        tasks.spawn(async move {
            let mut failures = Vec::new();
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let case = Case::draw(*seed, &without);
                failures.extend(run::run(*seed, &case).await.err());
            }
            failures
        });
    }
    let failures = tasks.join_all().await.concat();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n\n{}",
        failures.len(),
        seeds.len(),
        failures.join("\n\n")
    );
}

fn seeds() -> Range<u64> {
    let Ok(given) = std::env::var("ACTIONFLOW_SEGMENT_SEEDS") else {
        return SEEDS;
    };
    let number = |text: &str| {
        text.parse::<u64>()
            .expect("ACTIONFLOW_SEGMENT_SEEDS is a number or a range of numbers")
    };
    match given.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 1..1 + number(&given),
    }
}

/// What the environment leaves out, and collations that the server does not have.
#[expect(clippy::print_stdout, reason = "what is not tested is told")]
async fn left_out() -> Vec<String> {
    let given = std::env::var("ACTIONFLOW_SEGMENT_WITHOUT").unwrap_or_default();
    let mut left_out: Vec<String> = given.split(',').map(str::to_owned).collect();
    let db = Database::within(Cluster::shared()).await;
    db.sql.run("create role actionflow_writer").await;
    let collations = [
        (schema::NOCASE, &["nocase", "nocases"][..]),
        (
            "create table public.probe (text text collate \"C.utf8\")",
            &["text_utf8"],
        ),
    ];
    for (probe, kinds) in collations {
        if let Err(error) = db.sql.try_rows(probe).await {
            println!("without columns of {kinds:?}: {}", error.message);
            left_out.extend(kinds.iter().map(|&kind| kind.to_owned()));
        }
    }
    left_out
}
