//! Questions for whose answers nobody waits: behind a notification, or in a flow that no event of a session has started.

use actionflow_tests::{Answer, Worker};
use serde_json::{Value, json};

use crate::asking::{asking, data, emit, enrich, login, tell, tell_and_wait};
use crate::scene::{Scene, ids, is_signed_with, publish, wait_for_rows};

const RUNS: &str = "select state, error from actionflow.runs order by id";

/// Endpoints `risk`, with these options, and `crm`, and a published flow `later` of these actions that nothing starts yet.
async fn later(options: &str, actions: Value) -> (Scene, Worker) {
    let scene = Scene::new().await;
    scene.endpoint("risk", options).await;
    scene.endpoint("crm", "{}").await;
    publish(
        scene.sql(),
        "later",
        &json!({"actions": actions}).to_string(),
    )
    .await;
    let worker = scene.worker_amid_deaths().await;
    (scene, worker)
}

fn asking_then_telling(more: Value) -> Value {
    json!([enrich("risk", more), tell("crm")])
}

/// The variables of the only message at this path.
async fn variables(scene: &Scene, path: &str) -> Value {
    scene.receiver.wait_for_one(path).await.json()["data"]["variables"].clone()
}

#[tokio::test]
async fn behind_a_notification_a_question_is_a_delivery_whose_answer_later_actions_have() {
    for first in [tell("crm"), tell_and_wait("crm")] {
        let actions = json!([
            first,
            enrich("risk", json!({})),
            enrich("more", json!({})),
            tell("audit")
        ]);
        let (scene, _worker) = asking(actions).await;
        let user = "insert into customers (id, email) values (42, 'ana@example.com')";
        scene.sql().run(user).await;
        scene.receiver.always("/risk", data(json!({"score": 7})));
        scene
            .receiver
            .always("/more", data(json!({"tier": "gold"})));
        let answer = emit(scene.sql(), "login", "42", json!({"ip": "a"})).await;
        assert_eq!(answer["results"], json!({}));
        let expected = json!({"ip": "a", "risk": {"score": 7}, "more": {"tier": "gold"}});
        assert_eq!(variables(&scene, "/audit").await, expected);
        let question = scene.receiver.wait_for_one("/more").await.json();
        assert_eq!(question["data"]["user"], json!({"id": "42"}), "N9");
        assert_eq!(
            question["data"]["variables"],
            json!({"ip": "a", "risk": {"score": 7}})
        );
        scene.settle().await;
        wait_for_rows(scene.sql(), RUNS, &["completed|"]).await;
        let deliveries = "select action, state, attempts from actionflow.deliveries order by id";
        assert_eq!(
            scene.sql().rows(deliveries).await,
            [
                "crm|delivered|1",
                "risk|delivered|1",
                "more|delivered|1",
                "audit|delivered|1"
            ]
        );
    }
}

#[tokio::test]
async fn answers_from_before_a_wait_are_there_after_it() {
    let actions = json!([
        enrich("risk", json!({})),
        tell_and_wait("crm"),
        enrich("more", json!({})),
        tell("audit")
    ]);
    let (scene, _worker) = asking(actions).await;
    scene.receiver.always("/risk", data(json!({"score": 7})));
    scene
        .receiver
        .always("/more", data(json!({"tier": "gold"})));
    login(&scene).await;
    let expected = json!({"risk": {"score": 7}, "more": {"tier": "gold"}});
    assert_eq!(variables(&scene, "/audit").await, expected);
    scene.settle().await;
    assert_eq!(
        scene.receiver.requests("/risk").len(),
        1,
        "asked by the session, and not again"
    );
}

#[tokio::test]
async fn a_flow_that_a_call_a_row_or_a_segment_starts_asks_from_the_queue() {
    let (scene, _worker) = later("{}", asking_then_telling(json!({}))).await;
    scene.receiver.always("/risk", data(json!({"score": 7})));
    scene.trigger("later", "user-created").await;
    scene
        .sql()
        .run(
            r#"select actionflow.create_segment('pro', '{"attribute": "plan", "op": "eq", "value": "pro"}');
               select actionflow.add_segment_trigger('later', 'pro')"#,
        )
        .await;
    let starts = [
        "select status from actionflow.start_flow('later', '{\"targetUserIds\": \"42\"}')",
        "insert into customers (id, email) values (42, 'ana@example.com')",
        "update customers set plan = 'pro'",
    ];
    for (count, start) in starts.into_iter().enumerate() {
        scene.sql().run(start).await;
        scene.settle().await;
        let told = scene.receiver.wait_for("/crm", count + 1).await;
        let variables = &told[count].json()["data"]["variables"]["risk"];
        assert_eq!(variables, &json!({"score": 7}), "{start}");
        let asked = scene.receiver.requests("/risk")[count].json();
        assert_eq!(asked["data"]["user"], json!({"id": "42"}), "{start}");
    }
    wait_for_rows(scene.sql(), RUNS, &["completed|"; 3]).await;
}

