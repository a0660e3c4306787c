//! Test and live: a test uses the draft, reaches test users only, and is marked everywhere.

use serde_json::json;

use crate::scene::{Scene, create_endpoint, notify, publish};

/// A flow whose draft differs from what is published; customer 1 is a test user.
async fn with_draft() -> Scene {
    let scene = Scene::new().await;
    scene.endpoint("crm", "{}").await;
    publish(scene.sql(), "welcome", &notify("published", &["crm"])).await;
    let draft = notify("draft", &["crm"]);
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_flow('welcome', '{draft}')"
        ))
        .await;
    scene
        .sql()
        .run("select actionflow.add_test_user('1', 'a colleague')")
        .await;
    scene
}

const STARTED: &str =
    "select d.mode, d.action, d.user_id from actionflow.deliveries as d order by d.id";

async fn start(scene: &Scene, users: &[&str], mode: &str) -> Vec<String> {
    let payload = json!({"targetUserIds": users});
    scene
        .sql()
        .rows(&format!(
            "select user_id, status, coalesce(reason, '') <> '' from actionflow.start_flow('welcome', '{payload}', '{mode}')"
        ))
        .await
}

#[tokio::test]
async fn a_test_uses_the_draft_and_a_live_start_the_published_version() {
    let scene = with_draft().await;
    assert_eq!(start(&scene, &["1"], "test").await, ["1|started|f"]);
    assert_eq!(start(&scene, &["1"], "live").await, ["1|started|f"]);
    assert_eq!(
        scene.sql().rows(STARTED).await,
        ["test|draft|1", "live|published|1"]
    );
}

#[tokio::test]
async fn a_test_ignores_everybody_who_is_not_a_test_user() {
    let scene = with_draft().await;
    assert_eq!(
        start(&scene, &["2", "1"], "test").await,
        ["2|ignored|t", "1|started|f"]
    );
    scene
        .sql()
        .run("select actionflow.remove_test_user('1')")
        .await;
    assert_eq!(start(&scene, &["1"], "test").await, ["1|ignored|t"]);
    assert_eq!(scene.sql().rows(STARTED).await, ["test|draft|1"]);
}

#[tokio::test]
async fn the_mode_stands_on_run_event_delivery_and_payload() {
    let scene = with_draft().await;
    scene
        .sql()
        .run("select actionflow.set_setting('record_all_events', 'true')")
        .await;
    start(&scene, &["1"], "test").await;
    start(&scene, &["1"], "live").await;
    for view in ["runs", "deliveries"] {
        let modes = scene
            .sql()
            .rows(&format!("select mode from actionflow.{view} order by id"))
            .await;
        assert_eq!(modes, ["test", "live"], "{view}");
    }
    let modes = scene
        .sql()
        .rows("select mode from actionflow.events where name = 'action-flow-started' order by id")
        .await;
    assert_eq!(modes, ["test", "live"]);
    let _worker = scene.db.worker().await;
    for request in scene.receiver.wait_for("/crm", 2).await {
        let data = request.json()["data"].clone();
        let expected = if data["action"] == "draft" {
            "test"
        } else {
            "live"
        };
        assert_eq!(data["mode"], expected);
    }
}

#[tokio::test]
async fn a_trigger_in_test_mode_starts_the_draft_for_test_users_only() {
    let scene = with_draft().await;
    let trigger = scene.trigger("welcome", "user-created").await;
    scene
        .sql()
        .run(&format!(
            "select actionflow.set_trigger_mode({trigger}, 'test')"
        ))
        .await;
    scene
        .sql()
        .run("insert into customers (id) values (1), (2)")
        .await;
    assert_eq!(scene.sql().rows(STARTED).await, ["test|draft|1"]);
}

#[tokio::test]
async fn a_test_event_starts_tests_only() {
    let scene = with_draft().await;
    scene.trigger("welcome", "purchase").await;
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '2', mode => 'test')")
        .await;
    assert!(
        scene.sql().rows(STARTED).await.is_empty(),
        "a test reached a customer who is not a test user"
    );
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '1', mode => 'test')")
        .await;
    assert_eq!(scene.sql().rows(STARTED).await, ["test|draft|1"]);
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '2')")
        .await;
    assert_eq!(
        scene.sql().rows(STARTED).await,
        ["test|draft|1", "live|published|2"]
    );
}

#[tokio::test]
async fn a_draft_never_runs_live() {
    let scene = Scene::new().await;
    scene.endpoint("crm", "{}").await;
    let draft = notify("draft", &["crm"]);
    scene
        .sql()
        .run(&format!(
            "select actionflow.create_flow('welcome', '{draft}')"
        ))
        .await;
    let live = scene
        .sql()
        .try_rows(
            r#"select status from actionflow.start_flow('welcome', '{"targetUserIds": "1"}')"#,
        )
        .await;
    assert_ne!(live.ok(), Some(vec!["started".to_owned()]));
    assert_eq!(scene.count("runs").await, 0);
}

#[tokio::test]
async fn tests_go_to_the_test_url_where_there_is_one() {
    let scene = with_draft().await;
    let options = json!({"test_url": scene.receiver.url("/sandbox")}).to_string();
    create_endpoint(scene.sql(), "shop", &scene.receiver.url("/shop"), &options).await;
    let definition = notify("tell", &["crm", "shop"]);
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_flow('welcome', '{definition}')"
        ))
        .await;
    scene
        .sql()
        .run("select actionflow.publish_flow('welcome')")
        .await;
    start(&scene, &["1"], "test").await;
    start(&scene, &["2"], "live").await;
    let _worker = scene.db.worker().await;
    scene.settle().await;
    let reached = |path: &str| {
        scene
            .receiver
            .requests(path)
            .iter()
            .map(actionflow_tests::Request::user_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(reached("/sandbox"), ["1"]);
    assert_eq!(reached("/shop"), ["2"]);
    assert_eq!(
        reached("/crm").len(),
        2,
        "without a test_url both modes use the same one"
    );
}
