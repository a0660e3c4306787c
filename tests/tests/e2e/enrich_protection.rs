//! A dead or slow endpoint costs its callers little, and a change of an endpoint counts at once.

use std::time::{Duration, Instant};

use actionflow_tests::{Answer, Worker};
use serde_json::{Value, json};

use crate::asking::{asking, data, emission, emit, enrich, failure, flow_on, login};
use crate::scene::{Scene, is_signed_with, publish, wait_for_rows};
use crate::steps::Meanwhile;

/// A flow `ask` that asks an endpoint `risk` with these options.
async fn guarded(options: Value) -> (Scene, Worker) {
    let (scene, worker) = asking(json!([])).await;
    scene.endpoint("risk", &options.to_string()).await;
    let action = enrich("risk", json!({"on_failure": "challenge"}));
    flow_on(&scene, "ask", "login", json!([action])).await;
    (scene, worker)
}

/// How the action ends: its decision, or the kind of its failure.
async fn outcome(scene: &Scene) -> String {
    let result = &login(scene).await["results"]["risk"];
    let outcome = result.get("failure").unwrap_or(&result["action"]);
    outcome.as_str().expect("text").to_owned()
}

async fn breaker(scene: &Scene) -> String {
    scene
        .sql()
        .text(
            "select breaker, breaker_open_until is not null, enrich_failures, enrich_in_flight
             from actionflow.endpoint_health where endpoint = 'risk'",
        )
        .await
}

#[tokio::test]
async fn after_some_failures_in_a_row_nobody_is_asked_and_the_health_says_so() {
    let (scene, _worker) = guarded(json!({"breaker_failures": 3, "breaker_seconds": 3600})).await;
    let failing = Answer::Status(500);
    scene.receiver.script(
        "/risk",
        [
            failing.clone(),
            failing.clone(),
            data(json!({})),
            failing.clone(),
        ],
    );
    for expected in ["status", "status", "allow", "status"] {
        assert_eq!(outcome(&scene).await, expected);
    }
    assert_eq!(
        breaker(&scene).await,
        "closed|f|1|0",
        "an answer sets the count back"
    );
    scene.receiver.always("/risk", failing);
    for expected in [
        "status",
        "status",
        "breaker_open",
        "breaker_open",
        "breaker_open",
    ] {
        assert_eq!(outcome(&scene).await, expected);
    }
    assert_eq!(scene.receiver.requests("/risk").len(), 6);
    assert!(
        breaker(&scene).await.starts_with("open|t|3|"),
        "{}",
        breaker(&scene).await
    );
    let until = "select breaker_open_until between clock_timestamp() + interval '50 minutes'
        and clock_timestamp() + interval '70 minutes' from actionflow.endpoint_health where endpoint = 'risk'";
    assert_eq!(scene.sql().text(until).await, "t");
    let refused = "select count(*) from actionflow.enrich_attempts";
    wait_for_rows(scene.sql(), refused, &["6"]).await;
}

#[tokio::test]
async fn an_open_breaker_answers_at_once_with_what_on_failure_says() {
    let (scene, _worker) = guarded(json!({"breaker_failures": 1, "breaker_seconds": 3600})).await;
    flow_on(
        &scene,
        "strict",
        "purchase",
        json!([enrich("risk", json!({}))]),
    )
    .await;
    scene.receiver.always("/risk", Answer::Status(500));
    assert_eq!(outcome(&scene).await, "status");
    scene.receiver.always("/risk", Answer::Hang);
    let started = Instant::now();
    for _ in 0..20 {
        let answer = login(&scene).await;
        assert_eq!(
            answer["results"]["risk"],
            failure("challenge", "breaker_open")
        );
    }
    // The time of one of them, if it were asked, is two seconds.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    let error = scene
        .sql()
        .error(&emission("purchase", "42", &json!({})))
        .await;
    assert_eq!(error.code, "38000");
    assert!(error.message.ends_with("failed: breaker_open"), "{error:?}");
    assert_eq!(scene.receiver.requests("/risk").len(), 1);
}