#[tokio::test]
async fn a_question_in_the_queue_is_asked_again_on_the_endpoints_schedule() {
    let (scene, _worker) = later(
        r#"{"retry_seconds": [0, 0, 0, 0, 0], "timeout_ms": 60000}"#,
        asking_then_telling(json!({"timeout_ms": 300})),
    )
    .await;
    let secret = scene
        .sql()
        .text("select actionflow.rotate_endpoint_secret('risk', '0')")
        .await;
    scene.receiver.script(
        "/risk",
        [
            Answer::Status(500),
            Answer::Hang,
            Answer::json(&json!({"action": "maybe"})),
            Answer::Drop,
            Answer::Full(201, Vec::new(), "{}".to_owned()),
            data(json!({"score": 7})),
        ],
    );
    scene.start("later", &["42"]).await;
    assert_eq!(
        variables(&scene, "/crm").await,
        json!({"risk": {"score": 7}})
    );
    scene.settle().await;
    let requests = scene.receiver.requests("/risk");
    assert_eq!(ids(&requests).len(), 1);
    assert!(
        requests
            .iter()
            .all(|request| is_signed_with(request, &secret))
    );
    let attempts = "select a.attempt, a.status, a.error is null from actionflow.delivery_attempts as a
        join actionflow.deliveries as d on d.id = a.delivery_id where d.action = 'risk' order by a.attempt";
    assert_eq!(
        scene.sql().rows(attempts).await,
        ["1|500|f", "2||f", "3|200|f", "4||f", "5|201|f", "6|200|t"]
    );
}

