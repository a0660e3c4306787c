//! What can be read afterwards, and how it goes when it is old.

use actionflow_tests::{Answer, Cluster, Database, Session};

use crate::scene::Scene;

#[tokio::test]
async fn every_attempt_is_kept_with_its_status_duration_and_answer() {
    let scene = Scene::with_crm(r#"{"retry_seconds": [0, 0]}"#).await;
    let long = format!("busy: {}", "é".repeat(200_000));
    scene.receiver.script(
        "/crm",
        [
            Answer::Full(503, vec![], long),
            Answer::Drop,
            Answer::Full(200, vec![], "thanks".to_owned()),
        ],
    );
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    scene.settle().await;
    let attempts = "select attempt, status, error is not null, response_prefix, duration_ms >= 0 and started_at <= now()
                    from actionflow.delivery_attempts order by attempt";
    let attempts = scene.sql().rows(attempts).await;
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    assert!(
        attempts[0].starts_with("1|503|") && attempts[0].contains("|busy: é"),
        "{}",
        attempts[0]
    );
    assert!(
        attempts[0].len() < 20_000,
        "the answer is kept whole: {} bytes",
        attempts[0].len()
    );
    assert_eq!(attempts[1], "2||t||t");
    assert!(
        attempts[2].starts_with("3|200|") && attempts[2].ends_with("|thanks|t"),
        "{}",
        attempts[2]
    );
    let times = "select count(*) from actionflow.delivery_attempts as a join actionflow.delivery_attempts as b
                 on b.attempt = a.attempt + 1 where b.started_at < a.started_at";
    assert_eq!(scene.sql().number(times).await, 0);
}

#[tokio::test]
async fn an_answer_that_is_not_text_can_be_kept() {
    let scene = Scene::with_crm(r#"{"retry_seconds": []}"#).await;
    scene.receiver.script(
        "/crm",
        [Answer::Full(500, vec![], "a\0b\u{7f}\u{1F600}".to_owned())],
    );
    let _worker = scene.worker_amid_deaths().await;
    scene.start("welcome", &["1"]).await;
    scene.settle().await;
    assert_eq!(scene.deliveries().await, ["dead|1|500"]);
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let scene = Scene::with_crm(r#"{"retry_seconds": [0], "timeout_ms": 5000}"#).await;
    scene
        .receiver
        .script("/crm", [Answer::Endless(503), Answer::Endless(200)]);
    let _worker = scene.db.worker().await;
    scene.start("welcome", &["1"]).await;
    scene.settle().await;
    assert_eq!(
        scene.deliveries().await,
        ["delivered|2|200"],
        "the status decides, not the body"
    );
    let longest = "select max(octet_length(response_prefix)) from actionflow.delivery_attempts";
    assert!((1..20_000).contains(&scene.sql().number(longest).await));
}

#[tokio::test]
async fn a_run_explains_itself() {
    let scene = Scene::with_crm(r#"{"retry_seconds": [0]}"#).await;
    scene.trigger("welcome", "purchase").await;
    scene.receiver.script("/crm", [Answer::Status(503)]);
    let _worker = scene.db.worker().await;
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', 'ana')")
        .await;
    scene.settle().await;
    let lines = scene
        .sql()
        .rows("select e from actionflow.runs as r, actionflow.explain_run(r.id) as e")
        .await;
    let text = lines.join("\n");
    for expected in [
        "welcome",
        "ana",
        "purchase",
        "tell",
        "crm",
        "503",
        "200",
        "completed",
    ] {
        assert!(
            text.contains(expected),
            "{expected:?} is missing in:\n{text}"
        );
    }
    let unknown = scene
        .sql()
        .error("select actionflow.explain_run(987654321)")
        .await;
    assert_eq!(unknown.code, "42704", "{unknown:?}");
}

/// Rows of every kind of history.
const KEPT: &str =
    "select (select count(*) from actionflow.events), (select count(*) from actionflow.runs),
    (select count(*) from actionflow.deliveries), (select count(*) from actionflow.dead_letters)";

/// One delivered and one dead delivery at the time that `actionflow.now` says, without a worker.
async fn live_through(scene: &Scene) {
    scene
        .sql()
        .run(
            "select actionflow.emit_event('purchase', 'a'), actionflow.emit_event('purchase', 'b')",
        )
        .await;
    scene
        .sql()
        .run(
            "select actionflow.complete_deliveries(array_fill(c.lease_token, array[2]), c.ids, array['delivered', 'dead'],
                 array[null, null]::bigint[], array[200, 500], array[null, 'x'], array_fill(now(), array[2]), array[1, 1],
                 array[null, null])
             from actionflow.claim_deliveries(10, as_of => actionflow.claim_time()) as c",
        )
        .await;
}

#[tokio::test]
async fn old_history_goes_by_truncation_and_the_rest_stays() {
    let scene = Scene::with_crm("{}").await;
    scene.trigger("welcome", "purchase").await;
    // In the tests' own words: deliveries are due at once, also when the clock has been moved.
    scene
        .sql()
        .run(
            "create function actionflow.claim_time() returns timestamptz language sql
             return greatest(clock_timestamp(), nullif(current_setting('actionflow.now', true), '')::timestamptz)",
        )
        .await;
    let retention = r#"{"events": 10, "runs": 10, "deliveries": 10, "dead_letters": 10}"#;
    scene
        .sql()
        .run(&format!(
            "select actionflow.set_setting('retention', '{retention}')"
        ))
        .await;
    scene
        .sql()
        .run("select set_config('actionflow.now', (now() - interval '12 days')::text, false)")
        .await;
    live_through(&scene).await;
    scene.sql().run("reset actionflow.now").await;
    live_through(&scene).await;
    assert_eq!(scene.sql().text(KEPT).await, "4|4|4|2");

    let deleted = "select coalesce(sum(n_tup_del), 0) from pg_stat_user_tables
                   where schemaname = 'actionflow' and relname ~ 'history|event|dead|attempt'";
    scene.sql().run("select pg_stat_force_next_flush()").await;
    let before = scene.sql().number(deleted).await;
    scene.sql().run("select actionflow.maintain()").await;
    assert_eq!(scene.sql().text(KEPT).await, "2|2|2|1");
    scene.sql().run("select pg_stat_force_next_flush()").await;
    assert_eq!(
        scene.sql().number(deleted).await,
        before,
        "history was deleted row by row"
    );
}

#[tokio::test]
async fn a_remembered_invocation_id_is_forgotten_when_its_time_is_over() {
    let scene = Scene::with_crm("{}").await;
    let start = r#"select status from actionflow.start_flow('welcome', '{"targetUserIds": "1", "flowInvocationId": "inv"}')"#;
    scene
        .sql()
        .run("set actionflow.now = '2020-01-01 00:00:00Z'")
        .await;
    assert_eq!(scene.sql().text(start).await, "started");
    for (date, expected) in [("2020-03-30", "duplicate"), ("2020-04-02", "started")] {
        scene
            .sql()
            .run(&format!(
                "set actionflow.now = '{date} 00:00:00Z'; select actionflow.maintain()"
            ))
            .await;
        assert_eq!(scene.sql().text(start).await, expected, "{date}");
    }
}

#[tokio::test]
async fn what_was_delivered_leaves_the_hot_tables() {
    let scene = Scene::with_crm("{}").await;
    let _worker = scene.db.worker().await;
    let users: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    scene.start("welcome", &users).await;
    scene.settle().await;
    assert_eq!(
        scene
            .sql()
            .number("select count(*) from actionflow.deliveries where state = 'delivered'")
            .await,
        300
    );
    assert_eq!(
        scene
            .sql()
            .number("select coalesce(sum(pending + running), 0) from actionflow.queue_stats()")
            .await,
        0
    );
    assert_eq!(scene.count("_delivery").await, 0);
}

#[tokio::test]
async fn only_a_superuser_moves_the_clock_even_before_the_library_is_loaded() {
    // Without preloading, Postgres lets anybody set a setting of a library that it has not seen yet.
    let cluster = Cluster::start(&[]);
    let db = Database::within(&cluster).await;
    db.sql
        .run("create role keeper login; select actionflow.grant_worker('keeper')")
        .await;
    db.sql
        .run("select actionflow.emit_event('visit', '1'); select actionflow.emit_event('visit', '2')")
        .await;
    let keeper = Session::connect(&db.url_as("keeper")).await;
    keeper.run("set actionflow.now = '2099-01-01'").await;
    keeper.run("select actionflow.maintain()").await;
    assert_eq!(
        db.sql
            .number("select count(*) from actionflow.events")
            .await,
        2,
        "a role that may not move the clock has emptied the history"
    );
    let error = keeper.error("set actionflow.now = '2099-01-01'").await;
    assert_eq!(error.code, "42501");
}
