//! Whoever writes customers: no setting of theirs changes a message, and no flow makes their statement fail.

use actionflow_tests::Cluster;
use serde_json::json;

use crate::customers::{TABLE, events_of, recording};
use crate::scene::{Scene, publish, wait_for_rows};

#[tokio::test]
async fn a_flow_that_cannot_start_fails_its_run_and_not_the_write() {
    let scene = Scene::telling_crm_of("user-created").await;
    let definition = json!({
        "variables": {"coupon": {"required": true}},
        "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]
    });
    publish(scene.sql(), "offer", &definition.to_string()).await;
    scene.trigger("offer", "user-created").await;
    scene
        .sql()
        .run("insert into customers (id) values (1), (2)")
        .await;
    let runs = "select flow, user_id, state from actionflow.runs order by flow, user_id";
    assert_eq!(
        scene.sql().rows(runs).await,
        [
            "offer|1|failed",
            "offer|2|failed",
            "welcome|1|completed",
            "welcome|2|completed"
        ]
    );
    let explained =
        "select string_agg(e, ' ') from actionflow.runs as r, actionflow.explain_run(r.id) as e
                     where r.flow = 'offer' and r.user_id = '1'";
    assert!(scene.sql().text(explained).await.contains("\"coupon\""));
}

#[tokio::test]
async fn rows_that_cannot_be_customers_do_not_hold_up_the_others() {
    let db = recording(
        "create table customers (id text, email text); select actionflow.watch_customers('customers')",
    )
    .await;
    let events = events_of(
        &db.sql,
        "insert into customers values (null, 'x'), ('a', null)",
    )
    .await;
    assert!(events.contains(&"user-created|a".to_owned()), "{events:?}");
    db.sql
        .run("update customers set email = 'y'; delete from customers")
        .await;
}

#[tokio::test]
async fn the_writers_settings_change_nothing() {
    let scene = Scene::telling_crm_of("user-created").await;
    scene
        .sql()
        .run(
            "create schema mine;
             create function mine.now() returns timestamptz language sql return '1999-01-01'::timestamptz;
             create function mine.format(text, variadic text[]) returns text language sql return 'hijacked';
             set search_path = mine, pg_catalog;
             set datestyle = 'SQL, DMY';
             set timezone = 'Asia/Kathmandu';
             set intervalstyle = 'sql_standard';
             set extra_float_digits = -15;
             set standard_conforming_strings = off;
             set default_transaction_isolation = 'serializable'",
        )
        .await;
    scene
        .sql()
        .run("insert into public.customers (id, name) values (1, 'Ana')")
        .await;
    scene.sql().run("reset all").await;
    let _worker = scene.db.worker().await;
    let body = scene.receiver.wait_for_one("/crm").await.json();
    assert_eq!(body["data"]["user"], json!({"id": "1", "name": "Ana"}));
    let timestamp = body["timestamp"].as_str().expect("a text");
    let is_recent =
        format!("select '{timestamp}'::timestamptz between now() - interval '1 minute' and now()");
    assert_eq!(scene.sql().text(&is_recent).await, "t", "{timestamp}");
}

#[tokio::test]
async fn every_isolation_level_works() {
    let db = recording(TABLE).await;
    for (number, level) in ["read committed", "repeatable read", "serializable"]
        .iter()
        .enumerate()
    {
        db.sql.run(&format!("begin isolation level {level}; insert into customers (id) values ({number}); commit")).await;
    }
    assert_eq!(
        db.sql
            .number("select count(*) from actionflow.events")
            .await,
        3
    );
}

#[tokio::test]
async fn a_prepared_transaction_delivers_after_its_commit() {
    let cluster = Cluster::start(&[
        "shared_preload_libraries = 'actionflow'",
        "max_prepared_transactions = 4",
    ]);
    let (db, receiver) = crate::wakeup::prepare(&cluster).await;
    let _worker = db.worker().await;
    db.sql
        .run("begin; insert into customers (id) values (1); prepare transaction 'tx'")
        .await;
    assert_eq!(
        db.sql
            .number("select count(*) from actionflow.deliveries")
            .await,
        0
    );
    db.sql.run("commit prepared 'tx'").await;
    receiver.wait_for_one("/crm").await;
    wait_for_rows(
        &db.sql,
        "select state from actionflow.deliveries",
        &["delivered"],
    )
    .await;
}

#[tokio::test]
async fn many_rows_in_one_statement_are_all_told() {
    let scene = Scene::telling_crm_of("user-created").await;
    let _workers = (scene.db.worker().await, scene.db.worker().await);
    scene
        .sql()
        .run("insert into customers (id) select generate_series(1, 5000)")
        .await;
    let requests = scene.receiver.wait_for("/crm", 5000).await;
    scene.settle().await;
    let users: std::collections::BTreeSet<_> = requests
        .iter()
        .map(actionflow_tests::Request::user_id)
        .collect();
    assert_eq!((users.len(), scene.receiver.all().len()), (5000, 5000));
}
