//! Requests that come together, and moments at which they may come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actionflow_tests::{Cluster, Database, PATIENCE, Receiver, Session, eventually};
use serde_json::json;
use tokio::task::JoinSet;

use crate::webhook_runs::Barrier;
use crate::webhook_stage::{Hook, Sent, Stage, add_hook, send, user_mapping, with_flow};

/// The statuses of equal requests that come together, in their order.
async fn all_at_once(stage: &Stage<'_>, hook: &Hook, sent: &Sent, count: usize) -> Vec<u16> {
    let mut requests = JoinSet::new();
    for _ in 0..count {
        let (address, path, sent) = (
            stage.worker.address().to_owned(),
            hook.path.clone(),
            sent.clone(),
        );
        requests.spawn(async move {
            send(&address, &path, &sent)
                .await
                .expect("an answer")
                .status
        });
    }
    let mut statuses = requests.join_all().await;
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn of_twenty_equal_requests_at_once_exactly_one_starts() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({})).await;
    let mut expected = vec![200; 19];
    expected.push(202);
    for round in 1..=5_i64 {
        let body = json!({"targetUserIds": ["1"], "flowInvocationId": format!("round {round}")});
        let statuses = all_at_once(&stage, &hook, &Sent::json(&body), 20).await;
        assert_eq!(statuses, expected, "round {round}");
        assert_eq!(stage.run_count().await, round);
    }
    stage.receiver.wait_for("/crm", 5).await;
    assert_eq!(stage.receiver.requests("/crm").len(), 5);
}

/// Answers to as many requests at once as one webhook may have under way, each on a connection of its own.
async fn on_connections(stage: &Stage<'_>, hook: &Hook) -> Vec<u16> {
    let barrier = Barrier::raise(stage).await;
    let mut requests = JoinSet::new();
    for _ in 0..6 {
        let (address, path) = (stage.worker.address().to_owned(), hook.path.clone());
        let sent = Sent::json(&json!({"user": "1"}));
        requests.spawn(async move {
            send(&address, &path, &sent)
                .await
                .expect("an answer")
                .status
        });
    }
    let mode = format!(
        "select mode from actionflow.triggers where id = {}",
        hook.id
    );
    if stage.sql().text(&mode).await == "live" {
        barrier.wait_for(6).await;
    }
    barrier.fall().await;
    requests.join_all().await
}

#[tokio::test]
async fn t27_every_connection_of_the_worker_knows_of_a_change() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    assert_eq!(on_connections(&stage, &hook).await, [202; 6]);
    stage.set_mode(&hook, "disabled").await;
    assert_eq!(on_connections(&stage, &hook).await, [409; 6]);
    stage.set_mode(&hook, "live").await;
    let other = json!({"mapping": {"kind": "fields", "targetUserIds": {"const": "2"}}});
    let update = format!(
        "select actionflow.update_webhook_trigger({}, '{other}', force => true)",
        hook.id
    );
    stage.sql().run(&update).await;
    assert_eq!(on_connections(&stage, &hook).await, [202; 6]);
    let by_user = "select user_id, count(*) from actionflow.runs group by user_id order by user_id";
    assert_eq!(stage.sql().rows(by_user).await, ["1|6", "2|6"]);
}

#[tokio::test]
async fn t22_of_requests_that_come_together_one_is_the_sample() {
    let stage = Stage::new().await;
    stage
        .sql()
        .run("select actionflow.add_test_user('1')")
        .await;
    let hook = stage.hook(&json!({"mapping": user_mapping()})).await;
    for round in 1..=5 {
        let arm = format!("select actionflow.capture_webhook_sample({})", hook.id);
        stage.sql().run(&arm).await;
        let sent = Sent::json(&json!({"user": "1"}));
        assert_eq!(all_at_once(&stage, &hook, &sent, 8).await, [202; 8]);
        assert_eq!(stage.run_count().await, 7 * round);
    }
}

#[tokio::test]
async fn refusals_that_come_together_are_all_counted() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "github", "secret": "hush"});
    let hook = stage.live(&json!({"signature": signature})).await;
    let sent = Sent::json(&json!({})).header("x-hub-signature-256", "sha256=00");
    for _ in 0..4 {
        assert_eq!(all_at_once(&stage, &hook, &sent, 50).await, [401; 50]);
    }
    let counted = "select count(*), min(total), max(total) from actionflow.webhook_rejections";
    assert_eq!(stage.sql().text(counted).await, "16|200|200");
}

