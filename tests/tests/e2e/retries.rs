//! What failed is tried again, on the endpoint's schedule, until it is dead; and then it can be replayed.

use std::time::Duration;

use actionflow_tests::{Answer, Worker};
use serde_json::json;

use crate::scene::{Scene, ids, is_signed_with, wait_for_rows};

async fn failing(
    options: &str,
    answers: impl IntoIterator<Item = Answer>,
) -> (Scene, Worker, String) {
    let scene = Scene::new().await;
    let secret = scene.endpoint("crm", options).await;
    scene.flow("welcome", &["crm"]).await;
    scene.receiver.script("/crm", answers);
    let worker = scene.worker_amid_deaths().await;
    scene.start("welcome", &["1"]).await;
    (scene, worker, secret)
}

/// Seconds from the end of the last attempt until the next one is due.
async fn wait_of(scene: &Scene) -> f64 {
    wait_for_rows(
        scene.sql(),
        "select state, attempts from actionflow.deliveries",
        &["pending|1"],
    )
    .await;
    let wait = scene
        .sql()
        .text(
            "select extract(epoch from d.next_attempt_at - a.started_at) - a.duration_ms / 1000.0
             from actionflow.deliveries as d join actionflow.delivery_attempts as a on a.delivery_id = d.id",
        )
        .await;
    wait.parse().expect("a number of seconds")
}

