//! What asks lives with the rest of the database: watched tables, dumps, retention, and the extension's end.

use actionflow_tests::{Answer, Cluster, Database};
use serde_json::json;

use crate::asking::{asking, data, emit, enrich, flow_on, tell, tell_and_wait, wait_for_attempts};
use crate::enrich_rows::{ask_before, by_ip, with_logins};
use crate::keys::EC_PUBLIC;
use crate::scene::{Scene, wait_for_rows};

/// N7, N9.
#[tokio::test]
async fn of_a_deleted_customer_a_question_says_the_id_and_a_later_message_the_profile() {
    let (scene, _worker) = asking(json!([])).await;
    for name in ["risk", "crm"] {
        scene.endpoint(name, "{}").await;
    }
    flow_on(
        &scene,
        "bye",
        "user-deleted",
        json!([enrich("risk", json!({})), tell("crm")]),
    )
    .await;
    scene.receiver.always("/risk", data(json!({"keep": true})));
    scene
        .sql()
        .run(
            "insert into customers (id, email, name) values (42, 'ana@example.com', 'Ana');
             delete from customers",
        )
        .await;
    let told = scene.receiver.wait_for_one("/crm").await.json();
    let profile = json!({"id": "42", "email": "ana@example.com", "name": "Ana"});
    assert_eq!(told["data"]["user"], profile);
    assert_eq!(told["data"]["variables"], json!({"risk": {"keep": true}}));
    let asked = scene.receiver.wait_for_one("/risk").await;
    assert_eq!(asked.json()["data"]["user"], json!({"id": "42"}));
    assert!(!String::from_utf8_lossy(&asked.body).contains("ana@example.com"));
    scene.settle().await;
}

/// N8.
#[tokio::test]
async fn the_link_of_an_email_is_told_after_a_wait_and_a_question_as_before() {
    let (scene, _worker) = asking(json!([])).await;
    for name in ["first", "risk", "mailer"] {
        scene.endpoint(name, "{}").await;
    }
    let actions = json!([
        tell_and_wait("first"),
        enrich("risk", json!({})),
        tell("mailer")
    ]);
    flow_on(&scene, "mail", "registration", actions).await;
    scene.receiver.always("/risk", data(json!({"score": 7})));
    scene
        .receiver
        .always("/mailer", Answer::Full(200, Vec::new(), "said".to_owned()));
    scene
        .sql()
        .run("insert into customers (id, email, name) values (42, 'ana@example.com', 'Ana')")
        .await;
    let link = json!({"verification_url": "https://id.example.com/v?t=hidden"});
    emit(scene.sql(), "registration", "42", link.clone()).await;
    let told = scene.receiver.wait_for_one("/mailer").await.json();
    assert_eq!(told["data"]["event"]["properties"], link);
    assert_eq!(
        told["data"]["user"],
        json!({"id": "42", "email": "ana@example.com"})
    );
    assert_eq!(told["data"]["variables"]["risk"], json!({"score": 7}));
    let asked = scene.receiver.wait_for_one("/risk").await;
    assert!(!String::from_utf8_lossy(&asked.body).contains("hidden"));
    scene.settle().await;
    let kept = "select count(*) from actionflow.delivery_attempts where response_prefix is not null and response_prefix = 'said'";
    assert_eq!(scene.sql().number(kept).await, 0);
}

#[tokio::test]
async fn a_watched_table_asks_before_it_tells() {
    let (scene, _worker) = asking(json!([])).await;
    for name in ["risk", "crm"] {
        scene.endpoint(name, "{}").await;
    }
    flow_on(
        &scene,
        "check",
        "signup",
        json!([enrich("risk", json!({}))]),
    )
    .await;
    flow_on(&scene, "welcome", "user-created", json!([tell("crm")])).await;
    let options = json!({"user_id": "id", "properties": ["email"], "fill": {"name": "results.risk.data.name"}, "on_block": "skip"});
    scene
        .sql()
        .run(&format!(
            "select actionflow.enrich_before_insert('customers', 'signup', '{options}')"
        ))
        .await;
    scene.receiver.script(
        "/risk",
        [
            data(json!({"name": "Ana"})),
            Answer::json(&json!({"action": "block"})),
        ],
    );
    scene
        .sql()
        .run("insert into customers (id, email) values (1, 'ana@example.com'), (2, 'bot@example.com')")
        .await;
    let told = scene.receiver.wait_for_one("/crm").await.json();
    let user = json!({"id": "1", "email": "ana@example.com", "name": "Ana"});
    assert_eq!(told["data"]["user"], user);
    scene.settle().await;
    assert_eq!(scene.sql().rows("select id from customers").await, ["1"]);
}

