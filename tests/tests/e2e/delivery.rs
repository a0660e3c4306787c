//! One request: signed, to every endpoint, in the order of the actions, and what its answer means.

use actionflow_tests::{Answer, PATIENCE, eventually};
use serde_json::json;

use crate::scene::{Scene, is_signed_with, publish, verification, wait_for_rows};

pub(crate) async fn with_crm(options: &str) -> (Scene, String) {
    let scene = Scene::new().await;
    let secret = scene.endpoint("crm", options).await;
    scene.flow("welcome", &["crm"]).await;
    (scene, secret)
}

#[tokio::test]
async fn a_request_is_signed_and_a_changed_body_shows() {
    let (scene, secret) = with_crm("{}").await;
    assert!(secret.starts_with("whsec_"), "{}", secret.len());
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    let request = scene.receiver.wait_for_one("/crm").await;
    verification(&request, &request.body, &secret).expect("the signature is right");
    let mut changed = request.body.clone();
    changed[10] ^= 1;
    assert!(
        verification(&request, &changed, &secret).is_err(),
        "a changed body was accepted"
    );
    assert!(
        !is_signed_with(&request, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        "another secret was accepted"
    );
}

#[tokio::test]
async fn a_secret_of_ones_own_signs() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (scene, returned) = with_crm(&json!({"secret": secret}).to_string()).await;
    assert_eq!(returned, secret);
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    assert!(is_signed_with(
        &scene.receiver.wait_for_one("/crm").await,
        secret
    ));
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_new_one_until_its_grace_ends() {
    let (scene, old) = with_crm("{}").await;
    let _worker = scene.db.worker().await;
    let new = scene
        .sql()
        .text("select actionflow.rotate_endpoint_secret('crm')")
        .await;
    scene.start("welcome", &["1"]).await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert!(is_signed_with(&request, &old) && is_signed_with(&request, &new));
    assert_eq!(request.header("webhook-signature").split(' ').count(), 2);

    let newest = scene
        .sql()
        .text("select actionflow.rotate_endpoint_secret('crm', interval '0')")
        .await;
    scene.start("welcome", &["2"]).await;
    let request = scene.receiver.wait_for("/crm", 2).await.remove(1);
    assert!(is_signed_with(&request, &newest));
    assert!(
        !is_signed_with(&request, &new),
        "a secret without grace still signs"
    );
}

#[tokio::test]
async fn own_headers_are_sent() {
    let (scene, _) =
        with_crm(r#"{"headers": {"Authorization": "Bearer token-1", "x-shop": "north"}}"#).await;
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.header("authorization"), "Bearer token-1");
    assert_eq!(request.header("x-shop"), "north");
}

#[tokio::test]
async fn only_200_is_success_unless_2xx_was_chosen() {
    let scene = Scene::new().await;
    scene.endpoint("strict", r#"{"retry_seconds": []}"#).await;
    scene
        .endpoint("lenient", r#"{"retry_seconds": [], "success": "2xx"}"#)
        .await;
    scene.flow("welcome", &["strict", "lenient"]).await;
    for path in ["/strict", "/lenient"] {
        scene
            .receiver
            .script(path, [200, 202, 204, 304].map(Answer::Status));
    }
    let _worker = scene.worker_amid_deaths().await;
    for user in ["1", "2", "3", "4"] {
        scene.start("welcome", &[user]).await;
        scene.settle().await;
    }
    let states = async |endpoint: &str| {
        scene
            .sql()
            .rows(&format!(
                "select last_status, state from actionflow.deliveries where endpoint = '{endpoint}' order by id"
            ))
            .await
    };
    assert_eq!(
        states("strict").await,
        ["200|delivered", "202|dead", "204|dead", "304|dead"]
    );
    assert_eq!(
        states("lenient").await,
        [
            "200|delivered",
            "202|delivered",
            "204|delivered",
            "304|dead"
        ]
    );
}

#[tokio::test]
async fn every_endpoint_of_a_notify_gets_its_own_delivery() {
    let scene = Scene::new().await;
    let crm = scene.endpoint("crm", "{}").await;
    let audit = scene.endpoint("audit", "{}").await;
    scene.flow("welcome", &["crm", "audit"]).await;
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    let (to_crm, to_audit) = (
        scene.receiver.wait_for_one("/crm").await,
        scene.receiver.wait_for_one("/audit").await,
    );
    assert_ne!(to_crm.id(), to_audit.id());
    assert!(is_signed_with(&to_crm, &crm) && is_signed_with(&to_audit, &audit));
    assert!(!is_signed_with(&to_crm, &audit), "endpoints share a secret");
    wait_for_rows(
        scene.sql(),
        "select state from actionflow.runs",
        &["completed"],
    )
    .await;
}

#[tokio::test]
async fn a_waiting_action_holds_the_next_one_until_it_is_delivered() {
    let scene = Scene::new().await;
    for name in ["first", "second"] {
        scene.endpoint(name, r#"{"retry_seconds": [0]}"#).await;
    }
    let definition = json!({"actions": [
        {"name": "one", "type": "notify", "endpoints": ["first"], "wait": true},
        {"name": "two", "type": "notify", "endpoints": ["second"]}
    ]});
    publish(scene.sql(), "steps", &definition.to_string()).await;
    scene
        .receiver
        .script("/first", [Answer::Status(503), Answer::Held(200)]);
    let _worker = scene.db.worker().await;
    scene.start("steps", &["1"]).await;
    scene.receiver.wait_for("/first", 2).await;
    assert_eq!(
        scene
            .sql()
            .rows("select action from actionflow.deliveries")
            .await,
        ["one"]
    );
    assert_eq!(
        scene.sql().rows("select state from actionflow.runs").await,
        ["running"]
    );
    assert!(scene.receiver.requests("/second").is_empty());

    scene.receiver.release(1);
    scene.receiver.wait_for_one("/second").await;
    wait_for_rows(
        scene.sql(),
        "select state from actionflow.runs",
        &["completed"],
    )
    .await;
    let paths: Vec<_> = scene
        .receiver
        .all()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(paths, ["/first", "/first", "/second"]);
}

#[tokio::test]
async fn a_dead_delivery_that_was_waited_for_fails_its_run() {
    let scene = Scene::new().await;
    scene.endpoint("first", r#"{"retry_seconds": []}"#).await;
    scene.endpoint("second", "{}").await;
    let definition = json!({"actions": [
        {"name": "one", "type": "notify", "endpoints": ["first"], "wait": true},
        {"name": "two", "type": "notify", "endpoints": ["second"]}
    ]});
    publish(scene.sql(), "steps", &definition.to_string()).await;
    scene.receiver.always("/first", Answer::Status(500));
    let _worker = scene.worker_amid_deaths().await;
    scene.start("steps", &["1"]).await;
    wait_for_rows(
        scene.sql(),
        "select state from actionflow.runs",
        &["failed"],
    )
    .await;
    assert!(scene.receiver.requests("/second").is_empty());
}

#[tokio::test]
async fn a_disabled_endpoint_keeps_its_deliveries_until_it_is_enabled() {
    let scene = Scene::new().await;
    scene.endpoint("crm", "{}").await;
    scene.endpoint("audit", "{}").await;
    scene.flow("welcome", &["crm", "audit"]).await;
    scene
        .sql()
        .run("select actionflow.disable_endpoint('crm')")
        .await;
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    scene.receiver.wait_for_one("/audit").await;
    let state = "select state from actionflow.deliveries where endpoint = 'crm'";
    assert_eq!(scene.sql().rows(state).await, ["pending"]);
    assert!(scene.receiver.requests("/crm").is_empty());
    scene
        .sql()
        .run("select actionflow.enable_endpoint('crm')")
        .await;
    scene.receiver.wait_for_one("/crm").await;
}

#[tokio::test]
async fn an_updated_url_is_where_waiting_deliveries_go() {
    let (scene, _) = with_crm(r#"{"retry_seconds": [0, 0, 0, 0, 1, 1, 1, 1]}"#).await;
    scene.receiver.always("/crm", Answer::Status(500));
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    scene.receiver.wait_for("/crm", 2).await;
    let options = json!({"url": scene.receiver.url("/new")});
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('crm', '{options}')"
        ))
        .await;
    let arrived = scene.receiver.wait_for_one("/new").await;
    assert_eq!(arrived.id(), scene.receiver.requests("/crm")[0].id());
}

#[tokio::test]
async fn a_large_payload_arrives_whole() {
    let (scene, secret) = with_crm("{}").await;
    let _worker = scene.db.worker().await;
    let text = "ü\\\"\u{1F600} ".repeat(40_000);
    let payload = json!({"targetUserIds": ["1"], "variables": {"text": text}});
    scene
        .sql()
        .run(&format!(
            "select actionflow.start_flow('welcome', $json${payload}$json$)"
        ))
        .await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.json()["data"]["variables"]["text"], text);
    assert!(is_signed_with(&request, &secret));
}

#[tokio::test]
async fn health_shows_what_waits_for_an_endpoint() {
    let (scene, _) = with_crm(r#"{"timeout_ms": 60000}"#).await;
    scene.receiver.always("/crm", Answer::Held(200));
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1", "2"]).await;
    scene.receiver.wait_for("/crm", 2).await;
    let stats = "select endpoint, mode, pending, running from actionflow.queue_stats()";
    eventually(PATIENCE, async || {
        let rows = scene.sql().rows(stats).await;
        if rows == ["crm|live|0|2"] {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    })
    .await;
    assert_eq!(
        scene
            .sql()
            .rows("select endpoint, state from actionflow.endpoint_health")
            .await,
        ["crm|enabled"]
    );
    assert_eq!(
        scene
            .sql()
            .rows("select distinct state from actionflow.deliveries")
            .await,
        ["running"]
    );
    scene.receiver.release(2);
    scene.settle().await;
}
