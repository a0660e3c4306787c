//! Starts for a whole audience, by the worker in the background.

use std::collections::BTreeSet;

use actionflow_tests::{PATIENCE, Request, eventually};

use crate::scene::{Scene, settle, wait_for_rows};

const JOBS: &str = "select state, total, started, duplicates, skipped, failed from actionflow.bulk_jobs order by id";

/// A scene with a flow `welcome`, customers 1 to `count` of whom the even ones are in the segment `pros`.
async fn with_customers(count: usize) -> Scene {
    let scene = Scene::with_crm("{}").await;
    scene
        .sql()
        .run(&format!(
            r#"insert into customers (id, plan) select g, case when g % 2 = 0 then 'pro' else 'free' end
               from generate_series(1, {count}) as g;
               select actionflow.create_segment('pros', '{{"attribute": "plan", "op": "eq", "value": "pro"}}')"#
        ))
        .await;
    scene
}

async fn start(scene: &Scene, audience: &str, options: &str) -> String {
    scene
        .sql()
        .text(&format!(
            "select actionflow.start_flow_for('welcome', '{audience}', '{options}')"
        ))
        .await
}

fn users(requests: &[Request]) -> BTreeSet<String> {
    requests.iter().map(Request::user_id).collect()
}

#[tokio::test]
async fn each_kind_of_audience_is_told_by_the_worker() {
    let scene = with_customers(5).await;
    let _worker = scene.db.worker().await;
    start(&scene, r#"{"segment": "pros"}"#, "{}").await;
    let requests = scene.receiver.wait_for("/crm", 2).await;
    assert_eq!(users(&requests), ["2", "4"].map(str::to_owned).into());
    assert_eq!(requests[0].json()["type"], "action-flow-started");
    start(
        &scene,
        r#"{"rule": {"attribute": "id", "op": "lte", "value": 1}}"#,
        r#"{"variables": {"coupon": "X1"}, "metadata": {"by": "ana"}}"#,
    )
    .await;
    let request = scene.receiver.wait_for("/crm", 3).await.remove(2);
    let data = &request.json()["data"];
    assert_eq!(data["user"]["id"], "1");
    assert_eq!(data["variables"]["coupon"], "X1");
    assert_eq!(data["metadata"]["by"], "ana");
    // Only those with a profile.
    start(&scene, r#"{"users": ["3", "nobody", "3"]}"#, "{}").await;
    assert_eq!(scene.receiver.wait_for("/crm", 4).await[3].user_id(), "3");
    settle(scene.sql()).await;
    wait_for_rows(
        scene.sql(),
        JOBS,
        &[
            "completed|2|2|0|0|0",
            "completed|1|1|0|0|0",
            "completed|2|1|0|1|0",
        ],
    )
    .await;
    assert_eq!(scene.receiver.all().len(), 4);
}

#[tokio::test]
async fn a_large_audience_is_worked_through_with_progress() {
    let scene = with_customers(20_000).await;
    start(&scene, r#"{"segment": "pros"}"#, "{}").await;
    let waiting = "select state, total, started from actionflow.bulk_jobs";
    assert_eq!(scene.sql().text(waiting).await, "pending|10000|0");
    let _worker = scene.db.worker().await;
    let mut seen = BTreeSet::new();
    eventually(PATIENCE, async || {
        let started = scene
            .sql()
            .number("select started from actionflow.bulk_jobs")
            .await;
        seen.insert(started);
        match started {
            10_000 => Ok(()),
            _ => Err(format!("{started} started")),
        }
    })
    .await;
    assert!(
        seen.iter().all(|started| started % 1000 == 0),
        "{seen:?} are not whole chunks"
    );
    assert_eq!(
        scene.sql().rows(JOBS).await,
        ["completed|10000|10000|0|0|0"]
    );
    scene.receiver.wait_for("/crm", 10_000).await;
}

#[tokio::test]
async fn a_killed_worker_neither_repeats_nor_leaves_out_anybody() {
    let mut scene = with_customers(30_000).await;
    scene.db.expect_in_log("connection to client lost");
    start(
        &scene,
        r#"{"rule": {"attribute": "id", "op": "exists"}}"#,
        "{}",
    )
    .await;
    let started = "select started from actionflow.bulk_jobs";
    let mut last = 0;
    for _ in 0..3 {
        let worker = scene.db.worker().await;
        last = eventually(PATIENCE, async || match scene.sql().number(started).await {
            now if now > last => Ok(now),
            now => Err(format!("{now} started")),
        })
        .await;
        worker.kill().await;
    }
    assert!(last < 30_000, "the kills came too late to say anything");
    let _workers = (scene.db.worker().await, scene.db.worker().await);
    wait_for_rows(scene.sql(), JOBS, &["completed|30000|30000|0|0|0"]).await;
    let runs = "select count(*), count(distinct user_id) from actionflow.runs";
    assert_eq!(scene.sql().text(runs).await, "30000|30000");
    eventually(PATIENCE * 3, async || {
        match users(&scene.receiver.all()).len() {
            30_000 => Ok(()),
            count => Err(format!("{count} customers were told")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_at_once() {
    let scene = with_customers(4).await;
    scene
        .sql()
        .run(r#"select actionflow.create_flow('draft', '{"actions": []}')"#)
        .await;
    let over = scene
        .sql()
        .error(r#"select actionflow.start_flow_for('welcome', '{"segment": "pros"}', '{"max_customers": 1}')"#)
        .await;
    assert_eq!(over.code, "54000");
    assert_eq!(
        over.message,
        "the audience is over the limit of 1 customers"
    );
    assert_eq!(over.detail, "It has 2 customers.");
    let draft = scene
        .sql()
        .error(r#"select actionflow.start_flow_for('draft', '{"segment": "pros"}')"#)
        .await;
    assert_eq!(draft.code, "55000", "{draft:#?}");
    assert_eq!(
        scene.sql().rows("select * from actionflow.bulk_jobs").await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_cancelled_job_goes_no_further() {
    let scene = with_customers(60_000).await;
    let job = start(
        &scene,
        r#"{"rule": {"attribute": "id", "op": "exists"}}"#,
        "{}",
    )
    .await;
    let _worker = scene.db.worker().await;
    eventually(PATIENCE, async || {
        match scene
            .sql()
            .number("select started from actionflow.bulk_jobs")
            .await
        {
            0 => Err("nothing has started".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    scene
        .sql()
        .run(&format!("select actionflow.cancel_bulk_job({job})"))
        .await;
    let started = scene
        .sql()
        .number("select started from actionflow.bulk_jobs where state = 'cancelled'")
        .await;
    assert!(
        started < 60_000,
        "it was cancelled too late to say anything"
    );
    settle(scene.sql()).await;
    let runs = "select count(*) from actionflow.runs";
    assert_eq!(scene.sql().number(runs).await, started);
}

#[tokio::test]
async fn members_at_publication_are_told_when_that_is_asked_for() {
    // T34.
    let scene = with_customers(4).await;
    scene
        .sql()
        .run(r#"select actionflow.create_flow('later', '{"actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]}');
                select actionflow.add_segment_trigger('later', 'pros')"#)
        .await;
    let _worker = scene.db.worker().await;
    let publish = "select version, existing_members, started from actionflow.publish_flow('later'";
    assert_eq!(scene.sql().text(&format!("{publish})")).await, "1|2|0");
    assert_eq!(
        scene.sql().text(&format!("{publish}, true)")).await,
        "2|2|2"
    );
    let requests = scene.receiver.wait_for("/crm", 2).await;
    assert_eq!(users(&requests), ["2", "4"].map(str::to_owned).into());
    settle(scene.sql()).await;
    assert_eq!(scene.receiver.all().len(), 2);
}