#[tokio::test]
async fn a_dead_question_ends_the_run_or_is_gone_past_as_on_failure_says() {
    for (on_failure, run) in [
        ("allow", "completed|"),
        ("block", "completed|"),
        ("challenge", "completed|"),
        (
            "error",
            "failed|a delivery of action \"risk\" is dead or cancelled",
        ),
    ] {
        let actions = asking_then_telling(json!({"on_failure": on_failure}));
        let (scene, _worker) = later(r#"{"retry_seconds": [0]}"#, actions).await;
        scene.receiver.always("/risk", Answer::Status(500));
        scene.start("later", &["42"]).await;
        wait_for_rows(scene.sql(), RUNS, &[run]).await;
        scene.settle().await;
        let dead = "select action, attempts, last_status from actionflow.dead_letters";
        assert_eq!(scene.sql().rows(dead).await, ["risk|2|500"], "{on_failure}");
        let told = scene.receiver.requests("/crm");
        assert_eq!(
            told.len(),
            usize::from(on_failure != "error"),
            "{on_failure}"
        );
        if let [told] = told.as_slice() {
            assert_eq!(told.json()["data"]["variables"], json!({}), "{on_failure}");
        }
    }
}

#[tokio::test]
async fn a_question_that_waits_is_cancelled_with_its_run() {
    let (scene, _worker) = later("{}", asking_then_telling(json!({"on_failure": "allow"}))).await;
    scene.receiver.always("/risk", Answer::Status(500));
    scene.start("later", &["42"]).await;
    let waiting = "select state, attempts from actionflow.deliveries";
    wait_for_rows(scene.sql(), waiting, &["pending|1"]).await;
    scene
        .sql()
        .run("select actionflow.cancel_run(id) from actionflow.runs")
        .await;
    assert_eq!(scene.sql().rows(RUNS).await, ["cancelled|"]);
    assert_eq!(scene.sql().rows(waiting).await, ["cancelled|1"]);
    scene.start("later", &["43"]).await;
    scene.receiver.wait_for("/risk", 2).await;
    assert!(scene.receiver.requests("/crm").is_empty());
}

#[tokio::test]
async fn an_answer_to_a_run_that_was_cancelled_meanwhile_changes_nothing() {
    let (scene, _worker) = later("{}", asking_then_telling(json!({}))).await;
    scene.receiver.script(
        "/risk",
        [Answer::Later(Box::new(data(json!({})))), data(json!({}))],
    );
    scene.start("later", &["42"]).await;
    scene.receiver.wait_for("/risk", 1).await;
    scene
        .sql()
        .run("select actionflow.cancel_run(id) from actionflow.runs")
        .await;
    scene.receiver.release(1);
    scene.start("later", &["43"]).await;
    let told = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(told.user_id(), "43");
    scene.settle().await;
    let states = "select user_id, state from actionflow.runs order by id";
    wait_for_rows(scene.sql(), states, &["42|cancelled", "43|completed"]).await;
}

/// A flow that goes past a dead question, and then waits for `crm`.
async fn past_a_dead_question() -> (Scene, Worker) {
    let actions = json!([
        enrich("risk", json!({"on_failure": "allow"})),
        enrich("crm", json!({"on_failure": "allow"})),
        {"name": "end", "type": "notify", "endpoint": "crm"}
    ]);
    let (scene, worker) = later(r#"{"retry_seconds": []}"#, actions).await;
    scene.receiver.script("/risk", [Answer::Status(500)]);
    scene
        .receiver
        .always("/risk", data(json!({"score": "late"})));
    scene.receiver.script(
        "/crm",
        [Answer::Later(Box::new(data(json!({"tier": "gold"}))))],
    );
    scene.start("later", &["42"]).await;
    scene.receiver.wait_for("/crm", 1).await;
    (scene, worker)
}

const REPLAY: &str =
    "select actionflow.replay_delivery(id) from actionflow.dead_letters where action = 'risk'";

#[tokio::test]
async fn a_replayed_question_does_not_disturb_its_run_that_has_gone_on() {
    let (scene, _worker) = past_a_dead_question().await;
    scene.sql().run(REPLAY).await;
    let delivered = "select state from actionflow.deliveries where action = 'risk'";
    wait_for_rows(scene.sql(), delivered, &["delivered"]).await;
    scene.receiver.release(1);
    let end = scene.receiver.wait_for("/crm", 2).await[1].json();
    assert_eq!(end["data"]["action"], "end");
    assert_eq!(end["data"]["variables"], json!({"crm": {"tier": "gold"}}));
    scene.settle().await;
    wait_for_rows(scene.sql(), RUNS, &["completed|"]).await;
}

#[tokio::test]
async fn an_answer_that_comes_while_a_replay_is_under_way_is_not_lost() {
    let (scene, _worker) = past_a_dead_question().await;
    scene.receiver.script("/risk", [Answer::Hang]);
    scene.sql().run(REPLAY).await;
    scene.receiver.wait_for("/risk", 2).await;
    scene.receiver.release(1);
    let end = scene.receiver.wait_for("/crm", 2).await[1].json();
    assert_eq!(end["data"]["variables"], json!({"crm": {"tier": "gold"}}));
    wait_for_rows(scene.sql(), RUNS, &["completed|"]).await;
}

#[tokio::test]
async fn a_replayed_question_is_still_a_question() {
    let actions = asking_then_telling(json!({"on_failure": "error"}));
    let (scene, _worker) = later(r#"{"retry_seconds": []}"#, actions).await;
    scene.receiver.script(
        "/risk",
        [
            Answer::Status(500),
            Answer::json(&json!({"action": "maybe"})),
        ],
    );
    scene.receiver.always("/risk", data(json!({})));
    scene.start("later", &["42"]).await;
    let failed = ["failed|a delivery of action \"risk\" is dead or cancelled"];
    wait_for_rows(scene.sql(), RUNS, &failed).await;
    for (requests, state) in [(2, "dead|2"), (3, "delivered|3")] {
        scene.sql().run(REPLAY).await;
        scene.receiver.wait_for("/risk", requests).await;
        let deliveries = "select state, attempts from actionflow.deliveries";
        wait_for_rows(scene.sql(), deliveries, &[state]).await;
    }
    assert_eq!(scene.sql().rows(RUNS).await, failed);
    assert!(scene.receiver.requests("/crm").is_empty());
}

#[tokio::test]
async fn a_test_asks_from_the_queue_at_the_test_address() {
    let (scene, _worker) = later("{}", asking_then_telling(json!({}))).await;
    let options = json!({"test_url": scene.receiver.url("/risk-test")});
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('risk', '{options}'), actionflow.add_test_user('42')"
        ))
        .await;
    scene
        .receiver
        .always("/risk-test", data(json!({"is": "test"})));
    let start = "select status from actionflow.start_flow('later', '{\"targetUserIds\": [\"42\", \"43\"]}', 'test')";
    assert_eq!(scene.sql().rows(start).await, ["started", "ignored"]);
    let told = scene.receiver.wait_for_one("/crm").await.json();
    assert_eq!(told["data"]["mode"], "test");
    assert_eq!(told["data"]["variables"], json!({"risk": {"is": "test"}}));
    assert!(scene.receiver.requests("/risk").is_empty());
    scene.settle().await;
}
