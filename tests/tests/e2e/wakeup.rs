//! A commit wakes the worker, at most once, and not at all when nobody sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actionflow_tests::{Cluster, Database, Receiver};

use crate::scene::{CUSTOMERS, create_endpoint, notify, publish, wait_for_rows};

/// Rounds of "the worker sleeps, a row is inserted, its request arrives".
const ROUNDS: usize = 20;

/// Everything that a wake-up needs, and nobody to be woken yet.
pub(crate) async fn prepare(cluster: &Cluster) -> (Database<'_>, Receiver) {
    let db = Database::within(cluster).await;
    let receiver = Receiver::new().await;
    db.sql.run(CUSTOMERS).await;
    create_endpoint(&db.sql, "crm", &receiver.url("/crm"), "{}").await;
    publish(&db.sql, "welcome", &notify("tell", &["crm"])).await;
    db.sql
        .run("select actionflow.add_event_trigger('welcome', 'user-created')")
        .await;
    (db, receiver)
}

/// Polling alone would need seconds for each round, so a lost wake-up shows in the whole.
async fn every_commit_is_noticed(cluster: &Cluster, workers: usize) {
    let (db, receiver) = prepare(cluster).await;
    let mut running = Vec::new();
    for _ in 0..workers {
        running.push(db.worker().await);
    }
    let started = Instant::now();
    for round in 1..=ROUNDS {
        db.sql
            .run(&format!("insert into customers (id) values ({round})"))
            .await;
        receiver.wait_for("/crm", round).await;
    }
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(ROUNDS as u64 / 2),
        "{ROUNDS} wake-ups took {took:?}"
    );
}

#[tokio::test]
async fn a_commit_wakes_a_sleeping_worker() {
    every_commit_is_noticed(Cluster::shared(), 1).await;
}

#[tokio::test]
async fn a_commit_wakes_one_of_two_sleeping_workers() {
    every_commit_is_noticed(Cluster::shared(), 2).await;
}

#[tokio::test]
async fn commits_that_race_with_a_worker_going_to_sleep_are_all_noticed() {
    const SESSIONS: usize = 4;
    let cluster = Cluster::own();
    let (db, receiver) = prepare(&cluster).await;
    let _workers = (db.worker().await, db.worker().await);
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Arc::new(db.session().await));
    }
    for round in 0..10 * ROUNDS {
        let started = Instant::now();
        let inserts = sessions
            .iter()
            .cloned()
            .enumerate()
            .map(|(number, session)| {
                let id = round * SESSIONS + number;
                tokio::spawn(async move {
                    session
                        .run(&format!("insert into customers (id) values ({id})"))
                        .await
                })
            });
        for insert in inserts.collect::<Vec<_>>() {
            insert.await.expect("the row is inserted");
        }
        receiver.wait_for("/crm", (round + 1) * SESSIONS).await;
        // A worker that slept through a commit finds it with its poll, 5 s after it fell asleep.
        let took = started.elapsed();
        assert!(took < Duration::from_secs(4), "round {round} took {took:?}");
    }
}

#[tokio::test]
async fn without_preloading_commits_wake_the_worker_too() {
    let cluster = Cluster::start(&[]);
    every_commit_is_noticed(&cluster, 1).await;

    let (db, _receiver) = prepare(&cluster).await;
    let two_statements = "begin;
        insert into customers (id) values (1), (2);
        insert into customers (id) values (3);
        commit;";
    assert_eq!(
        notifications(&db, two_statements).await,
        1,
        "once a transaction"
    );
    assert_eq!(
        notifications(&db, "update customers set name = 'x';").await,
        0,
        "nothing was queued"
    );
    assert_eq!(
        notifications(
            &db,
            "begin; insert into customers (id) values (4); rollback;"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn with_preloading_only_a_sleeping_worker_is_notified() {
    // Its own, because shared memory has room for the counters of a limited number of databases.
    let cluster = Cluster::own();
    let (db, _receiver) = prepare(&cluster).await;
    assert_eq!(
        notifications(&db, "insert into customers (id) values (1);").await,
        0,
        "nobody sleeps"
    );
    let sleep = "select actionflow.prepare_to_sleep();";
    let insert = "begin; insert into customers (id) values (2); insert into customers (id) values (3); commit;";
    assert_eq!(
        notifications(&db, &format!("{sleep} {insert}")).await,
        1,
        "once a transaction"
    );
    assert_eq!(
        notifications(
            &db,
            &format!("{sleep} select actionflow.wake_up(); insert into customers (id) values (4);")
        )
        .await,
        0,
        "awake again"
    );
    assert_eq!(
        notifications(&db, "insert into customers (id) values (5);").await,
        0,
        "a sleeper that went away is forgotten"
    );
}

#[tokio::test]
async fn a_worker_may_not_sleep_while_a_transaction_commits() {
    let (db, _receiver) = prepare(Cluster::shared()).await;
    let open = db.session().await;
    open.run("begin; insert into customers (id) values (1)")
        .await;
    // A transaction that has not begun to commit will notify; so the worker may sleep.
    assert_eq!(
        db.sql.text("select actionflow.prepare_to_sleep()").await,
        "t"
    );
    db.sql.run("listen actionflow_delivery").await;
    open.run("commit").await;
    db.sql.run("select actionflow.wake_up()").await;
    assert_eq!(
        db.sql
            .text("select cardinality(ids) from actionflow.claim_deliveries(10)")
            .await,
        "1"
    );
}

/// How many notifications of the deliveries' channel the statements cause, as psql reports them.
async fn notifications(db: &Database<'_>, statements: &str) -> usize {
    let printed = db.psql(&format!(
        "listen actionflow_delivery;\n{statements}\nselect 'done';\n"
    ));
    assert!(printed.contains("done"), "{printed}");
    // Its session may still be ending, and counts as a sleeper until it has.
    let sessions = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'psql'";
    wait_for_rows(&db.sql, sessions, &["0"]).await;
    printed
        .lines()
        .filter(|line| line.contains("actionflow_delivery"))
        .count()
}