/// Own vectors: the key is `secret`.
const SIGNED_IN_2023: &str = r#"{"Stripe-Signature": "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"}"#;

#[tokio::test]
async fn the_age_of_a_signature_follows_the_one_clock() {
    let (db, _receiver): (Database<'_>, Receiver) = with_flow(Database::new().await).await;
    let signature = json!({"preset": "stripe", "secret": "secret"});
    let mapping = json!({"kind": "fields", "targetUserIds": "$.a"});
    let hook = add_hook(
        &db.sql,
        &json!({"signature": signature, "mapping": mapping}),
    )
    .await;
    let token = hook.path.rsplit('/').next().expect("a token");
    let receive = format!(
        r#"select status from actionflow.receive_webhook('{token}', 'POST', '{SIGNED_IN_2023}', '{{"a":1}}', null)"#
    );
    assert_eq!(db.sql.text(&receive).await, "401", "it is old");
    for (moment, status) in [
        ("2023-11-14 22:13:20Z", "202"),
        ("2023-11-14 22:18:20Z", "202"),
        ("2023-11-14 22:08:20Z", "202"),
        ("2023-11-14 22:18:21Z", "401"),
        ("2023-11-14 22:08:19Z", "401"),
    ] {
        db.sql
            .run(&format!("set actionflow.now = '{moment}'"))
            .await;
        assert_eq!(db.sql.text(&receive).await, status, "{moment}");
    }
}

#[tokio::test]
async fn a_standby_asks_to_come_again_until_it_is_promoted() {
    let primary = Cluster::own();
    let (mut db, _receiver) = with_flow(Database::within(&primary).await).await;
    db.expect_in_log("");
    let hook = add_hook(&db.sql, &json!({"mapping": user_mapping()})).await;
    db.sql
        .run(&format!(
            "select actionflow.set_trigger_mode({}, 'live')",
            hook.id
        ))
        .await;
    let standby = primary.standby();
    let mut copy = db.on(&standby).await;
    copy.expect_in_log("");
    let replayed =
        "select count(*) from actionflow.triggers where mode = 'live' and kind = 'webhook'";
    crate::scene::wait_for_rows(&copy.sql, replayed, &["1"]).await;
    let worker = copy
        .worker_builder()
        .expect_in_log("")
        .start_unready()
        .await;
    let sent = Sent::json(&json!({"user": "1"}));
    let answer = async || {
        send(worker.address(), &hook.path, &sent)
            .await
            .expect("an answer")
    };
    let refused = answer().await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (503, &json!("unavailable"))
    );
    assert_ne!(refused.header("retry-after"), "");
    primary.stop();
    standby.promote();
    worker.wait_until_ready().await;
    assert_eq!(answer().await.status, 202);
    assert_eq!(
        copy.sql.rows("select user_id from actionflow.runs").await,
        ["1"]
    );
}

/// A refusal is noted for a trigger that somebody removes meanwhile.
#[tokio::test]
async fn a_request_to_a_trigger_that_is_removed_meanwhile_is_refused_and_no_more() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({})).await;
    assert_eq!(stage.status(&hook, &Sent::json(&json!({}))).await, 422);
    let holder = stage.db.session().await;
    holder
        .run("begin; lock table actionflow._webhook_rejection in share row exclusive mode")
        .await;
    let (address, path) = (stage.worker.address().to_owned(), hook.path.clone());
    let request = tokio::spawn(async move { send(&address, &path, &Sent::json(&json!({}))).await });
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    crate::scene::wait_for_rows(stage.sql(), waiting, &["1"]).await;
    holder
        .run(&format!(
            "select actionflow.remove_trigger({}); commit",
            hook.id
        ))
        .await;
    let response = request.await.expect("no panic").expect("an answer");
    assert!(matches!(response.status, 404 | 422), "{response:?}");
}

