//! Each role asks, answers or reads as it is meant to, and none does what another one is for.

use actionflow_tests::{Answer, Session};
use serde_json::json;

use crate::asking::{asking, data, emit, enrich, flow_on, login, tell, wait_for_attempts};
use crate::scene::{Scene, wait_for_rows};

const ROLES: [&str; 4] = ["app", "reader", "worker", "stranger"];

/// Statements, each with the roles that may run it.
const STATEMENTS: &[(&str, &str)] = &[
    ("app", "select actionflow.emit_event('login', '42')"),
    ("worker", "select * from actionflow.take_enrichments(0, 0)"),
    (
        "worker",
        "select actionflow.answer_enrichments('{1}', '{null}')",
    ),
    ("worker", "select actionflow.leave_enrichments()"),
    ("worker", "select actionflow.enrich_endpoint(1)"),
    ("worker", "select actionflow.record_enrichments('[]')"),
    ("reader", "select * from actionflow.enrich_attempts"),
    ("reader", "select breaker from actionflow.endpoint_health"),
    ("", "select * from actionflow._enrich_attempt"),
    ("", "select * from actionflow._endpoint"),
    ("", "select * from actionflow._endpoint_secret"),
    ("", "select actionflow._endpoint_for_worker(1)"),
    (
        "",
        "select actionflow.enrich_before_insert('customers', 'login')",
    ),
    (
        "",
        "select actionflow.stop_enrich_before_insert('customers', 'login')",
    ),
];

fn role_name(scene: &Scene, role: &str) -> String {
    format!("{}_{role}", scene.db.name())
}

async fn make_roles(scene: &Scene) {
    for role in ROLES {
        let name = role_name(scene, role);
        scene.sql().run(&format!("create role {name} login")).await;
        if role != "stranger" {
            scene
                .sql()
                .run(&format!("select actionflow.grant_{role}('{name}')"))
                .await;
        }
    }
}

#[tokio::test]
async fn each_role_has_its_own_part_in_a_question() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    scene.receiver.always("/risk", data(json!({})));
    login(&scene).await;
    scene
        .sql()
        .run(
            "select actionflow.enrich_before_insert('customers', 'login', '{\"user_id\": \"id\"}')",
        )
        .await;
    make_roles(&scene).await;
    let mut wrong = Vec::new();
    for role in ROLES {
        let session = Session::connect(&scene.db.url_as(&role_name(&scene, role))).await;
        for (allowed, statement) in STATEMENTS {
            session.run("begin").await;
            let result = session.try_rows(statement).await;
            session.run("rollback").await;
            let may = allowed.split(' ').any(|allowed| allowed == role);
            match result {
                Ok(_) if may => {}
                Err(error) if !may && error.code == "42501" => {}
                other => wrong.push(format!("{role}: {statement}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn an_app_asks_and_a_reader_reads_what_was_answered() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({})), tell("crm")])).await;
    let answer = json!({"action": "challenge", "reason": "new device", "custom_claims": {"a": 1}});
    scene.receiver.always("/risk", Answer::json(&answer));
    make_roles(&scene).await;
    let app = Session::connect(&scene.db.url_as(&role_name(&scene, "app"))).await;
    let answer = emit(&app, "login", "42", json!({})).await;
    assert_eq!(
        (&answer["action"], &answer["custom_claims"]),
        (&json!("challenge"), &json!({"a": 1}))
    );
    scene.settle().await;
    wait_for_attempts(&scene, "user_id", &["42"]).await;
    let reader = Session::connect(&scene.db.url_as(&role_name(&scene, "reader"))).await;
    let rows = reader
        .rows("select user_id, outcome, reason from actionflow.enrich_attempts")
        .await;
    assert_eq!(rows, ["42|challenge|new device"]);
}

#[tokio::test]
async fn a_worker_needs_no_more_than_its_role_for_questions_of_every_kind() {
    let (scene, first) = asking(json!([])).await;
    first.stop().await;
    make_roles(&scene).await;
    let url = scene.db.url_as(&role_name(&scene, "worker"));
    let _worker = scene.db.worker_builder().database_url(url).start().await;
    for name in ["risk", "crm", "gone"] {
        scene.endpoint(name, "{}").await;
        scene
            .receiver
            .always(&format!("/{name}"), data(json!({"n": 1})));
    }
    scene.receiver.always("/gone", Answer::Status(410));
    let actions = json!([
        enrich("risk", json!({"cache_seconds": 60})),
        enrich("gone", json!({"on_failure": "allow"})),
        tell("crm"),
        {"name": "later", "type": "enrich", "endpoint": "risk"},
        {"name": "end", "type": "notify", "endpoint": "crm"}
    ]);
    flow_on(&scene, "all", "login", actions).await;
    for _ in 0..2 {
        assert_eq!(
            login(&scene).await["results"]["risk"]["data"],
            json!({"n": 1})
        );
    }
    let told = scene.receiver.wait_for("/crm", 4).await;
    let ended = told
        .iter()
        .filter(|request| request.json()["data"]["action"] == "end");
    let variables = json!({"risk": {"n": 1}, "later": {"n": 1}});
    assert!(
        ended
            .clone()
            .all(|request| request.json()["data"]["variables"] == variables)
    );
    assert_eq!(ended.count(), 2);
    scene.settle().await;
    let attempts = "select count(*) filter (where is_cached), count(*) filter (where status = 410) > 0 from actionflow.enrich_attempts";
    wait_for_rows(scene.sql(), attempts, &["1|t"]).await;
    let gone = "select state from actionflow.endpoint_health where endpoint = 'gone'";
    wait_for_rows(scene.sql(), gone, &["disabled"]).await;
}

#[tokio::test]
async fn whatever_an_id_looks_like_it_is_asked_about_and_logged_as_it_is() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    scene.receiver.always("/risk", data(json!({})));
    let ids = [
        "ö \"quoted\" \\ back",
        "'; drop table x; --",
        "4\u{1}2",
        "😀",
        " ",
    ];
    for id in ids {
        emit(scene.sql(), "login", &id.replace('\'', "''"), json!({})).await;
    }
    let asked: Vec<_> = scene
        .receiver
        .requests("/risk")
        .iter()
        .map(|request| request.user_id())
        .collect();
    assert_eq!(asked, ids);
    wait_for_attempts(&scene, "user_id", &ids).await;
}
