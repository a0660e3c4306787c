//! An answer may serve again, for as long as its action says.

use actionflow_tests::{Answer, PATIENCE, Worker, eventually};
use serde_json::{Value, json};

use crate::asking::{asking, data, emit, enrich, failure, flow_on, login, wait_for_attempts};
use crate::scene::Scene;

/// A flow whose answers may serve for an hour, for the same customer and property `ip`.
async fn remembering() -> (Scene, Worker) {
    let (scene, worker) = asking(json!([])).await;
    scene
        .endpoint("risk", r#"{"breaker_failures": 1000}"#)
        .await;
    let action = enrich(
        "risk",
        json!({"cache_seconds": 3600, "cache_by": ["ip"], "on_failure": "challenge"}),
    );
    flow_on(&scene, "ask", "login", json!([action])).await;
    (scene, worker)
}

async fn login_from(scene: &Scene, user: &str, properties: Value) -> Value {
    emit(scene.sql(), "login", user, properties).await["results"]["risk"].clone()
}

#[tokio::test]
async fn an_answer_serves_again_for_the_same_customer_and_properties() {
    let (scene, _worker) = remembering().await;
    let blocked = json!({"action": "block", "data": {"n": 1}, "custom_claims": {"c": 1}, "user_message": "no"});
    scene.receiver.script("/risk", [Answer::json(&blocked)]);
    scene.receiver.always("/risk", data(json!({"n": 2})));
    let first = login_from(&scene, "42", json!({"ip": "a", "other": 1})).await;
    assert_eq!(first, blocked);
    assert_eq!(
        login_from(&scene, "42", json!({"ip": "a", "other": 2})).await,
        blocked
    );
    assert_eq!(scene.receiver.requests("/risk").len(), 1);
    for (user, properties, requests) in [
        ("43", json!({"ip": "a"}), 2),
        ("42", json!({"ip": "b"}), 3),
        ("42", json!({"ip": ["a"]}), 4),
        ("42", json!({}), 5),
        ("42", json!({"ip": "a"}), 5),
    ] {
        login_from(&scene, user, properties).await;
        assert_eq!(scene.receiver.requests("/risk").len(), requests);
    }
    let outcomes = "user_id, outcome, is_cached, status";
    wait_for_attempts(
        &scene,
        outcomes,
        &[
            "42|block|f|200",
            "42|block|t|",
            "43|allow|f|200",
            "42|allow|f|200",
            "42|allow|f|200",
            "42|allow|f|200",
            "42|block|t|",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_failure_is_never_remembered() {
    let (scene, _worker) = remembering().await;
    scene.receiver.script(
        "/risk",
        [Answer::Status(500), Answer::json(&json!({"action": "x"}))],
    );
    scene.receiver.always("/risk", data(json!({})));
    let from = async || login_from(&scene, "42", json!({"ip": "a"})).await;
    assert_eq!(from().await, failure("challenge", "status"));
    assert_eq!(from().await, failure("challenge", "answer"));
    assert_eq!(from().await["action"], "allow");
    assert_eq!(from().await["action"], "allow");
    assert_eq!(scene.receiver.requests("/risk").len(), 3);
}

#[tokio::test]
async fn a_changed_endpoint_or_flow_and_a_test_ask_anew() {
    let (scene, _worker) = remembering().await;
    scene.receiver.always("/risk", data(json!({})));
    let mut expected = 0;
    for change in [
        "select",
        r#"select actionflow.update_endpoint('risk', '{"headers": {"x": "1"}}')"#,
        "select actionflow.rotate_endpoint_secret('risk')",
        "select * from actionflow.publish_flow('ask')",
    ] {
        if change.contains("publish_flow") {
            let draft =
                json!({"variables": {}, "actions": [enrich("risk", json!({"cache_seconds": 60}))]});
            let update = format!("select actionflow.update_flow('ask', '{draft}')");
            scene.sql().run(&update).await;
        }
        scene.sql().run(change).await;
        expected += 1;
        for _ in 0..2 {
            login_from(&scene, "42", json!({"ip": "a"})).await;
        }
        assert_eq!(scene.receiver.requests("/risk").len(), expected, "{change}");
    }
    scene
        .sql()
        .run("select actionflow.add_test_user('42')")
        .await;
    for _ in 0..2 {
        scene
            .sql()
            .run("select actionflow.emit_event('login', '42', mode => 'test')")
            .await;
        expected += 1;
    }
    assert_eq!(scene.receiver.requests("/risk").len(), expected);
}

#[tokio::test]
async fn an_answer_is_forgotten_when_its_time_is_over() {
    let (scene, _worker) = asking(json!([])).await;
    scene.endpoint("risk", "{}").await;
    flow_on(
        &scene,
        "ask",
        "login",
        json!([enrich("risk", json!({"cache_seconds": 1}))]),
    )
    .await;
    scene.receiver.always("/risk", data(json!({})));
    eventually(PATIENCE, async || {
        login(&scene).await;
        match scene.receiver.requests("/risk").len() {
            1 => Err("still remembered".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}