#[tokio::test]
async fn one_probe_closes_a_breaker_or_opens_it_again() {
    let (scene, _worker) = guarded(json!({"breaker_failures": 2, "breaker_seconds": 1})).await;
    let rested = async || {
        let over = "select breaker_open_until <= clock_timestamp() from actionflow.endpoint_health where endpoint = 'risk'";
        wait_for_rows(scene.sql(), over, &["t"]).await;
    };
    scene.receiver.always("/risk", Answer::Status(500));
    for _ in 0..2 {
        assert_eq!(outcome(&scene).await, "status");
    }
    assert!(breaker(&scene).await.starts_with("open|t|"));
    let until = "select breaker_open_until from actionflow.endpoint_health where endpoint = 'risk'";
    let first = scene.sql().text(until).await;
    rested().await;
    assert_eq!(outcome(&scene).await, "status", "the probe");
    assert_eq!(scene.receiver.requests("/risk").len(), 3);
    assert_ne!(
        scene.sql().text(until).await,
        first,
        "a failed probe opens it anew"
    );
    rested().await;

    scene
        .receiver
        .always("/risk", Answer::Later(Box::new(data(json!({})))));
    let probe = Meanwhile::start(
        scene.db.session().await,
        &emission("login", "42", &json!({})),
    )
    .await;
    scene.receiver.wait_for("/risk", 4).await;
    assert!(
        breaker(&scene).await.starts_with("half_open|f|"),
        "{}",
        breaker(&scene).await
    );
    assert_eq!(
        outcome(&scene).await,
        "breaker_open",
        "while the probe is under way"
    );
    scene.receiver.release(1);
    probe.finish().await;
    assert_eq!(breaker(&scene).await, "closed|f|0|0");
    scene.receiver.always("/risk", data(json!({})));
    assert_eq!(outcome(&scene).await, "allow");
    assert_eq!(scene.receiver.requests("/risk").len(), 5);
}

#[tokio::test]
async fn a_breaker_stands_before_one_endpoint_only() {
    let (scene, _worker) = guarded(json!({"breaker_failures": 1, "breaker_seconds": 3600})).await;
    scene.endpoint("other", "{}").await;
    flow_on(
        &scene,
        "other",
        "login",
        json!([enrich("other", json!({}))]),
    )
    .await;
    scene.receiver.always("/risk", Answer::Status(500));
    scene.receiver.always("/other", data(json!({})));
    login(&scene).await;
    let answer = login(&scene).await;
    assert_eq!(
        answer["results"]["risk"],
        failure("challenge", "breaker_open")
    );
    assert_eq!(answer["results"]["other"]["action"], "allow");
}

