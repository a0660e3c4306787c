//! N11: what an answer must be, what a failure means, and how long it may all take.

use std::time::{Duration, Instant};

use actionflow_tests::{Answer, Worker};
use serde_json::{Value, json};

use crate::asking::{
    asking, data, emission, emit, enrich, failure, flow_on, login, tell, wait_for_attempts,
};
use crate::scene::{Scene, ids, is_signed_with, wait_for_rows};

const DECISIONS: [&str; 3] = ["allow", "block", "challenge"];

/// An endpoint `risk` that is asked by the events `on-allow`, `on-block`, `on-challenge` and `on-error`, of which each is
/// named for what a failure means.
async fn failing(timeout_ms: u32) -> (Scene, Worker) {
    let (scene, worker) = asking(json!([])).await;
    scene
        .endpoint("risk", r#"{"breaker_failures": 1000}"#)
        .await;
    for on_failure in DECISIONS.into_iter().chain(["error"]) {
        let action = enrich(
            "risk",
            json!({"on_failure": on_failure, "timeout_ms": timeout_ms}),
        );
        let event = format!("on-{on_failure}");
        flow_on(&scene, &event, &event, json!([action])).await;
    }
    (scene, worker)
}

/// Emits the four events, and checks that each ends as the failure of this kind is to end it.
async fn check_failure(scene: &Scene, kind: &str, case: &str) {
    for decision in DECISIONS {
        let answer = emit(scene.sql(), &format!("on-{decision}"), "42", json!({})).await;
        assert_eq!(answer["results"]["risk"], failure(decision, kind), "{case}");
        assert_eq!(answer["action"], decision, "{case}");
        assert_eq!(answer["custom_claims"], json!({}), "{case}");
    }
    let error = scene
        .sql()
        .error(&emission("on-error", "42", &json!({})))
        .await;
    assert_eq!(error.code, "38000", "{case}: {error:?}");
    assert_eq!(
        error.message,
        format!("enrich action \"risk\" of flow \"on-error\" failed: {kind}"),
        "{case}"
    );
    assert!(
        error.hint.contains("actionflow.enrich_attempts"),
        "{case}: {error:?}"
    );
}

fn typed(content_type: &str, body: &str) -> Answer {
    let content_type = ("content-type".to_owned(), content_type.to_owned());
    Answer::Full(200, vec![content_type], body.to_owned())
}

#[tokio::test]
async fn an_answer_that_is_none_is_what_on_failure_says() {
    let (scene, _worker) = failing(10_000).await;
    let json = |body: &str| typed("application/json", body);
    let full = |status: u16| Answer::Full(status, Vec::new(), "{}".to_owned());
    let nul = json!({"data": {"a": "\u{0}"}}).to_string();
    let long = json!({"data": {"a": "x".repeat(1 << 20)}}).to_string();
    let cases = [
        ("status", full(500)),
        ("status", full(201)),
        ("status", full(204)),
        ("status", full(404)),
        ("status", Answer::with_header(302, "location", "/elsewhere")),
        ("status", Answer::with_header(308, "location", "/elsewhere")),
        ("answer", json("")),
        ("answer", json("{\"action\": \"allow\"")),
        ("answer", json("[]")),
        ("answer", json("\"allow\"")),
        ("answer", json(r#"{"action": "maybe"}"#)),
        ("answer", json(r#"{"action": "Allow"}"#)),
        ("answer", json(r#"{"action": null}"#)),
        ("answer", json(r#"{"action": true}"#)),
        ("answer", json(r#"{"data": []}"#)),
        ("answer", json(r#"{"custom_claims": "x"}"#)),
        ("answer", json(r#"{"custom_claims": {"sub": "1"}}"#)),
        ("answer", json(r#"{"reason": 7}"#)),
        ("answer", json(r#"{"user_message": {}}"#)),
        ("answer", json(&nul)),
        ("answer", json(r#"{"data": {"a": 1e400}}"#)),
        ("answer", typed("text/html", "{}")),
        ("answer", typed("application/jwt", "{}")),
        ("too_large", json(&long)),
    ];
    for (kind, answer) in cases {
        let case = format!("{answer:?}");
        scene.receiver.always("/risk", answer);
        check_failure(&scene, kind, &case[..case.len().min(200)]).await;
    }
    assert!(
        scene.receiver.requests("/elsewhere").is_empty(),
        "a redirect was followed"
    );
}

#[tokio::test]
async fn a_connection_that_is_refused_is_tried_again_and_then_a_failure() {
    let (mut scene, _worker) = failing(2_000).await;
    scene.receiver.close().await;
    check_failure(&scene, "connect", "refused").await;
    let twice = ["1||failed", "2||failed"].repeat(4);
    wait_for_attempts(&scene, "attempt, status, outcome", &twice).await;
    let errors = "select count(*) from actionflow.enrich_attempts where coalesce(error, '') = ''";
    assert_eq!(scene.sql().number(errors).await, 0);
    scene.receiver.open().await;
    scene.receiver.always("/risk", data(json!({})));
    assert_eq!(
        emit(scene.sql(), "on-block", "42", json!({})).await["action"],
        "allow"
    );
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout_that_is_not_tried_again() {
    let (scene, _worker) = failing(300).await;
    scene.receiver.always("/risk", Answer::Hang);
    let started = Instant::now();
    check_failure(&scene, "timeout", "hangs").await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(took >= Duration::from_millis(4 * 300), "{took:?}");
    wait_for_attempts(&scene, "attempt, status, outcome", &["1||failed"; 4]).await;
    let blamed = "select enrich_failures from actionflow.endpoint_health where endpoint = 'risk'";
    assert_eq!(scene.sql().number(blamed).await, 4);
}

#[tokio::test]
async fn a_body_without_an_end_is_a_failure() {
    let (scene, _worker) = failing(10_000).await;
    scene.receiver.always("/risk", Answer::Endless(200));
    check_failure(&scene, "too_large", "endless").await;
}

#[tokio::test]
async fn unknown_keys_and_parameters_of_the_content_type_are_no_failure() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    let answers = [
        typed(
            "application/json; charset=utf-8",
            r#"{"action": "block", "more": 1}"#,
        ),
        typed(
            "Application/JSON",
            r#"{"action": "block", "data": null, "reason": null}"#,
        ),
        Answer::Full(200, Vec::new(), r#"{"action": "block"}"#.to_owned()),
    ];
    for answer in answers {
        scene.receiver.script("/risk", [answer]);
        let case = login(&scene).await;
        assert_eq!(
            case["results"]["risk"],
            json!({"action": "block", "data": {}, "custom_claims": {}})
        );
    }
}

#[tokio::test]
async fn an_answer_of_nearly_a_mebibyte_arrives_whole() {
    let (scene, _worker) = asking(json!([
        enrich("risk", json!({"timeout_ms": 30_000})),
        tell("crm")
    ]))
    .await;
    scene
        .sql()
        .run("select actionflow.set_setting('enrich_budget_ms', '30000')")
        .await;
    let large = json!({"text": "ä\"\\".repeat(150_000)});
    scene.receiver.always("/risk", data(large.clone()));
    let properties = json!({"p": "x".repeat(1_000_000)});
    let answer = emit(scene.sql(), "login", "42", properties.clone()).await;
    assert_eq!(answer["results"]["risk"]["data"], large);
    let asked = scene.receiver.wait_for_one("/risk").await.json();
    assert_eq!(asked["data"]["event"]["properties"], properties);
    let told = scene.receiver.wait_for_one("/crm").await.json();
    assert_eq!(told["data"]["variables"]["risk"], large);
    scene.settle().await;
}

/// Answers in turn, what comes of them, and the attempts that the log has then.
fn passing() -> Vec<(Vec<Answer>, &'static str, Vec<&'static str>)> {
    let good = || data(json!({}));
    vec![
        (
            vec![Answer::Status(503), good()],
            "allow",
            vec!["1|503|failed", "2|200|allow"],
        ),
        (
            vec![Answer::Status(429), good()],
            "allow",
            vec!["1|429|failed", "2|200|allow"],
        ),
        (
            vec![Answer::Drop, good()],
            "allow",
            vec!["1||failed", "2|200|allow"],
        ),
        (
            vec![Answer::Status(503), Answer::Status(502)],
            "block",
            vec!["1|503|failed", "2|502|failed"],
        ),
        (
            vec![Answer::Drop, Answer::Drop],
            "block",
            vec!["1||failed", "2||failed"],
        ),
        (vec![Answer::Status(500)], "block", vec!["1|500|failed"]),
        (
            vec![Answer::json(&json!([]))],
            "block",
            vec!["1|200|failed"],
        ),
        // Longer than there is time.
        (
            vec![Answer::with_header(503, "retry-after", "3600")],
            "block",
            vec!["1|503|failed"],
        ),
    ]
}

/// One more attempt is made after what may pass, and no third one.
#[tokio::test]
async fn what_may_pass_is_asked_once_more_under_the_same_id() {
    let (scene, _worker) = asking(json!([])).await;
    let secret = scene
        .endpoint("risk", r#"{"breaker_failures": 1000}"#)
        .await;
    flow_on(
        &scene,
        "ask",
        "login",
        json!([enrich("risk", json!({"on_failure": "block"}))]),
    )
    .await;
    let mut seen = 0;
    for (answers, decision, attempts) in passing() {
        scene.receiver.script("/risk", answers);
        let answer = login(&scene).await;
        assert_eq!(answer["action"], decision, "{attempts:?}");
        let requests = scene.receiver.requests("/risk").split_off(seen);
        seen += requests.len();
        assert_eq!(requests.len(), attempts.len(), "{attempts:?}");
        assert_eq!(ids(&requests).len(), 1, "the id changed between attempts");
        assert!(
            requests
                .iter()
                .all(|request| is_signed_with(request, &secret))
        );
        let event = answer["event_id"].as_str().expect("text");
        let rows = format!(
            "select attempt, status, outcome from actionflow.enrich_attempts
             where event_id = {event} and request_id = {} order by attempt",
            requests[0].id()
        );
        wait_for_rows(scene.sql(), &rows, &attempts).await;
    }
}

#[tokio::test]
async fn all_actions_of_an_event_share_one_budget() {
    let slow = |name: &str| {
        enrich(
            name,
            json!({"timeout_ms": 60_000, "on_failure": "challenge"}),
        )
    };
    let (scene, _worker) = asking(json!([slow("a"), slow("b"), slow("c")])).await;
    flow_on(
        &scene,
        "other",
        "login",
        json!([enrich("c", json!({"on_failure": "allow"}))]),
    )
    .await;
    scene
        .sql()
        .run("select actionflow.set_setting('enrich_budget_ms', '1500')")
        .await;
    scene.receiver.always("/a", data(json!({})));
    scene.receiver.always("/b", Answer::Hang);
    scene.receiver.always("/c", data(json!({})));
    let started = Instant::now();
    let answer = login(&scene).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1400), "{took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let results: Value = json!({
        "a": {"action": "allow", "data": {}, "custom_claims": {}}, "b": failure("challenge", "timeout"),
        "c": failure("challenge", "timeout"), "other/c": failure("allow", "timeout")
    });
    assert_eq!(answer["results"], results);
    assert!(scene.receiver.requests("/c").is_empty());
    // Nobody has asked c, so what happened is not its fault.
    let blamed = "select enrich_failures from actionflow.endpoint_health where endpoint = 'c'";
    assert_eq!(scene.sql().number(blamed).await, 0);
}

#[tokio::test]
async fn after_a_failed_action_the_next_one_is_asked() {
    let (scene, _worker) = asking(json!([
        enrich("a", json!({"timeout_ms": 100, "on_failure": "challenge"})),
        enrich("b", json!({})),
        tell("crm")
    ]))
    .await;
    scene.receiver.always("/a", Answer::Hang);
    scene.receiver.always("/b", data(json!({"score": 1})));
    let answer = login(&scene).await;
    assert_eq!(answer["action"], "challenge");
    assert_eq!(answer["results"]["b"]["action"], "allow");
    let told = scene.receiver.wait_for_one("/crm").await.json();
    // Of a failed action there is no data.
    assert_eq!(told["data"]["variables"], json!({"b": {"score": 1}}));
    scene.settle().await;
}

#[tokio::test]
async fn an_error_leaves_nothing_of_the_statement_and_the_session_goes_on() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({})), tell("crm")])).await;
    scene.sql().run("create table logins (id int)").await;
    scene.receiver.script("/risk", [Answer::Status(500)]);
    let statement = format!(
        "insert into logins values (1); {}",
        emission("login", "42", &json!({}))
    );
    assert_eq!(scene.sql().error(&statement).await.code, "38000");
    let left = "select (select count(*) from logins), (select count(*) from actionflow.events),
        (select count(*) from actionflow.runs), (select count(*) from actionflow.deliveries)";
    assert_eq!(scene.sql().text(left).await, "0|0|0|0");
    wait_for_attempts(
        &scene,
        "status, outcome, error",
        &["500|failed|the endpoint answered 500"],
    )
    .await;
    scene.receiver.always("/risk", data(json!({})));
    assert_eq!(login(&scene).await["action"], "allow");
    scene.settle().await;
}

#[tokio::test]
async fn what_an_endpoint_says_in_a_bad_answer_stands_nowhere() {
    let (scene, worker) = asking(json!([enrich("risk", json!({"on_failure": "allow"}))])).await;
    let answers = [
        typed("application/json", "hunter2 is not JSON"),
        typed("application/json", r#"{"action": "hunter2"}"#),
        typed(
            "application/json",
            r#"{"custom_claims": {"sub": "hunter2"}}"#,
        ),
        typed("hunter2/plain", "{}"),
        Answer::Full(500, Vec::new(), "hunter2".to_owned()),
    ];
    let count = answers.len();
    for answer in answers {
        scene.receiver.script("/risk", [answer]);
        assert!(!login(&scene).await.to_string().contains("hunter2"));
    }
    let recorded = "select count(*) from actionflow.enrich_attempts";
    wait_for_rows(scene.sql(), recorded, &[&count.to_string()]).await;
    let shown =
        "select count(*) from actionflow.enrich_attempts as a where a::text like '%hunter2%'";
    assert_eq!(scene.sql().number(shown).await, 0);
    assert!(!worker.log().contains("hunter2"), "{}", worker.log());
}