/// Flows are published and triggers changed while requests come: each is answered by the state before or after.
#[tokio::test]
async fn changes_while_requests_come_disturb_none_of_them() {
    let stage = Stage::new().await;
    stage
        .sql()
        .run("select actionflow.add_test_user('1')")
        .await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut senders = JoinSet::new();
    for _ in 0..6 {
        let (address, path, is_over) = (
            stage.worker.address().to_owned(),
            hook.path.clone(),
            is_over.clone(),
        );
        senders.spawn(async move {
            let (mut sent, mut refused) = (0, Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                let response = send(&address, &path, &Sent::json(&json!({"user": "1"})))
                    .await
                    .expect("an answer");
                match response.status {
                    202 => sent += 1,
                    _ => refused.push(response),
                }
            }
            (sent, refused)
        });
    }
    let update = format!(
        "select actionflow.update_webhook_trigger({}, '{{\"allowed_ips\": []}}', force => true)",
        hook.id
    );
    for round in 0..20 {
        let draft = format!(
            r#"{{"variables": {{"v": {{"default": "{round}"}}}}, "actions": [{{"name": "tell", "type": "notify", "endpoints": ["crm"]}}]}}"#
        );
        stage.sql().run(&format!("select actionflow.update_flow('welcome', '{draft}'); select actionflow.publish_flow('welcome')")).await;
        stage.sql().run(&update).await;
        stage
            .set_mode(&hook, if round % 2 == 0 { "test" } else { "live" })
            .await;
        let before = stage.run_count().await;
        eventually(PATIENCE, async || match stage.run_count().await {
            now if now > before + 5 => Ok(()),
            now => Err(format!("{now} runs, {before} before")),
        })
        .await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for (count, refused) in senders.join_all().await {
        assert!(refused.is_empty(), "{refused:#?}");
        sent += count;
    }
    assert_eq!(stage.run_count().await, sent);
}

#[tokio::test]
async fn whatever_a_caller_leaves_out_it_is_answered() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let token = hook.path.rsplit('/').next().expect("a token");
    let body = r#"convert_to('{"user": "1"}', 'UTF8')"#;
    for (status, arguments) in [
        ("404", "null, null, null, null, null".to_owned()),
        ("405", format!("'{token}', null, null, null, null")),
        ("422", format!("'{token}', 'POST', null, null, null")),
        ("202", format!("'{token}', 'POST', null, {body}, null")),
        (
            "202",
            format!("'{token}', 'POST', '7', {body}, '127.0.0.1/8'"),
        ),
        (
            "202",
            format!(
                "'{token}', 'POST', '[[\"a\"], [1, 2], {{}}, [\"content-type\", \"application/json\"]]', {body}, '::1'"
            ),
        ),
        (
            "415",
            format!(
                "'{token}', 'POST', '{{\"Content-Type\": [\"text/html\", \"application/json\"]}}', {body}, null"
            ),
        ),
    ] {
        let call = format!("select status from actionflow.receive_webhook({arguments})");
        assert_eq!(stage.sql().text(&call).await, status, "{arguments}");
    }
}

#[tokio::test]
async fn one_request_starts_for_many_customers_at_once() {
    let stage = Stage::new().await;
    let hook = stage.hook(&json!({})).await;
    let users: Vec<String> = (0..20_000).map(|user| user.to_string()).collect();
    let sent = Sent::json(&json!({"targetUserIds": users, "flowInvocationId": "all"}));
    let response = stage.send(&hook, &sent).await;
    assert_eq!(response.status, 202, "{}", response.text());
    assert_eq!(
        response.json()["data"]["ignored"].as_array().map(Vec::len),
        Some(20_000)
    );
    let live = stage.live(&json!({})).await;
    let response = stage.send(&live, &sent).await;
    assert_eq!(response.status, 202, "{}", response.text());
    assert_eq!(response.json()["data"]["started"], 20_000);
    assert_eq!(stage.status(&live, &sent).await, 200);
}

#[tokio::test]
async fn without_a_free_connection_senders_are_asked_to_come_again() {
    let settings = [
        "shared_preload_libraries = 'actionflow'",
        "max_connections = 40",
    ];
    let cluster = Cluster::start(&settings);
    let mut stage = Stage::within(&cluster, |worker| worker.expect_in_log("")).await;
    stage.db.expect_in_log("");
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let mut taken = Vec::new();
    while let Ok(session) = Session::try_connect(&stage.db.url()).await {
        taken.push(session);
    }
    let sent = Sent::json(&json!({"user": "1"}));
    let refused = stage.send(&hook, &sent).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_ne!(refused.header("retry-after"), "");
    drop(taken);
    eventually(PATIENCE, async || match stage.send(&hook, &sent).await {
        response if response.status == 202 => Ok(()),
        response => Err(format!("{response:?}")),
    })
    .await;
    assert_eq!(stage.run_count().await, 1);
}