#[tokio::test]
async fn a_restored_dump_asks_as_before_and_asks_nobody_while_it_is_restored() {
    let (scene, worker) = with_logins(r#"{"on_block": "skip"}"#).await;
    by_ip(&scene);
    let options = json!({"breaker_failures": 7, "answer_key": null, "headers": {"x": "y"}});
    let key = json!({"answer_key": {"algorithm": "ES256", "key": EC_PUBLIC}});
    scene.endpoint("signed", &key.to_string()).await;
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('risk', '{options}')"
        ))
        .await;
    scene
        .sql()
        .run("insert into logins (user_id, ip) values (1, 'allow'), (2, 'block')")
        .await;
    wait_for_attempts(&scene, "user_id, outcome", &["1|allow", "2|block"]).await;
    worker.stop().await;
    let copy = Database::bare(Cluster::shared()).await;
    scene.db.dump_into(&copy);
    for question in [
        "select * from actionflow.enrich_attempts order by request_id",
        "select * from logins",
        "select e.name, e.breaker_failures, e.answer_key, e.headers from actionflow._endpoint as e order by e.name",
        "select tgname, pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'logins'::regclass",
    ] {
        assert_eq!(
            copy.sql.rows(question).await,
            scene.sql().rows(question).await
        );
    }
    assert_eq!(scene.receiver.requests("/risk").len(), 2);
    let _worker = copy.worker().await;
    copy.sql
        .run("insert into logins (user_id, ip) values (3, 'block'), (4, 'allow')")
        .await;
    let users = "select user_id from logins order by user_id";
    assert_eq!(copy.sql.rows(users).await, ["1", "4"]);
    let attempts = "select user_id from actionflow.enrich_attempts order by request_id";
    wait_for_rows(&copy.sql, attempts, &["1", "2", "3", "4"]).await;
}

#[tokio::test]
async fn attempts_are_kept_as_long_as_deliveries() {
    let (scene, _worker) = asking(json!([])).await;
    let record = |id: u32, ago: &str| {
        format!(
            r#"set actionflow.now = '{ago}';
               select actionflow.record_enrichments('[{{"request_id": {id}, "event_id": 1, "run_id": 1, "flow_id": 1,
                   "endpoint_id": 1, "action": "risk", "user_id": "42", "mode": "live", "attempt": 1, "started_at": 0,
                   "duration_us": 1500, "status": 200, "outcome": "allow", "reason": null, "error": null, "is_cached": false}}]')"#
        )
    };
    scene.endpoint("risk", "{}").await;
    let session = scene.db.session().await;
    session.run(&record(1, "2020-01-01 00:00:00Z")).await;
    session.run(&record(2, "2020-02-05 00:00:00Z")).await;
    let kept = "select request_id, duration_ms from actionflow.enrich_attempts order by request_id";
    session
        .run("set actionflow.now = '2020-01-20 00:00:00Z'; select actionflow.maintain()")
        .await;
    assert_eq!(session.rows(kept).await, ["1|1.500", "2|1.500"]);
    session
        .run("set actionflow.now = '2020-02-06 00:00:00Z'; select actionflow.maintain()")
        .await;
    assert_eq!(session.rows(kept).await, ["2|1.500"]);
}

#[tokio::test]
async fn the_extension_goes_only_together_with_the_triggers_that_ask() {
    let scene = Scene::new().await;
    scene
        .sql()
        .run("create table logins (user_id text); select actionflow.unwatch_customers('customers')")
        .await;
    ask_before(&scene, "logins", "{}").await;
    let error = scene.sql().error("drop extension actionflow").await;
    assert_eq!(error.code, "2BP01");
    assert!(error.detail.contains("logins"), "{error:?}");
    scene.sql().run("drop extension actionflow cascade").await;
    scene.sql().run("insert into logins values ('1')").await;
    assert_eq!(scene.sql().rows("select * from logins").await, ["1"]);
}
