//! N3, N10, N11: an event asks endpoints before it goes on, one after the other, and their answers decide.

use actionflow_tests::Answer;
use serde_json::json;

use crate::asking::{
    asking, data, emission, emit, enrich, failure, flow_on, login, names, tell, wait_for_attempts,
    without_id,
};
use crate::scene::{is_signed_with, publish, verification};
use crate::steps::Meanwhile;

/// What is there of events, runs and deliveries.
const WRITTEN: &str = "select
    (select count(*) from actionflow.events), (select count(*) from actionflow.runs),
    (select count(*) from actionflow.deliveries)";

/// N3, N10.
#[tokio::test]
async fn each_question_is_answered_before_the_next_is_asked_and_the_event_waits_for_all() {
    let names = ["email", "password", "risk"];
    let (scene, _worker) = asking(json!(names.map(|name| enrich(name, json!({}))))).await;
    for name in names {
        let answer = Answer::Later(Box::new(data(json!({}))));
        scene.receiver.always(&format!("/{name}"), answer);
    }
    let statement = emission("login", "42", &json!({}));
    let login = Meanwhile::start(scene.db.session().await, &statement).await;
    for (position, name) in names.into_iter().enumerate() {
        scene.receiver.wait_for(&format!("/{name}"), 1).await;
        assert_eq!(scene.receiver.all().len(), position + 1);
        assert!(!login.is_finished());
        scene.receiver.release(1);
    }
    login.finish().await;
    assert_eq!(scene.receiver.all().len(), 3);
}

/// N11.
#[tokio::test]
async fn the_strictest_answer_wins_and_all_are_asked_even_after_a_block() {
    let (scene, _worker) = asking(json!([
        enrich("a", json!({})),
        enrich("b", json!({})),
        enrich("c", json!({}))
    ]))
    .await;
    let answers = [
        json!({"action": "challenge", "custom_claims": {"x": 1, "y": 1}, "reason": "why a", "user_message": "prove it"}),
        json!({"action": "block", "custom_claims": {"y": 2}, "data": {"score": 97.5}, "reason": "why b", "user_message": "no"}),
        json!({"custom_claims": {"z": ["3"]}, "reason": "why c", "user_message": "welcome"}),
    ];
    for (name, answer) in ["/a", "/b", "/c"].into_iter().zip(&answers) {
        scene.receiver.always(name, Answer::json(answer));
    }
    let answer = login(&scene).await;
    assert!(!answer.to_string().contains("why"), "{answer}");
    assert_eq!(
        without_id(answer),
        json!({
            "action": "block", "user_message": "no", "custom_claims": {"x": 1, "y": 2, "z": ["3"]},
            "results": {
                "a": {"action": "challenge", "data": {}, "custom_claims": {"x": 1, "y": 1}, "user_message": "prove it"},
                "b": {"action": "block", "data": {"score": 97.5}, "custom_claims": {"y": 2}, "user_message": "no"},
                "c": {"action": "allow", "data": {}, "custom_claims": {"z": ["3"]}, "user_message": "welcome"}
            }
        })
    );
    wait_for_attempts(
        &scene,
        "flow, action, endpoint, user_id, mode, attempt, status, outcome, reason, error, is_cached, duration_ms > 0",
        &[
            "gate|a|a|42|live|1|200|challenge|why a||f|t",
            "gate|b|b|42|live|1|200|block|why b||f|t",
            "gate|c|c|42|live|1|200|allow|why c||f|t",
        ],
    )
    .await;
}

/// N11.
#[tokio::test]
async fn each_of_the_three_decisions_reaches_the_caller() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    for decision in ["allow", "challenge", "block"] {
        let answer = Answer::json(&json!({"action": decision}));
        scene.receiver.script("/risk", [answer]);
        assert_eq!(login(&scene).await["action"], decision);
    }
    scene.receiver.always("/risk", Answer::json(&json!({})));
    assert_eq!(
        without_id(login(&scene).await),
        json!({
            "action": "allow", "custom_claims": {},
            "results": {"risk": {"action": "allow", "data": {}, "custom_claims": {}}}
        })
    );
}