#[tokio::test]
async fn more_than_max_in_flight_are_refused_at_once() {
    let (scene, _worker) = guarded(json!({"max_in_flight": 2})).await;
    scene
        .receiver
        .always("/risk", Answer::Later(Box::new(data(json!({})))));
    let statement = emission("login", "42", &json!({}));
    let mut under_way = Vec::new();
    for _ in 0..2 {
        under_way.push(Meanwhile::start(scene.db.session().await, &statement).await);
    }
    scene.receiver.wait_for("/risk", 2).await;
    assert_eq!(breaker(&scene).await, "closed|f|0|2");
    for _ in 0..10 {
        assert_eq!(outcome(&scene).await, "too_many_in_flight");
    }
    assert!(under_way.iter().all(|login| !login.is_finished()));
    scene.receiver.release(3);
    for login in under_way {
        let (_, rows) = login.finish().await;
        assert!(rows[0].contains(r#""allow""#), "{rows:?}");
    }
    assert_eq!(outcome(&scene).await, "allow");
    assert_eq!(scene.receiver.requests("/risk").len(), 3);
    assert_eq!(
        breaker(&scene).await,
        "closed|f|0|0",
        "a refusal is not the endpoint's fault"
    );
}

#[tokio::test]
async fn a_disabled_endpoint_is_not_asked_until_it_is_enabled() {
    let (scene, _worker) = guarded(json!({})).await;
    scene.receiver.always("/risk", data(json!({})));
    scene
        .sql()
        .run("select actionflow.disable_endpoint('risk')")
        .await;
    assert_eq!(outcome(&scene).await, "disabled");
    assert!(scene.receiver.all().is_empty());
    scene
        .sql()
        .run("select actionflow.enable_endpoint('risk')")
        .await;
    assert_eq!(outcome(&scene).await, "allow");
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled() {
    let (scene, _worker) = guarded(json!({})).await;
    scene.receiver.always("/risk", Answer::Status(410));
    assert_eq!(outcome(&scene).await, "status");
    let health =
        "select state, disabled_reason from actionflow.endpoint_health where endpoint = 'risk'";
    wait_for_rows(scene.sql(), health, &["disabled|answered 410 Gone"]).await;
    assert_eq!(outcome(&scene).await, "disabled");
    assert_eq!(scene.receiver.all().len(), 1);
}

#[tokio::test]
async fn the_very_next_request_has_the_new_secret_headers_and_address() {
    let (scene, _worker) = guarded(json!({"headers": {"x-key": "one"}})).await;
    for path in ["/risk", "/moved"] {
        scene.receiver.always(path, data(json!({})));
    }
    outcome(&scene).await;
    assert_eq!(scene.receiver.requests("/risk")[0].header("x-key"), "one");
    for turn in 1..10 {
        let secret = scene
            .sql()
            .text("select actionflow.rotate_endpoint_secret('risk', '0')")
            .await;
        scene
            .sql()
            .run(&format!(
                r#"select actionflow.update_endpoint('risk', '{{"headers": {{"x-key": "{turn}"}}}}')"#
            ))
            .await;
        assert_eq!(outcome(&scene).await, "allow");
        let request = scene.receiver.requests("/risk").pop().expect("a request");
        assert_eq!(request.header("x-key"), turn.to_string());
        assert!(is_signed_with(&request, &secret), "turn {turn}");
    }
    let moved = json!({"url": scene.receiver.url("/moved")});
    let before = scene.receiver.requests("/risk").len();
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('risk', '{moved}')"
        ))
        .await;
    assert_eq!(outcome(&scene).await, "allow");
    assert_eq!(scene.receiver.requests("/moved").len(), 1);
    assert_eq!(scene.receiver.requests("/risk").len(), before);
}

#[tokio::test]
async fn an_endpoint_that_nobody_else_can_see_yet_is_a_failure() {
    let (scene, _worker) = asking(json!([])).await;
    let session = scene.db.session().await;
    session.run("begin").await;
    crate::scene::create_endpoint(&session, "new", &scene.receiver.url("/new"), "{}").await;
    let definition = json!({"actions": [enrich("new", json!({"on_failure": "block"}))]});
    publish(&session, "fresh", &definition.to_string()).await;
    session
        .run("select actionflow.add_event_trigger('fresh', 'login')")
        .await;
    let answer = emit(&session, "login", "42", json!({})).await;
    assert_eq!(answer["results"]["new"], failure("block", "unsendable"));
    session.run("commit").await;
    scene.receiver.always("/new", data(json!({})));
    assert_eq!(login(&scene).await["action"], "allow");
}

#[tokio::test]
async fn a_change_in_the_callers_own_transaction_counts_for_its_question() {
    let (scene, _worker) = guarded(json!({})).await;
    for path in ["/risk", "/moved"] {
        scene.receiver.always(path, data(json!({})));
    }
    let session = scene.db.session().await;
    let moved = json!({"url": scene.receiver.url("/moved")});
    session
        .run(&format!(
            "begin; select actionflow.update_endpoint('risk', '{moved}')"
        ))
        .await;
    emit(&session, "login", "42", json!({})).await;
    assert_eq!(outcome(&scene).await, "allow");
    session.run("rollback").await;
    assert_eq!(outcome(&scene).await, "allow");
    let count = |path: &str| scene.receiver.requests(path).len();
    assert_eq!((count("/moved"), count("/risk")), (1, 2));
}
