//! A row that asks before it is inserted: refused, left out, or filled in by the answer.

use actionflow_tests::{Answer, Session, Worker};
use serde_json::{Value, json};

use crate::asking::{asking, data, enrich, flow_on, names, wait_for_attempts};
use crate::scene::{Scene, wait_for_rows};

const LOGINS: &str = "create table logins (
    id bigint generated always as identity, user_id bigint, ip text, note text default 'new',
    decision text, score numeric, message text)";

pub(crate) const FILL: &str = r#"{"fill": {"decision": "action", "score": "results.risk.data.score", "message": "user_message"}}"#;

/// A table `logins` whose inserts ask the endpoint `risk` by the event `login`.
pub(crate) async fn with_logins(options: &str) -> (Scene, Worker) {
    let (scene, worker) = asking(json!([enrich("risk", json!({}))])).await;
    scene.sql().run(LOGINS).await;
    ask_before(&scene, "logins", options).await;
    (scene, worker)
}

pub(crate) async fn ask_before(scene: &Scene, table: &str, options: &str) {
    scene
        .sql()
        .run(&format!(
            "select actionflow.enrich_before_insert('{table}', 'login', '{options}')"
        ))
        .await;
}

/// Answers by the property `ip`: each of the three decisions, with a score and a message.
pub(crate) fn by_ip(scene: &Scene) {
    scene.receiver.always(
        "/risk",
        Answer::By(|request| {
            let message = request.json();
            let ip = message["data"]["event"]["properties"]["ip"].as_str().unwrap_or("allow");
            Answer::json(&json!({"action": ip, "data": {"score": 1.5}, "user_message": format!("you are {ip}")}))
        }),
    );
}

const INSERTED: &str = "select user_id, ip, note, decision, score, message from logins order by id";

#[tokio::test]
async fn a_row_is_sent_with_its_columns_and_filled_in_by_the_answer() {
    let (scene, _worker) = with_logins(FILL).await;
    by_ip(&scene);
    scene
        .sql()
        .run("insert into logins (user_id, ip) values (42, 'allow')")
        .await;
    assert_eq!(
        scene.sql().rows(INSERTED).await,
        ["42|allow|new|allow|1.5|you are allow"]
    );
    let message = scene.receiver.wait_for_one("/risk").await.json();
    assert_eq!(message["type"], "login");
    assert_eq!(message["data"]["user"], json!({"id": "42"}));
    assert_eq!(
        message["data"]["event"]["properties"],
        json!({"id": 1, "user_id": 42, "ip": "allow", "note": "new", "decision": null, "score": null, "message": null})
    );
    scene.receiver.always("/risk", data(json!({"other": 1})));
    scene
        .sql()
        .run("insert into logins (user_id, ip, message, score) values (43, 'x', 'mine', 7)")
        .await;
    assert_eq!(
        scene.sql().rows(INSERTED).await[1],
        "43|x|new|allow||",
        "what the answer does not have is null"
    );
    wait_for_attempts(&scene, "user_id", &["42", "43"]).await;
}

#[tokio::test]
async fn a_blocked_row_is_refused_with_the_message_for_the_person() {
    let (scene, _worker) = with_logins("{}").await;
    by_ip(&scene);
    let insert = "insert into logins (user_id, ip) values (1, 'allow'), (2, 'block'), (3, 'allow')";
    let error = scene.sql().error(insert).await;
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("42501", "you are block")
    );
    scene.receiver.always(
        "/risk",
        Answer::json(&json!({"action": "block", "reason": "secret reason"})),
    );
    let error = scene
        .sql()
        .error("insert into logins (user_id) values (4)")
        .await;
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("42501", "the event was refused")
    );
    assert!(!format!("{error:?}").contains("secret reason"));
    let left = "select (select count(*) from logins), (select count(*) from actionflow.events)";
    assert_eq!(scene.sql().text(left).await, "0|0");
    wait_for_attempts(
        &scene,
        "user_id, outcome",
        &["1|allow", "2|block", "4|block"],
    )
    .await;
}

#[tokio::test]
async fn blocked_and_challenged_rows_are_what_the_options_say() {
    let rows = "insert into logins (user_id, ip) values (1, 'allow'), (2, 'block'), (3, 'challenge'), (4, 'allow')";
    for (options, expected) in [
        (json!({"on_block": "skip"}), "1 3 4"),
        (json!({"on_block": "insert"}), "1 2 3 4"),
        (json!({"on_block": "skip", "on_challenge": "skip"}), "1 4"),
        (
            json!({"on_block": "skip", "on_challenge": "insert"}),
            "1 3 4",
        ),
        (
            json!({"on_block": "insert", "on_challenge": "refuse"}),
            "42501 you are challenge",
        ),
        (json!({"on_block": "refuse"}), "42501 you are block"),
    ] {
        let (scene, _worker) = with_logins(&options.to_string()).await;
        by_ip(&scene);
        let result = match scene.sql().try_rows(rows).await {
            Ok(_) => {
                scene
                    .sql()
                    .text("select string_agg(user_id::text, ' ' order by id) from logins")
                    .await
            }
            Err(error) => format!("{} {}", error.code, error.message),
        };
        assert_eq!(result, expected, "{options}");
    }
}

#[tokio::test]
async fn a_skipped_row_is_told_of_like_any_other_event() {
    let (scene, _worker) = with_logins(r#"{"on_block": "skip"}"#).await;
    by_ip(&scene);
    scene
        .sql()
        .run("insert into logins (user_id, ip) values (1, 'block')")
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select name, user_id from actionflow.events")
            .await,
        ["login|1"]
    );
    assert_eq!(
        scene
            .sql()
            .rows("select flow, state from actionflow.runs")
            .await,
        ["gate|completed"]
    );
}

