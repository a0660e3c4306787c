//! Memberships that change without a write, because time passes.

use std::time::{Duration, SystemTime};

use actionflow_tests::{PATIENCE, Worker, eventually};

use crate::scene::{Scene, settle, wait_for_rows};
use crate::segment_concurrency::assert_exact;
use crate::steps::Meanwhile;

/// A scene with a column `seen`, and the flow `welcome` on both crossings of `active`: seen within the last so long.
async fn watching(within: &str) -> Scene {
    let scene = Scene::with_crm("{}").await;
    scene
        .sql()
        .run(&format!(
            "alter table customers add column seen timestamptz;
             select actionflow.create_segment('active', '{{\"attribute\": \"seen\", \"op\": \"within_last\", \"value\": \"{within}\"}}');
             select actionflow.add_segment_trigger('welcome', 'active', 'exit')"
        ))
        .await;
    scene
}

async fn workers(scene: &Scene) -> (Worker, Worker) {
    (scene.db.worker().await, scene.db.worker().await)
}

#[tokio::test]
async fn a_customer_leaves_within_a_second_of_the_moment_without_a_write() {
    let scene = watching("2 seconds").await;
    let _worker = scene.db.worker().await;
    scene
        .sql()
        .run("insert into customers (id, seen) values (1, clock_timestamp())")
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select user_id from actionflow.segment_members")
            .await,
        ["1"]
    );
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.json()["type"], "segment-exited");
    let moment = scene
        .sql()
        .text("select extract(epoch from seen + interval '2 seconds')::float8 from customers")
        .await;
    let moment = SystemTime::UNIX_EPOCH
        + Duration::from_secs_f64(moment.parse().expect("a number of seconds"));
    let late = request
        .at
        .duration_since(moment)
        .expect("it came after its moment");
    // A second for the look, and some for a busy machine's delivery.
    assert!(late < Duration::from_millis(2500), "{late:?} late");
    assert_exact(scene.sql(), "active", "select '' where false", "afterwards").await;
}

#[tokio::test]
async fn an_event_that_grows_old_lets_its_customer_out() {
    let scene = Scene::with_crm("{}").await;
    scene
        .sql()
        .run(
            r#"select actionflow.create_segment('buyers', '{"event": "purchase", "count": {"gte": 2}, "within_last": "2 seconds"}');
               select actionflow.add_segment_trigger('welcome', 'buyers', 'exit');
               insert into customers (id) values (1)"#,
        )
        .await;
    let _worker = scene.db.worker().await;
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '1'); select actionflow.emit_event('purchase', '1')")
        .await;
    scene.receiver.wait_for_one("/crm").await;
    assert_exact(scene.sql(), "buyers", "select '' where false", "afterwards").await;
}

#[tokio::test]
async fn two_workers_tell_of_each_crossing_once() {
    let scene = watching("3 seconds").await;
    let _workers = workers(&scene).await;
    scene
        .sql()
        .run("insert into customers (id, seen) select g, clock_timestamp() from generate_series(1, 5000) as g")
        .await;
    let requests = scene.receiver.wait_for("/crm", 5000).await;
    settle(scene.sql()).await;
    let users: std::collections::BTreeSet<_> = requests
        .iter()
        .map(actionflow_tests::Request::user_id)
        .collect();
    assert_eq!((users.len(), scene.receiver.all().len()), (5000, 5000));
    assert_exact(scene.sql(), "active", "select '' where false", "afterwards").await;
}