/// N4, N10.
#[tokio::test]
async fn several_flows_of_one_event_are_asked_in_turn_and_answer_as_one() {
    let (scene, _worker) = asking(json!([
        enrich("risk", json!({})),
        enrich("email", json!({}))
    ]))
    .await;
    flow_on(
        &scene,
        "second",
        "login",
        json!([enrich("risk", json!({})), tell("email")]),
    )
    .await;
    scene.receiver.script(
        "/risk",
        [
            Answer::json(&json!({"custom_claims": {"by": "first", "first": true}})),
            Answer::json(&json!({"action": "challenge", "custom_claims": {"by": "second"}})),
        ],
    );
    scene.receiver.script("/email", [data(json!({"ok": true}))]);
    let answer = login(&scene).await;
    assert_eq!(names(&answer), ["email", "risk", "second/risk"]);
    assert_eq!(answer["action"], "challenge");
    assert_eq!(
        answer["custom_claims"],
        json!({"by": "second", "first": true})
    );
    assert_eq!(answer["results"]["second/risk"]["action"], "challenge");
    let flow =
        |path: &str, at: usize| scene.receiver.requests(path)[at].json()["data"]["flow"].clone();
    assert_eq!([flow("/risk", 0), flow("/risk", 1)], ["gate", "second"]);
    wait_for_attempts(
        &scene,
        "flow, action",
        &["gate|risk", "gate|email", "second|risk"],
    )
    .await;
    scene.settle().await;
    assert_eq!(
        scene
            .sql()
            .rows("select flow, state from actionflow.runs order by id")
            .await,
        ["gate|completed", "second|completed"]
    );
}

#[tokio::test]
async fn an_answer_is_a_variable_of_every_later_message_of_its_own_flow() {
    let actions = json!([
        enrich("risk", json!({})),
        enrich("more", json!({})),
        tell("crm")
    ]);
    let (scene, _worker) = asking(actions).await;
    scene.endpoint("audit", "{}").await;
    flow_on(&scene, "other", "login", json!([tell("audit")])).await;
    scene
        .receiver
        .always("/risk", data(json!({"score": 7, "tags": ["new"]})));
    scene
        .receiver
        .always("/more", data(json!({"risk": "mine"})));
    emit(scene.sql(), "login", "42", json!({"ip": "203.0.113.9"})).await;
    scene.settle().await;
    let variables =
        |path: &str| scene.receiver.requests(path)[0].json()["data"]["variables"].clone();
    let risk = json!({"score": 7, "tags": ["new"]});
    assert_eq!(variables("/risk"), json!({"ip": "203.0.113.9"}));
    assert_eq!(
        variables("/more"),
        json!({"ip": "203.0.113.9", "risk": risk})
    );
    assert_eq!(
        variables("/crm"),
        json!({"ip": "203.0.113.9", "risk": risk, "more": {"risk": "mine"}})
    );
    assert_eq!(variables("/audit"), json!({"ip": "203.0.113.9"}));
}

