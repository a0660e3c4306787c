//! A flow is started by a call: for whom, with what, and how often.

use actionflow_tests::Answer;
use serde_json::json;

use crate::scene::{Scene, wait_for_rows, wait_until_blocked};

pub(crate) async fn with_endpoint() -> Scene {
    let scene = Scene::new().await;
    scene.endpoint("crm", "{}").await;
    scene
}

fn coupon_flow() -> String {
    json!({
        "variables": {"first_name": {"default": "there"}, "coupon": {"required": true}},
        "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]
    })
    .to_string()
}

#[tokio::test]
async fn one_call_starts_many_payloads_for_many_targets() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    let payload = json!([
        {"targetUserIds": ["1", "2"], "variables": {"a": 1}, "metadata": {"k": "v"}},
        {"targetUserIds": "3", "flowInvocationId": "inv-3", "notificationDetail": {"title": "x"}}
    ]);
    let rows = scene
        .sql()
        .rows(&format!(
            "select user_id, status, reason, run_id is not null from actionflow.start_flow('welcome', '{payload}')"
        ))
        .await;
    assert_eq!(rows, ["1|started||t", "2|started||t", "3|started||t"]);
    assert_eq!(
        scene
            .sql()
            .rows("select flow_invocation_id from actionflow.runs where user_id = '3'")
            .await,
        ["inv-3"]
    );
    assert_eq!(
        scene
            .sql()
            .number(
                "select count(*) from actionflow.runs where coalesce(flow_invocation_id, '') = ''"
            )
            .await,
        0,
        "a missing invocation id is generated"
    );

    let _worker = scene.db.worker().await;
    let requests = scene.receiver.wait_for("/crm", 3).await;
    for request in requests {
        let body = request.json();
        assert_eq!(body["type"], "action-flow-started");
        let data = &body["data"];
        let expected = match request.user_id().as_str() {
            "3" => (json!({}), json!({"title": "x"}), json!({})),
            _ => (json!({"a": 1}), json!({}), json!({"k": "v"})),
        };
        let found = (
            data["variables"].clone(),
            data["notificationDetail"].clone(),
            data["metadata"].clone(),
        );
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn variables_have_defaults_and_given_ones_go_over_them() {
    let scene = with_endpoint().await;
    crate::scene::publish(scene.sql(), "offer", &coupon_flow()).await;
    let payload = json!([
        {"targetUserIds": ["1"], "variables": {"coupon": "X"}},
        {"targetUserIds": ["2"], "variables": {"coupon": "Y", "first_name": "Bo", "more": [1]}}
    ]);
    scene
        .sql()
        .run(&format!(
            "select actionflow.start_flow('offer', '{payload}')"
        ))
        .await;
    let _worker = scene.db.worker().await;
    for request in scene.receiver.wait_for("/crm", 2).await {
        let expected = match request.user_id().as_str() {
            "1" => json!({"coupon": "X", "first_name": "there"}),
            _ => json!({"coupon": "Y", "first_name": "Bo", "more": [1]}),
        };
        assert_eq!(request.json()["data"]["variables"], expected);
    }
}

#[tokio::test]
async fn a_missing_required_variable_is_named_and_nothing_starts() {
    let scene = with_endpoint().await;
    crate::scene::publish(scene.sql(), "offer", &coupon_flow()).await;
    let payload =
        json!([{"targetUserIds": ["1"], "variables": {"coupon": "X"}}, {"targetUserIds": ["2"]}]);
    let refusal = scene
        .sql()
        .error(&format!(
            "select actionflow.start_flow('offer', '{payload}')"
        ))
        .await;
    assert_eq!(refusal.code, "22023", "{refusal:?}");
    assert!(refusal.message.contains("\"coupon\""), "{refusal:?}");
    assert_eq!(scene.count("runs").await, 0);
    assert_eq!(scene.count("deliveries").await, 0);
}

#[tokio::test]
async fn an_invocation_id_starts_once_for_each_customer_flow_and_mode() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    scene.flow("other", &["crm"]).await;
    scene
        .sql()
        .run("select actionflow.add_test_user('1')")
        .await;
    let start = async |flow: &str, users: &str, mode: &str| {
        scene
            .sql()
            .rows(&format!(
                "select user_id, status from actionflow.start_flow('{flow}',
                 '{{\"targetUserIds\": {users}, \"flowInvocationId\": \"inv\"}}', '{mode}')"
            ))
            .await
    };
    assert_eq!(start("welcome", r#"["1"]"#, "live").await, ["1|started"]);
    assert_eq!(
        start("welcome", r#"["1", "2"]"#, "live").await,
        ["1|duplicate", "2|started"]
    );
    assert_eq!(start("other", r#"["1"]"#, "live").await, ["1|started"]);
    assert_eq!(start("welcome", r#"["1"]"#, "test").await, ["1|started"]);

    let _worker = scene.db.worker().await;
    scene.settle().await;
    wait_for_rows(
        scene.sql(),
        "select distinct state from actionflow.runs",
        &["completed"],
    )
    .await;
    assert_eq!(
        start("welcome", r#"["1"]"#, "live").await,
        ["1|duplicate"],
        "it outlives the run"
    );
    assert_eq!(scene.receiver.requests("/crm").len(), 4);
}

#[tokio::test]
async fn starts_without_an_invocation_id_are_never_duplicates() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    assert_eq!(scene.start("welcome", &["1"]).await, ["started"]);
    assert_eq!(scene.start("welcome", &["1"]).await, ["started"]);
    assert_eq!(
        scene
            .sql()
            .number("select count(distinct flow_invocation_id) from actionflow.runs")
            .await,
        2
    );
}

const START_ONCE: &str = r#"select status from actionflow.start_flow('welcome', '{"targetUserIds": "1", "flowInvocationId": "inv"}')"#;

/// Two sessions start the same at once: the second waits for the first. Returns what it then gets.
async fn second_start_after(scene: &Scene, first_ends_with: &str) -> String {
    let (first, second) = (scene.db.session().await, scene.db.session().await);
    let pid = second.number("select pg_backend_pid()").await;
    first.run("begin").await;
    assert_eq!(first.text(START_ONCE).await, "started");
    let waiting = tokio::spawn(async move { second.text(START_ONCE).await });
    wait_until_blocked(scene.sql(), pid).await;
    first.run(first_ends_with).await;
    waiting.await.expect("the second start returns")
}

#[tokio::test]
async fn of_two_concurrent_starts_one_is_a_duplicate() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    assert_eq!(second_start_after(&scene, "commit").await, "duplicate");
    assert_eq!(scene.count("runs").await, 1);
}

#[tokio::test]
async fn a_start_that_is_rolled_back_was_never_there() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    assert_eq!(second_start_after(&scene, "rollback").await, "started");
    assert_eq!(scene.count("runs").await, 1);
}

#[tokio::test]
async fn a_cancelled_run_sends_nothing_more() {
    let scene = with_endpoint().await;
    scene.flow("welcome", &["crm"]).await;
    scene.start("welcome", &["1", "2"]).await;
    scene
        .sql()
        .run("select actionflow.cancel_run(id) from actionflow.runs where user_id = '1'")
        .await;
    let _worker = scene.db.worker().await;
    scene.settle().await;
    assert_eq!(
        scene
            .sql()
            .rows("select user_id, state from actionflow.deliveries order by user_id")
            .await,
        ["1|cancelled", "2|delivered"]
    );
    assert_eq!(
        scene
            .sql()
            .rows("select state from actionflow.runs where user_id = '1'")
            .await,
        ["cancelled"]
    );
    assert_eq!(scene.receiver.all().len(), 1);
}

#[tokio::test]
async fn a_run_can_be_cancelled_while_its_request_is_under_way() {
    let scene = Scene::with_crm(r#"{"timeout_ms": 60000}"#).await;
    scene.receiver.script("/crm", [Answer::Held(200)]);
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    scene.receiver.wait_for("/crm", 1).await;
    scene
        .sql()
        .run("select actionflow.cancel_run(id) from actionflow.runs")
        .await;
    scene.receiver.release(1);
    scene.start("welcome", &["2"]).await;
    scene.receiver.wait_for("/crm", 2).await;
    scene.settle().await;
    assert_eq!(
        scene
            .sql()
            .rows("select user_id, state from actionflow.deliveries order by id")
            .await,
        ["1|cancelled", "2|delivered"]
    );
}