#[tokio::test]
async fn a_killed_worker_leaves_no_crossing_half_done() {
    let mut scene = watching("2 seconds").await;
    scene.db.expect_in_log("connection to client lost");
    let worker = scene.db.worker().await;
    scene
        .sql()
        .run("insert into customers (id, seen) select g, clock_timestamp() from generate_series(1, 30000) as g")
        .await;
    eventually(PATIENCE, async || {
        let left = "select count(*) from actionflow.segment_members";
        match scene.sql().number(left).await {
            30000 => Err("nobody has left yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    worker.kill().await;
    let balance = "select count(*) from (
        select user_id from actionflow.events where name like 'segment-%'
        group by user_id having sum(case name when 'segment-entered' then 1 else -1 end) <> 0) as inside";
    eventually(PATIENCE, async || {
        let open = "select count(*) from pg_stat_activity
                    where datname = current_database() and application_name like 'actionflow-worker%'";
        match scene.sql().number(open).await {
            0 => Ok(()),
            count => Err(format!("{count} sessions of the killed worker")),
        }
    })
    .await;
    let members = "select count(*) from actionflow.segment_members";
    assert_eq!(
        scene.sql().number(balance).await,
        scene.sql().number(members).await
    );
    let _worker = scene.db.worker().await;
    wait_for_rows(scene.sql(), members, &["0"]).await;
    settle(scene.sql()).await;
    assert_exact(scene.sql(), "active", "select '' where false", "afterwards").await;
    let runs = "select count(*), count(distinct user_id) from actionflow.runs";
    assert_eq!(scene.sql().text(runs).await, "30000|30000");
}

#[tokio::test]
async fn looking_for_what_is_due_reads_the_index_of_moments_and_nothing_else() {
    let scene = watching("30 days").await;
    scene
        .sql()
        .run(
            "insert into customers (id, seen) select g, clock_timestamp() from generate_series(1, 200000) as g;
             analyze actionflow._segment_flip; analyze customers",
        )
        .await;
    assert_eq!(scene.count("_segment_flip").await, 200_000);
    let plan = scene
        .sql()
        .rows(
            "explain (analyze, costs off, timing off, summary off)
             select f.segment_id, f.user_id from actionflow._segment_flip as f
             where f.check_at <= now() order by f.check_at limit 1000 for update skip locked",
        )
        .await
        .join("\n");
    assert!(
        plan.contains("Index Scan using _segment_flip_due_idx"),
        "{plan}"
    );
    assert!(
        !plan.contains("Sort") && !plan.contains("Seq Scan"),
        "{plan}"
    );
    // The same of what the worker really does: it touches some blocks and reads no row.
    let blocks = scene
        .sql()
        .rows("explain (analyze, buffers, costs off, timing off, summary off) select * from actionflow.tick_batch()")
        .await
        .join("\n");
    let touched: u64 = blocks
        .split("shared hit=")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no blocks in {blocks}"));
    assert!(touched < 2000, "{blocks}");
    scene.sql().run("select pg_stat_force_next_flush()").await;
    let scans = "select seq_scan from pg_stat_all_tables where schemaname = 'actionflow' and relname = '_segment_flip'";
    let before = scene.sql().rows(scans).await;
    let worker = scene.db.worker().await;
    scene
        .sql()
        .run("insert into customers (id, seen) values (0, clock_timestamp() - interval '30 days' + interval '3 seconds')")
        .await;
    scene.receiver.wait_for_one("/crm").await;
    worker.stop().await;
    let after = scene.sql().rows(scans).await;
    assert_eq!(before, after, "the moments were scanned");
}

#[tokio::test]
async fn a_customer_who_is_being_changed_does_not_hold_up_the_clock() {
    let scene = watching("1 hour").await;
    scene
        .sql()
        .run(
            "set actionflow.now = '2024-03-10 00:00Z';
             insert into customers (id, seen) select g, '2024-03-10 00:00Z' from generate_series(1, 3) as g",
        )
        .await;
    let tick =
        |at: &str| format!("select changed from actionflow.tick_batch(100, '2024-03-10 {at}Z')");
    let writer = scene.db.session().await;
    // One comes back while the clock looks, one is only touched, one is left alone.
    writer
        .run(
            "set actionflow.now = '2024-03-10 01:01Z'; begin;
             update customers set seen = '2024-03-10 01:01Z' where id = 1;
             update customers set name = 'x' where id = 2",
        )
        .await;
    assert_eq!(scene.sql().rows(&tick("01:01")).await, ["1"]);
    writer.run("commit").await;
    assert_eq!(scene.sql().rows(&tick("01:02")).await, ["1"]);
    assert_exact(scene.sql(), "active", "select '1'", "1 has come back").await;
    assert_eq!(scene.sql().rows(&tick("01:03")).await, ["0"]);
    assert_eq!(scene.sql().rows(&tick("02:01")).await, ["1"]);
    assert_exact(scene.sql(), "active", "select '' where false", "at last").await;
}

#[tokio::test]
async fn a_writer_who_comes_after_the_clock_has_the_last_word() {
    let scene = watching("1 hour").await;
    scene
        .sql()
        .run("insert into customers (id, seen) values (1, now()), (2, now())")
        .await;
    let clock = scene.db.session().await;
    clock
        .run("begin; select actionflow.tick(now() + interval '61 minutes')")
        .await;
    let writing = Meanwhile::start(
        scene.db.session().await,
        "update customers set seen = now() + interval '10 minutes' where id = 1",
    )
    .await;
    writing.wait_until_blocked(scene.sql()).await;
    clock.run("commit").await;
    writing.finish().await;
    // The clock had gone ahead of the writer's: to it, the writer's moment lies in the future.
    scene
        .sql()
        .run("select actionflow.tick(now() + interval '62 minutes')")
        .await;
    assert_exact(scene.sql(), "active", "select '1'", "at 62 minutes").await;
    scene
        .sql()
        .run("select actionflow.tick(now() + interval '71 minutes')")
        .await;
    assert_exact(
        scene.sql(),
        "active",
        "select '' where false",
        "at 71 minutes",
    )
    .await;
}