/// N9.
#[tokio::test]
async fn a_question_says_of_the_customer_the_id_alone_and_is_signed() {
    let (scene, _worker) = asking(json!([])).await;
    let secret = scene
        .endpoint("risk", r#"{"headers": {"x-key": "k"}}"#)
        .await;
    flow_on(&scene, "ask", "login", json!([enrich("risk", json!({}))])).await;
    scene.receiver.always("/risk", data(json!({})));
    scene
        .sql()
        .run("insert into customers (id, email, name) values (42, 'ana@example.com', 'Ana')")
        .await;
    let at = "timestamptz '2026-11-22 03:00:00.5+00'";
    let answer = scene
        .sql()
        .json(&format!(
            r#"select actionflow.emit_event('login', '42', '{{"ip": "203.0.113.9"}}', occurred_at => {at})"#
        ))
        .await;
    let request = scene.receiver.wait_for_one("/risk").await;
    let run = scene
        .sql()
        .text("select r.id || '|' || r.flow_invocation_id from actionflow.runs as r where r.flow = 'ask'")
        .await;
    let (run, invocation) = run.split_once('|').expect("two columns");
    assert_eq!(
        request.json(),
        json!({
            "type": "login", "timestamp": "2026-11-22T03:00:00.500Z",
            "data": {
                "mode": "live", "flow": "ask", "version": 1, "run_id": run, "flow_invocation_id": invocation,
                "action": "risk", "user": {"id": "42"}, "variables": {"ip": "203.0.113.9"},
                "event": {"id": answer["event_id"], "name": "login", "properties": {"ip": "203.0.113.9"}},
                "notificationDetail": {}, "metadata": {}
            }
        })
    );
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/risk")
    );
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("x-key"), "k");
    assert!(request.id().parse::<i64>().is_ok(), "{}", request.id());
    verification(&request, &request.body, &secret).expect("the signature is right");
    assert!(!is_signed_with(
        &request,
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    ));
    let columns = "request_id, event_id, run_id";
    let row = format!(
        "{}|{}|{run}",
        request.id(),
        answer["event_id"].as_str().expect("text")
    );
    wait_for_attempts(&scene, columns, &[&row]).await;
}

#[tokio::test]
async fn the_rest_of_the_flow_is_told_when_the_transaction_commits_and_not_before() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({})), tell("crm")])).await;
    scene.receiver.always("/risk", data(json!({"score": 7})));
    scene.endpoint("audit", "{}").await;
    flow_on(&scene, "other", "purchase", json!([tell("audit")])).await;
    let session = scene.db.session().await;
    session.run("begin").await;
    emit(&session, "login", "42", json!({})).await;
    assert_eq!(session.text(WRITTEN).await, "1|1|1");
    assert_eq!(scene.sql().text(WRITTEN).await, "0|0|0");
    // The worker has been through the queue after the answer.
    emit(scene.sql(), "purchase", "42", json!({})).await;
    scene.receiver.wait_for_one("/audit").await;
    assert!(scene.receiver.requests("/crm").is_empty());
    session.run("commit").await;
    scene.receiver.wait_for_one("/crm").await;
    scene.settle().await;
}

#[tokio::test]
async fn a_rollback_takes_everything_but_the_log_of_attempts() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({})), tell("crm")])).await;
    let answer = json!({"action": "block", "reason": "stolen card"});
    scene.receiver.always("/risk", Answer::json(&answer));
    let session = scene.db.session().await;
    session.run("begin").await;
    let event = emit(&session, "login", "42", json!({})).await["event_id"].clone();
    session.run("rollback").await;
    let row = format!("{}|42|block|stolen card", event.as_str().expect("text"));
    wait_for_attempts(&scene, "event_id, user_id, outcome, reason", &[&row]).await;
    assert_eq!(scene.sql().text(WRITTEN).await, "0|0|0");
    session.run("begin; savepoint s").await;
    emit(&session, "login", "43", json!({})).await;
    session.run("rollback to s").await;
    emit(&session, "login", "44", json!({})).await;
    session.run("commit").await;
    scene.settle().await;
    assert_eq!(
        scene
            .sql()
            .rows("select user_id from actionflow.events")
            .await,
        ["44"]
    );
    let told = scene.receiver.requests("/crm");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].user_id(), "44");
    wait_for_attempts(&scene, "user_id", &["42", "43", "44"]).await;
}

#[tokio::test]
async fn a_blocked_event_is_an_event_like_any_other() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({})), tell("crm")])).await;
    scene
        .receiver
        .always("/risk", Answer::json(&json!({"action": "block"})));
    login(&scene).await;
    scene.receiver.wait_for_one("/crm").await;
    scene.settle().await;
    assert_eq!(scene.sql().text(WRITTEN).await, "1|1|1");
}