// Several threads: psql is waited for on one of them while the endpoint answers on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_of_a_copy_asks() {
    let (scene, _worker) =
        with_logins(r#"{"on_block": "skip", "fill": {"decision": "action"}}"#).await;
    by_ip(&scene);
    scene
        .db
        .psql("copy logins (user_id, ip) from stdin;\n1\tallow\n2\tblock\n3\tchallenge\n\\.\n");
    let rows = "select user_id, decision from logins order by id";
    assert_eq!(scene.sql().rows(rows).await, ["1|allow", "3|challenge"]);
    let users: Vec<_> = scene
        .receiver
        .requests("/risk")
        .iter()
        .map(|request| request.user_id())
        .collect();
    assert_eq!(users, ["1", "2", "3"]);
}

#[tokio::test]
async fn whoever_may_insert_needs_no_right_on_actionflow() {
    let (scene, _worker) = with_logins(FILL).await;
    by_ip(&scene);
    let role = format!("{}_clerk", scene.db.name());
    scene
        .sql()
        .run(&format!(
            "create role {role} login; grant insert on logins to {role}"
        ))
        .await;
    let clerk = Session::connect(&scene.db.url_as(&role)).await;
    clerk
        .run("insert into logins (user_id, ip) values (42, 'challenge')")
        .await;
    let decided = "select user_id, decision, score from logins";
    assert_eq!(scene.sql().rows(decided).await, ["42|challenge|1.5"]);
    let error = clerk
        .error("insert into logins (user_id, ip) values (42, 'block')")
        .await;
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("42501", "you are block")
    );
    assert_eq!(
        clerk
            .error("select actionflow.emit_event('login', '1')")
            .await
            .code,
        "42501"
    );
    assert_eq!(clerk.text("select current_user").await, role);
    scene
        .sql()
        .run(&format!("drop owned by {role}; drop role {role}"))
        .await;
}

#[tokio::test]
async fn the_id_is_in_the_column_that_is_named_and_not_null() {
    let (scene, _worker) = with_logins("{}").await;
    scene.receiver.always("/risk", data(json!({})));
    let error = scene
        .sql()
        .error("insert into logins (ip) values ('x')")
        .await;
    assert_eq!(error.code, "22004", "{error:?}");
    assert_eq!(
        error.message,
        "column \"user_id\", which has the customer's id, is null"
    );
    assert!(error.hint.contains("\"user_id\""), "{error:?}");
    ask_before(
        &scene,
        "logins",
        r#"{"user_id": "ip", "properties": ["note", "score"]}"#,
    )
    .await;
    scene
        .sql()
        .run("insert into logins (ip, score) values ('ana', 12345678901234567890.5)")
        .await;
    let message = scene.receiver.wait_for_one("/risk").await.json();
    assert_eq!(message["data"]["user"], json!({"id": "ana"}));
    let properties = &message["data"]["event"]["properties"];
    assert_eq!(
        properties.to_string(),
        r#"{"note":"new","score":12345678901234567890.5}"#
    );
}

#[tokio::test]
async fn options_are_replaced_and_inserts_stop_asking() {
    let (scene, _worker) = with_logins(r#"{"on_block": "skip"}"#).await;
    by_ip(&scene);
    ask_before(&scene, "logins", r#"{"on_block": "insert"}"#).await;
    scene
        .sql()
        .run("insert into logins (user_id, ip) values (1, 'block')")
        .await;
    assert_eq!(scene.sql().number("select count(*) from logins").await, 1);
    let stop = "select actionflow.stop_enrich_before_insert('logins', 'login')";
    scene.sql().run(stop).await;
    scene
        .sql()
        .run("insert into logins (user_id, ip) values (2, 'block')")
        .await;
    assert_eq!(scene.receiver.requests("/risk").len(), 1);
    let error = scene.sql().error(stop).await;
    assert_eq!(error.code, "42704");
    assert_eq!(
        error.message,
        "inserts into public.logins do not ask by event \"login\""
    );
    assert!(error.hint.contains("enrich_before_insert"), "{error:?}");
}

#[tokio::test]
async fn a_failure_is_what_on_failure_says_for_a_row_too() {
    let (scene, worker) = with_logins(FILL).await;
    scene.receiver.script("/risk", [Answer::Status(500)]);
    let insert = "insert into logins (user_id, ip) values (1, 'x')";
    assert_eq!(scene.sql().error(insert).await.code, "38000");
    flow_on(
        &scene,
        "mild",
        "visit",
        json!([enrich("risk", json!({"on_failure": "challenge"}))]),
    )
    .await;
    scene
        .sql()
        .run(
            r#"select actionflow.stop_enrich_before_insert('logins', 'login');
               select actionflow.enrich_before_insert('logins', 'visit', '{"fill": {"decision": "results.risk.failure"}}')"#,
        )
        .await;
    worker.stop().await;
    wait_until_nobody_listens(&scene).await;
    scene.sql().run(insert).await;
    assert_eq!(
        scene.sql().rows("select decision from logins").await,
        ["no_worker"]
    );
}

async fn wait_until_nobody_listens(scene: &Scene) {
    let connections = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name <> 'actionflow-tests'";
    wait_for_rows(scene.sql(), connections, &["0"]).await;
    let answer: Value = scene
        .sql()
        .json("select actionflow.emit_event('nothing', '1')")
        .await;
    assert!(names(&answer).is_empty());
}