#[tokio::test]
async fn whatever_goes_wrong_is_tried_again_under_the_same_id() {
    let answers = [
        Answer::Status(503),
        Answer::Drop,
        Answer::Status(404),
        Answer::Status(201),
        Answer::Status(200),
    ];
    let (scene, _worker, secret) = failing(r#"{"retry_seconds": [0, 0, 0, 0]}"#, answers).await;
    scene.settle().await;
    assert_eq!(scene.deliveries().await, ["delivered|5|200"]);
    let requests = scene.receiver.requests("/crm");
    assert_eq!(requests.len(), 5);
    assert_eq!(ids(&requests).len(), 1, "the id changed between attempts");
    assert!(
        requests
            .iter()
            .all(|request| is_signed_with(request, &secret)),
        "each attempt is signed for its own time"
    );
    assert!(
        requests
            .iter()
            .all(|request| request.body == requests[0].body)
    );
}

#[tokio::test]
async fn the_first_retry_waits_for_the_schedule() {
    let (scene, _worker, _) = failing("{}", [Answer::Status(500)]).await;
    let wait = wait_of(&scene).await;
    // 30 s, with a jitter that is neither nothing nor all of it.
    assert!((15.0..=60.0).contains(&wait), "{wait} s");
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let (scene, _worker, _) = failing(
        r#"{"retry_seconds": [1]}"#,
        [Answer::with_header(429, "retry-after", "3600")],
    )
    .await;
    let wait = wait_of(&scene).await;
    assert!((3590.0..=4500.0).contains(&wait), "{wait} s");
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_a_failure() {
    let (scene, _worker, _) = failing(
        r#"{"retry_seconds": [0], "timeout_ms": 200}"#,
        [Answer::Hang, Answer::Status(200)],
    )
    .await;
    scene.settle().await;
    assert_eq!(scene.deliveries().await, ["delivered|2|200"]);
    let attempts = "select attempt, status is null, coalesce(error, '') <> '', duration_ms >= 200
                    from actionflow.delivery_attempts order by attempt";
    assert_eq!(scene.sql().rows(attempts).await[0], "1|t|t|t");
}

#[tokio::test]
async fn a_delivery_without_retries_left_is_dead_and_can_be_replayed() {
    let answers = [500, 502, 503, 500].map(Answer::Status);
    let (scene, _worker, _) = failing(r#"{"retry_seconds": [0, 0]}"#, answers).await;
    scene.settle().await;
    assert_eq!(scene.deliveries().await, ["dead|3|503"]);
    let dead = "select user_id, endpoint, last_status from actionflow.dead_letters";
    assert_eq!(scene.sql().rows(dead).await, ["1|crm|503"]);
    assert_eq!(
        scene.receiver.requests("/crm").len(),
        3,
        "one request and two retries"
    );

    scene
        .sql()
        .run("select actionflow.replay_delivery(id) from actionflow.dead_letters")
        .await;
    scene.receiver.wait_for("/crm", 5).await;
    scene.settle().await;
    assert_eq!(
        scene.deliveries().await,
        ["delivered|5|200"],
        "the schedule begins anew, and attempts go on counting"
    );
    assert!(scene.sql().rows(dead).await.is_empty());
    assert_eq!(ids(&scene.receiver.requests("/crm")).len(), 1);
    assert_eq!(scene.count("delivery_attempts").await, 5);
}

#[tokio::test]
async fn the_dead_letters_of_one_endpoint_are_replayed_together() {
    let scene = Scene::new().await;
    for name in ["crm", "audit"] {
        scene.endpoint(name, r#"{"retry_seconds": []}"#).await;
        scene
            .receiver
            .always(&format!("/{name}"), Answer::Status(500));
    }
    scene.flow("welcome", &["crm", "audit"]).await;
    let _worker = scene.worker_amid_deaths().await;
    scene.start("welcome", &["1", "2", "3"]).await;
    scene.settle().await;
    scene.receiver.always("/crm", Answer::Status(200));
    assert_eq!(
        scene
            .sql()
            .number("select actionflow.replay_dead_letters('crm')")
            .await,
        3
    );
    scene.settle().await;
    let states =
        "select endpoint, state, count(*) from actionflow.deliveries group by 1, 2 order by 1";
    assert_eq!(
        scene.sql().rows(states).await,
        ["audit|dead|3", "crm|delivered|3"]
    );
    assert_eq!(
        scene
            .sql()
            .number("select actionflow.replay_dead_letters()")
            .await,
        3
    );
}

#[tokio::test]
async fn gone_disables_the_endpoint_and_loses_nothing() {
    let (mut scene, worker, _) =
        failing(r#"{"retry_seconds": [0, 0, 0]}"#, [Answer::Status(410)]).await;
    let mut worker = worker;
    worker.expect_in_log("410");
    worker.expect_in_log("disabled");
    scene.db.expect_in_log("disabled");
    let health = "select state from actionflow.endpoint_health";
    wait_for_rows(scene.sql(), health, &["disabled"]).await;
    assert_eq!(
        scene
            .sql()
            .rows("select state from actionflow.deliveries")
            .await,
        ["pending"]
    );
    scene.start("welcome", &["2"]).await;
    scene.endpoint("audit", "{}").await;
    scene.flow("other", &["audit"]).await;
    scene.start("other", &["3"]).await;
    scene.receiver.wait_for_one("/audit").await;
    assert_eq!(
        scene.receiver.requests("/crm").len(),
        1,
        "a disabled endpoint was called"
    );
    scene
        .sql()
        .run("select actionflow.enable_endpoint('crm')")
        .await;
    scene.settle().await;
    assert_eq!(ids(&scene.receiver.requests("/crm")).len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_on_is_retried() {
    let mut scene = Scene::new().await;
    scene
        .endpoint("crm", r#"{"retry_seconds": [0, 600]}"#)
        .await;
    scene.flow("welcome", &["crm"]).await;
    scene.receiver.close().await;
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    wait_for_rows(
        scene.sql(),
        "select state, attempts, last_status from actionflow.deliveries",
        &["pending|2|"],
    )
    .await;
    assert_ne!(
        scene
            .sql()
            .text("select last_error from actionflow.deliveries")
            .await,
        ""
    );
}

#[tokio::test]
async fn a_bad_delivery_does_not_hold_up_the_rest_of_its_batch() {
    let scene = Scene::with_crm(r#"{"retry_seconds": [600]}"#).await;
    let users: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let payload = json!({"targetUserIds": users});
    scene
        .sql()
        .run(&format!(
            "select actionflow.start_flow('welcome', '{payload}')"
        ))
        .await;
    scene.receiver.script(
        "/crm",
        [Answer::Slow(500, Duration::from_millis(100)), Answer::Drop],
    );
    let _worker = scene.db.worker().await;
    let states = "select state, count(*) from actionflow.deliveries group by state order by state";
    wait_for_rows(scene.sql(), states, &["delivered|48", "pending|2"]).await;
}