#[tokio::test]
async fn without_a_flow_that_begins_with_a_question_nobody_is_asked() {
    let (scene, _worker) = asking(json!([tell("crm"), enrich("risk", json!({}))])).await;
    scene.receiver.always("/crm", Answer::Held(200));
    scene.receiver.always("/risk", data(json!({})));
    let nothing = json!({"action": "allow", "custom_claims": {}, "results": {}});
    assert_eq!(without_id(login(&scene).await), nothing);
    let other = emit(scene.sql(), "purchase", "42", json!({})).await;
    assert_eq!(without_id(other), nothing);
    scene.receiver.release(1);
    scene.settle().await;
    let archived = "select actionflow.archive_flow('gate')";
    scene.sql().run(archived).await;
    assert_eq!(without_id(login(&scene).await), nothing);
    assert_eq!(scene.receiver.requests("/risk").len(), 1);
}

#[tokio::test]
async fn a_test_asks_the_draft_at_the_test_address_and_only_about_test_users() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    let options = json!({"test_url": scene.receiver.url("/risk-test")});
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('risk', '{options}')"
        ))
        .await;
    let draft = json!({"actions": [enrich("risk", json!({"name": "draft"}))]});
    scene
        .sql()
        .run(&format!("select actionflow.update_flow('gate', '{draft}')"))
        .await;
    scene
        .sql()
        .run("select actionflow.add_test_user('1')")
        .await;
    scene
        .receiver
        .always("/risk-test", data(json!({"is": "test"})));
    scene.receiver.always("/risk", data(json!({"is": "live"})));
    let test =
        |user: &str| format!("select actionflow.emit_event('login', '{user}', mode => 'test')");
    let answer = scene.sql().json(&test("1")).await;
    assert_eq!(answer["results"]["draft"]["data"], json!({"is": "test"}));
    let message = scene.receiver.wait_for_one("/risk-test").await.json();
    assert_eq!(
        (&message["data"]["mode"], &message["data"]["version"]),
        (&json!("test"), &json!(null))
    );
    assert_eq!(names(&scene.sql().json(&test("2")).await), [""; 0]);
    assert!(scene.receiver.requests("/risk").is_empty());
    let live = emit(scene.sql(), "login", "2", json!({})).await;
    assert_eq!(live["results"]["risk"]["data"], json!({"is": "live"}));
    wait_for_attempts(
        &scene,
        "mode, user_id, action",
        &["test|1|draft", "live|2|risk"],
    )
    .await;
}

#[tokio::test]
async fn without_a_required_variable_nobody_is_asked_and_on_failure_decides() {
    let (scene, _worker) = asking(json!([])).await;
    scene.endpoint("risk", "{}").await;
    for on_failure in ["block", "error"] {
        let definition = json!({"variables": {"ip": {"required": true}, "via": {"default": "web"}},
            "actions": [enrich("risk", json!({"on_failure": on_failure}))]});
        publish(scene.sql(), on_failure, &definition.to_string()).await;
        scene.trigger(on_failure, &format!("on-{on_failure}")).await;
    }
    scene.receiver.always("/risk", data(json!({})));
    let answer = emit(scene.sql(), "on-block", "42", json!({})).await;
    assert_eq!(answer["results"]["risk"], failure("block", "unsendable"));
    assert_eq!(answer["action"], "block");
    let error = scene
        .sql()
        .error(&emission("on-error", "42", &json!({})))
        .await;
    assert_eq!(error.code, "38000", "{error:?}");
    let runs = "select flow, state, error from actionflow.runs";
    assert_eq!(
        scene.sql().rows(runs).await,
        ["block|failed|required variable \"ip\" is missing"]
    );
    assert!(scene.receiver.all().is_empty());
    emit(scene.sql(), "on-block", "42", json!({"ip": "203.0.113.9"})).await;
    let asked = scene.receiver.wait_for_one("/risk").await.json();
    assert_eq!(
        asked["data"]["variables"],
        json!({"ip": "203.0.113.9", "via": "web"})
    );
    wait_for_attempts(&scene, "outcome", &["allow"]).await;
}
