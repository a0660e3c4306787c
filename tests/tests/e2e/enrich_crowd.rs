//! Many runs that ask at once, from the queue and from sessions: each goes on with its own answer.

use std::collections::BTreeSet;

use actionflow_tests::{Answer, Request};
use serde_json::json;

use crate::asking::{asking, emit, enrich, flow_on, names, tell};
use crate::scene::wait_for_rows;

const CUSTOMERS: usize = 500;

/// Data that names the customer who was asked about, and a decision that nobody waits for.
fn by_user(request: &Request) -> Answer {
    Answer::json(&json!({"action": "block", "data": {"about": request.user_id()}}))
}

#[tokio::test]
async fn each_of_many_runs_in_the_queue_goes_on_with_its_own_answers() {
    let (scene, _worker) = asking(json!([])).await;
    for name in ["risk", "more", "crm"] {
        scene.endpoint(name, "{}").await;
        scene
            .receiver
            .always(&format!("/{name}"), Answer::By(by_user));
    }
    let actions = json!([
        enrich("risk", json!({})),
        enrich("more", json!({})),
        tell("crm")
    ]);
    flow_on(&scene, "later", "user-created", actions).await;
    scene
        .sql()
        .run(&format!(
            "insert into customers (id) select generate_series(1, {CUSTOMERS})"
        ))
        .await;
    wait_for_rows(
        scene.sql(),
        "select state, count(*) from actionflow.runs group by state",
        &[&format!("completed|{CUSTOMERS}")],
    )
    .await;
    scene.settle().await;
    let told = scene.receiver.requests("/crm");
    let users: BTreeSet<_> = told.iter().map(Request::user_id).collect();
    assert_eq!((told.len(), users.len()), (CUSTOMERS, CUSTOMERS));
    for request in told {
        let about = json!({"about": request.user_id()});
        let variables = &request.json()["data"]["variables"];
        assert_eq!(variables, &json!({"risk": about, "more": about}));
    }
}

#[tokio::test]
async fn a_trigger_in_test_mode_asks_about_test_users_only() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    let options = json!({"test_url": scene.receiver.url("/risk-test")});
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('risk', '{options}'), actionflow.add_test_user('1');
             select actionflow.set_trigger_mode(t.id, 'test') from actionflow.triggers as t where t.kind = 'event'"
        ))
        .await;
    scene.receiver.always("/risk-test", Answer::By(by_user));
    let login = async |user: &str| {
        let statement = format!("select actionflow.emit_event('login', '{user}')");
        scene.sql().json(&statement).await
    };
    assert_eq!(
        login("1").await["results"]["risk"]["data"],
        json!({"about": "1"})
    );
    assert_eq!(names(&login("2").await), [""; 0]);
    scene
        .sql()
        .run("select actionflow.set_trigger_mode(t.id, 'disabled') from actionflow.triggers as t where t.kind = 'event'")
        .await;
    assert_eq!(names(&login("1").await), [""; 0]);
    assert_eq!(scene.receiver.all().len(), 1);
}

#[tokio::test]
async fn what_an_event_says_does_not_stand_for_an_answer_that_failed() {
    let actions = json!([enrich("risk", json!({"on_failure": "allow"})), tell("crm")]);
    let (scene, _worker) = asking(actions).await;
    scene.receiver.always("/risk", Answer::Status(500));
    let forged = json!({"risk": {"score": 0}, "ip": "203.0.113.9"});
    emit(scene.sql(), "login", "42", forged).await;
    let told = scene.receiver.wait_for_one("/crm").await.json();
    assert_eq!(told["data"]["variables"], json!({"ip": "203.0.113.9"}));
    scene.settle().await;
}

#[tokio::test]
async fn a_flow_that_an_event_starts_several_times_has_as_many_results() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    for _ in 0..2 {
        scene.trigger("gate", "login").await;
    }
    scene.receiver.always("/risk", Answer::By(by_user));
    let answer = emit(scene.sql(), "login", "42", json!({})).await;
    assert_eq!(scene.receiver.requests("/risk").len(), 3);
    assert_eq!(names(&answer).len(), 3, "{answer}");
}
