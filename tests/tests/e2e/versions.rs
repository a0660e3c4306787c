//! Drafts, published versions that never change, and the end of a flow.

use crate::flows::with_endpoint;
use crate::scene::{notify, wait_until_blocked};

const FLOWS: &str =
    "select name, published_version, has_draft, state from actionflow.flows order by name";

#[tokio::test]
async fn a_live_run_uses_the_published_version_whatever_the_draft_says() {
    let scene = with_endpoint().await;
    let sql = scene.sql();
    let (first, second) = (notify("first", &["crm"]), notify("second", &["crm"]));
    sql.run(&format!(
        "select actionflow.create_flow('welcome', '{first}')"
    ))
    .await;
    assert_eq!(sql.rows(FLOWS).await, ["welcome||t|draft"]);
    let published =
        "select version, existing_members, started from actionflow.publish_flow('welcome')";
    assert_eq!(sql.text(published).await, "1|0|0");
    assert_eq!(sql.rows(FLOWS).await, ["welcome|1|f|published"]);

    sql.run(&format!(
        "select actionflow.update_flow('welcome', '{second}')"
    ))
    .await;
    assert_eq!(sql.rows(FLOWS).await, ["welcome|1|t|published"]);
    scene.start("welcome", &["1"]).await;
    assert_eq!(sql.text(published).await, "2|0|0");
    scene.start("welcome", &["1"]).await;
    assert_eq!(sql.rows("select version, action from actionflow.deliveries as d join actionflow.runs as r on r.id = d.run_id order by d.id").await, ["1|first", "2|second"]);

    for (version, definition) in [("1", &first), ("2", &second), ("null", &second)] {
        let kept = sql
            .json(&format!(
                "select actionflow.flow_definition('welcome', {version})"
            ))
            .await;
        assert_eq!(
            kept,
            serde_json::from_str::<serde_json::Value>(definition).expect("JSON"),
            "version {version}"
        );
    }
}

#[tokio::test]
async fn a_trigger_starts_nothing_before_its_flow_is_published() {
    let scene = with_endpoint().await;
    let definition = notify("tell", &["crm"]);
    scene
        .sql()
        .run(&format!(
            "select actionflow.create_flow('welcome', '{definition}')"
        ))
        .await;
    scene.trigger("welcome", "user-created").await;
    scene
        .sql()
        .run("insert into customers (id) values (1)")
        .await;
    assert_eq!(scene.count("runs").await, 0);
    scene
        .sql()
        .run("select actionflow.publish_flow('welcome'); insert into customers (id) values (2)")
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select user_id from actionflow.runs")
            .await,
        ["2"]
    );
}

#[tokio::test]
async fn an_archived_flow_is_started_by_nothing() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    scene.trigger("welcome", "user-created").await;
    scene
        .sql()
        .run("select actionflow.archive_flow('welcome')")
        .await;
    assert_eq!(scene.sql().rows(FLOWS).await, ["welcome|1|f|archived"]);
    scene
        .sql()
        .run("insert into customers (id) values (1)")
        .await;
    let refusal = scene
        .sql()
        .error("select actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\"}')")
        .await;
    assert_eq!(refusal.code, "55000", "{refusal:?}");
    assert_eq!(scene.count("runs").await, 0);
    scene
        .sql()
        .run("select actionflow.flow_definition('welcome', 1)")
        .await;
}

#[tokio::test]
async fn the_api_trigger_is_always_there() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    let id = scene
        .sql()
        .text("select id from actionflow.triggers where flow = 'welcome' and kind = 'api'")
        .await;
    let refusal = scene
        .sql()
        .error(&format!("select actionflow.remove_trigger({id})"))
        .await;
    assert_eq!(refusal.code, "55000", "{refusal:?}");
}

#[tokio::test]
async fn two_sessions_that_publish_at_once_make_two_versions() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    let (first, second) = (scene.db.session().await, scene.db.session().await);
    let pid = second.number("select pg_backend_pid()").await;
    let publish = "select version from actionflow.publish_flow('welcome')";
    first.run("begin").await;
    assert_eq!(first.text(publish).await, "2");
    let waiting = tokio::spawn(async move { second.text(publish).await });
    wait_until_blocked(scene.sql(), pid).await;
    first.run("commit").await;
    assert_eq!(waiting.await.expect("the second call returns"), "3");
    assert_eq!(scene.sql().rows(FLOWS).await, ["welcome|3|f|published"]);
}

#[tokio::test]
async fn a_running_session_notices_what_another_one_publishes() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    scene.start("welcome", &["1"]).await;
    let other = scene.db.session().await;
    let second = notify("second", &["crm"]);
    other
        .run(&format!(
            "select actionflow.update_flow('welcome', '{second}')"
        ))
        .await;
    other.run("select actionflow.publish_flow('welcome')").await;
    scene.start("welcome", &["2"]).await;
    let actions = "select user_id, action from actionflow.deliveries order by id";
    assert_eq!(scene.sql().rows(actions).await, ["1|tell", "2|second"]);
}
