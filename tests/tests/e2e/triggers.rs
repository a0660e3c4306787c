//! Events that start flows: the default mapping, and why loops end.

use serde_json::json;

use crate::scene::Scene;

const RUNS: &str = "select flow, user_id from actionflow.runs order by id";

async fn with_flows(names: &[&str]) -> Scene {
    let scene = Scene::new().await;
    scene.endpoint("crm", "{}").await;
    for name in names {
        scene.flow(name, &["crm"]).await;
    }
    scene
}

#[tokio::test]
async fn by_default_the_target_is_the_customer_and_the_variables_are_the_properties() {
    let scene = with_flows(&["thanks"]).await;
    scene.trigger("thanks", "purchase").await;
    let answer = scene
        .sql()
        .json(
            r#"select actionflow.emit_event('purchase', '42', '{"amount": 12.5, "items": ["a"]}')"#,
        )
        .await;
    assert_eq!(
        answer["event_id"],
        json!(
            scene
                .sql()
                .text("select id from actionflow.events where name = 'purchase'")
                .await
        )
    );
    let rest = (
        &answer["action"],
        &answer["custom_claims"],
        &answer["results"],
    );
    assert_eq!(rest, (&json!("allow"), &json!({}), &json!({})));
    let _worker = scene.db.worker().await;
    let data = scene.receiver.wait_for_one("/crm").await.json();
    let properties = json!({"amount": 12.5, "items": ["a"]});
    assert_eq!(data["type"], "purchase");
    assert_eq!(data["data"]["user"]["id"], "42");
    assert_eq!(data["data"]["variables"], properties);
    assert_eq!(data["data"]["event"]["properties"], properties);
}

#[tokio::test]
async fn an_event_keeps_the_time_at_which_it_occurred() {
    let scene = with_flows(&["thanks"]).await;
    scene.trigger("thanks", "purchase").await;
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '1', occurred_at => '2026-01-02 03:04:05Z')")
        .await;
    let kept = "select occurred_at = '2026-01-02 03:04:05Z' from actionflow.events where name = 'purchase'";
    assert_eq!(scene.sql().text(kept).await, "t");
}

#[tokio::test]
async fn an_event_starts_every_flow_that_listens_and_no_other() {
    let scene = with_flows(&["a", "b", "c"]).await;
    scene.trigger("a", "purchase").await;
    let removed = scene.trigger("b", "purchase").await;
    scene.trigger("b", "refund").await;
    let disabled = scene.trigger("c", "purchase").await;
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '1')")
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select flow from actionflow.runs order by flow")
            .await,
        ["a", "b", "c"]
    );
    scene
        .sql()
        .run(&format!("select actionflow.remove_trigger({removed})"))
        .await;
    scene
        .sql()
        .run(&format!(
            "select actionflow.set_trigger_mode({disabled}, 'disabled')"
        ))
        .await;
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '2')")
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select flow from actionflow.runs where user_id = '2'")
            .await,
        ["a"]
    );
    assert_eq!(
        scene
            .sql()
            .rows("select kind, mode from actionflow.triggers where flow = 'c' order by id")
            .await,
        ["api|live", "event|disabled"]
    );
}

#[tokio::test]
async fn identity_events_may_be_emitted_by_hand() {
    let scene = with_flows(&["verify"]).await;
    scene.trigger("verify", "registration").await;
    scene
        .sql()
        .run("insert into customers (id, email, name) values (1, 'ana@example.com', 'Ana')")
        .await;
    scene
        .sql()
        .run(r#"select actionflow.emit_event('registration', '1', '{"verification_url": "https://example.com/v/1"}')"#)
        .await;
    let refusal = scene
        .sql()
        .error("select actionflow.emit_event('registration', '1', '{}')")
        .await;
    assert_eq!(refusal.code, "22023", "{refusal:?}");
    assert!(refusal.message.contains("verification_url"), "{refusal:?}");

    let _worker = scene.db.worker().await;
    let data = scene.receiver.wait_for_one("/crm").await.json()["data"].clone();
    assert_eq!(
        data["user"],
        json!({"id": "1", "email": "ana@example.com"}),
        "id and e-mail only"
    );
    assert_eq!(
        data["event"]["properties"]["verification_url"],
        "https://example.com/v/1"
    );
}

#[tokio::test]
async fn a_flow_answers_the_events_of_other_flows() {
    let scene = with_flows(&["first", "second"]).await;
    scene.trigger("second", "action-flow-started").await;
    scene.start("first", &["1"]).await;
    assert_eq!(scene.sql().rows(RUNS).await, ["first|1", "second|1"]);
    assert_eq!(
        scene
            .sql()
            .rows("select name, flow, user_id from actionflow.events where flow = 'first'")
            .await,
        ["action-flow-started|first|1"]
    );
}

#[tokio::test]
async fn the_end_of_a_run_is_an_event_too() {
    let scene = with_flows(&["first", "done", "failed"]).await;
    let definition = json!({"actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"], "wait": true}]});
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_flow('first', '{definition}')"
        ))
        .await;
    scene
        .sql()
        .run("select actionflow.publish_flow('first')")
        .await;
    scene.trigger("done", "action-flow-completed").await;
    scene.trigger("failed", "action-flow-failed").await;
    scene
        .sql()
        .run(r#"select actionflow.update_endpoint('crm', '{"retry_seconds": []}')"#)
        .await;
    scene
        .receiver
        .script("/crm", [200, 500].map(actionflow_tests::Answer::Status));
    let _worker = scene.worker_amid_deaths().await;
    scene.start("first", &["1"]).await;
    scene.receiver.wait_for("/crm", 2).await;
    scene.settle().await;
    let of_done = "select user_id from actionflow.runs where flow = 'done' order by id";
    assert_eq!(
        scene.sql().rows(of_done).await.first().map(String::as_str),
        Some("1")
    );
}

#[tokio::test]
async fn a_flow_never_starts_itself() {
    let scene = with_flows(&["echo"]).await;
    scene.trigger("echo", "action-flow-started").await;
    scene.trigger("echo", "action-flow-completed").await;
    scene.start("echo", &["1"]).await;
    let _worker = scene.db.worker().await;
    scene.settle().await;
    assert_eq!(scene.sql().rows(RUNS).await, ["echo|1"]);
}

#[tokio::test]
async fn a_chain_of_flows_ends_at_the_depth_limit() {
    let scene = with_flows(&["ping", "pong"]).await;
    scene.trigger("ping", "action-flow-started").await;
    scene.trigger("pong", "action-flow-started").await;
    let length = async |user: &str| {
        scene.start("ping", &[user]).await;
        let runs = scene
            .sql()
            .rows(&format!(
                "select flow from actionflow.runs where user_id = '{user}' order by id"
            ))
            .await;
        let alternating = ["ping", "pong"]
            .into_iter()
            .cycle()
            .take(runs.len())
            .collect::<Vec<_>>();
        assert_eq!(runs, alternating);
        runs.len()
    };
    let by_default = length("1").await;
    scene
        .sql()
        .run("select actionflow.set_setting('max_flow_depth', '3')")
        .await;
    let limited = length("2").await;
    assert_eq!(
        by_default - limited,
        5,
        "the limit is 8 by default, and was set to 3"
    );
    assert!((3..=4).contains(&limited), "{limited} runs at a limit of 3");
}
