//! Test, live and disabled; changes of a live trigger; samples; other URLs.

use actionflow_tests::Oracle;
use serde_json::{Value, json};

use crate::scene::create_endpoint;
use crate::webhook_stage::{Hook, Sent, Stage, send, user_mapping};

async fn call(stage: &Stage<'_>, hook: &Hook, function: &str, rest: &str) -> String {
    stage
        .sql()
        .text(&format!("select actionflow.{function}({}{rest})", hook.id))
        .await
}

async fn data(stage: &Stage<'_>, hook: &Hook, user: &Value) -> Value {
    let response = stage.send(hook, &Sent::json(&json!({"user": user}))).await;
    assert_eq!(response.status, 202, "{response:?}");
    response.json()["data"].clone()
}

/// The flow's draft tells `audit`, what is published tells `crm`.
async fn with_draft(stage: &Stage<'_>) {
    create_endpoint(&stage.db.sql, "audit", &stage.receiver.url("/audit"), "{}").await;
    let draft = r#"{"actions": [{"name": "tell", "type": "notify", "endpoints": ["audit"]}]}"#;
    let draft = format!(
        "select actionflow.update_flow('welcome', '{draft}'), actionflow.add_test_user('1')"
    );
    stage.sql().run(&draft).await;
}

#[tokio::test]
async fn t5_t27_a_trigger_in_test_starts_the_draft_for_test_users_and_a_live_one_what_is_published()
{
    let stage = Stage::new().await;
    with_draft(&stage).await;
    let hook = stage.hook(&json!({"mapping": user_mapping()})).await;
    let mode = format!(
        "select mode from actionflow.triggers where id = {}",
        hook.id
    );
    assert_eq!(stage.sql().text(&mode).await, "test", "a new trigger");
    let tested = data(&stage, &hook, &json!(["1", "2"])).await;
    assert_eq!(tested["started"], 1);
    assert_eq!(
        tested["ignored"],
        json!([{"userId": "2", "reason": "not a test user"}])
    );
    let told = stage.receiver.wait_for_one("/audit").await.json();
    assert_eq!(
        (&told["data"]["mode"], &told["data"]["version"]),
        (&json!("test"), &Value::Null)
    );
    stage.set_mode(&hook, "live").await;
    assert_eq!(data(&stage, &hook, &json!(["1", "2"])).await["started"], 2);
    let told = stage.receiver.wait_for("/crm", 2).await;
    assert!(told.iter().all(|told| told.json()["data"]["version"] == 1));
    stage.set_mode(&hook, "test").await;
    assert_eq!(data(&stage, &hook, &json!("2")).await["started"], 0);
    assert_eq!(
        (
            stage.receiver.requests("/audit").len(),
            stage.receiver.requests("/crm").len()
        ),
        (1, 2)
    );
    let runs = "select mode, version, user_id from actionflow.runs order by id";
    assert_eq!(
        stage.sql().rows(runs).await,
        ["test||1", "live|1|1", "live|1|2"]
    );
}

#[tokio::test]
async fn t27_a_disabled_trigger_starts_nothing_and_each_change_counts_from_the_next_request() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let sent = Sent::json(&json!({"user": "1"}));
    // The worker's connections remember triggers; a change must reach each of them at once.
    for round in 0..10 {
        stage.set_mode(&hook, "disabled").await;
        assert_eq!(stage.status(&hook, &sent).await, 409, "{round}");
        stage.set_mode(&hook, "live").await;
        assert_eq!(stage.status(&hook, &sent).await, 202, "{round}");
    }
    let refused = stage
        .sql()
        .error(&format!(
            "select actionflow.set_trigger_mode({}, 'on')",
            hook.id
        ))
        .await;
    assert_eq!(refused.code, "22023");
    stage
        .sql()
        .run("select actionflow.archive_flow('welcome')")
        .await;
    let archived = stage.send(&hook, &sent).await;
    assert_eq!(
        (archived.status, &archived.json()["error"]["code"]),
        (409, &json!("disabled"))
    );
    call(&stage, &hook, "remove_trigger", "").await;
    assert_eq!(stage.status(&hook, &sent).await, 404);
    assert_eq!(stage.run_count().await, 10);
}

#[tokio::test]
async fn t27_a_flow_that_is_not_published_can_be_tested_and_is_not_live() {
    let stage = Stage::new().await;
    let draft = r#"{"actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]}"#;
    let create =
        format!("select actionflow.create_flow('new', '{draft}'), actionflow.add_test_user('1')");
    stage.sql().run(&create).await;
    let mapping = json!({"mapping": user_mapping()});
    let add = format!(
        "select trigger_id || ' ' || path from actionflow.add_webhook_trigger('new', '{mapping}')"
    );
    let row = stage.sql().text(&add).await;
    let (id, path) = row.split_once(' ').expect("two");
    let hook = Hook {
        id: id.parse().expect("a number"),
        path: path.to_owned(),
    };
    assert_eq!(data(&stage, &hook, &json!("1")).await["started"], 1);
    stage.set_mode(&hook, "live").await;
    let sent = Sent::json(&json!({"user": "1"}));
    assert_eq!(stage.status(&hook, &sent).await, 409);
    stage
        .sql()
        .run("select actionflow.publish_flow('new')")
        .await;
    assert_eq!(stage.status(&hook, &sent).await, 202);
}

#[tokio::test]
async fn t27_a_live_trigger_is_changed_in_test_or_by_force() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let other = json!({"mapping": {"kind": "fields", "targetUserIds": "$.customer"}}).to_string();
    let update = format!(
        "select actionflow.update_webhook_trigger({}, '{other}'",
        hook.id
    );
    let refused = stage.sql().error(&format!("{update})")).await;
    assert_eq!(
        (&*refused.code, &*refused.message),
        ("55000", &*format!("trigger {} is live", hook.id))
    );
    assert!(refused.hint.contains("force"), "{refused:?}");
    let (old, new) = (
        Sent::json(&json!({"user": "1"})),
        Sent::json(&json!({"customer": "2"})),
    );
    assert_eq!(
        (
            stage.status(&hook, &old).await,
            stage.status(&hook, &new).await
        ),
        (202, 422)
    );
    stage.sql().run(&format!("{update}, force => true)")).await;
    assert_eq!(
        (
            stage.status(&hook, &old).await,
            stage.status(&hook, &new).await
        ),
        (422, 202)
    );
    stage.set_mode(&hook, "test").await;
    let back = json!({"mapping": user_mapping()});
    stage
        .sql()
        .run(&format!(
            "select actionflow.update_webhook_trigger({}, '{back}')",
            hook.id
        ))
        .await;
    assert_eq!(
        (
            stage.status(&hook, &old).await,
            stage.status(&hook, &new).await
        ),
        (202, 422)
    );
    let wrong = format!(
        "select actionflow.update_webhook_trigger({}, '{{\"mapping\": {{\"kind\": \"fields\"}}}}')",
        hook.id
    );
    assert_eq!(stage.sql().error(&wrong).await.code, "22023");
    assert_eq!(
        stage.status(&hook, &old).await,
        202,
        "what was refused has changed nothing"
    );
}

#[tokio::test]
async fn t22_a_sample_is_captured_mappings_are_tried_on_it_and_nothing_starts() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "github", "secret": "hush"});
    let hook = stage
        .hook(&json!({"signature": signature, "mapping": user_mapping()}))
        .await;
    call(&stage, &hook, "capture_webhook_sample", "").await;
    let body = r#"{ "user": "1",  "customer": {"id": 42, "name": "Zoë"}, "total": 1.50 }"#;
    let job =
        json!({"library": "octokit", "task": "sign", "secret": "hush", "body": body, "id": "d-1"});
    let sent = Sent::new("application/json", body)
        .signed(&Oracle::Node.results(&[job]).await[0])
        .header("Authorization", "hush")
        .header("Cookie", "a=hush")
        .header("X-Api-Key", "hush")
        .header("X-Shop", "eu");
    let response = stage.send(&hook, &sent).await;
    assert_eq!(
        (response.status, response.json()),
        (202, json!({"data": {"captured": true}}))
    );
    assert_eq!(stage.run_count().await, 0);
    let sample = "select method, convert_from(body, 'UTF8'), signature_error, captured_at >= armed_at from actionflow.webhook_samples";
    assert_eq!(stage.sql().text(sample).await, format!("POST|{body}||t"));
    let headers = stage
        .sql()
        .text("select headers from actionflow.webhook_samples")
        .await;
    assert!(
        headers.contains(r#"["x-shop", "eu"]"#) && !headers.contains("hush"),
        "{headers}"
    );
    let mapping = r#"{"kind": "fields", "targetUserIds": "$.customer.id", "variables": {"total": "$.total"}}"#;
    let mapped = call(&stage, &hook, "test_mapping", &format!(", '{mapping}'")).await;
    assert_eq!(
        mapped,
        r#"{"variables": {"total": 1.50}, "targetUserIds": ["42"]}"#
    );
    let script = "function map(payload, request) { return {targetUserIds: [payload.customer.name], variables: {shop: request.headers[\"x-shop\"], method: request.method}} }";
    let script = json!({"kind": "javascript", "source": script}).to_string();
    let mapped = call(
        &stage,
        &hook,
        "test_mapping",
        &format!(", $json${script}$json$"),
    )
    .await;
    assert_eq!(
        serde_json::from_str::<Value>(&mapped).expect("JSON"),
        json!({"targetUserIds": ["Zoë"], "variables": {"shop": "eu", "method": "POST"}})
    );
    let wrong = format!(
        "select actionflow.test_mapping({}, '{{\"kind\": \"fields\", \"targetUserIds\": \"$.nobody\"}}')",
        hook.id
    );
    assert_eq!(stage.sql().error(&wrong).await.code, "22023");
    // One request is captured; the next one is handled as always, and arming again forgets the old one.
    stage
        .sql()
        .run("select actionflow.add_test_user('1')")
        .await;
    assert_eq!(stage.send(&hook, &sent).await.json()["data"]["started"], 1);
    call(&stage, &hook, "capture_webhook_sample", "").await;
    let empty = "select captured_at, body from actionflow.webhook_samples";
    assert_eq!(stage.sql().text(empty).await, "|");
}

#[tokio::test]
async fn t22_a_request_with_another_signature_can_be_the_sample_and_says_so() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "github", "secret": "hush"});
    let hook = stage.hook(&json!({"signature": signature})).await;
    call(&stage, &hook, "capture_webhook_sample", "").await;
    let sent = Sent::form("user=1")
        .header("x-signature", "v1=00")
        .method("PUT");
    assert_eq!(stage.status(&hook, &sent).await, 202);
    let sample = "select method, signature_error from actionflow.webhook_samples";
    assert_eq!(
        stage.sql().text(sample).await,
        r#"PUT|header "x-hub-signature-256" is missing"#
    );
    let mapped = call(
        &stage,
        &hook,
        "test_mapping",
        r#", '{"kind": "fields", "targetUserIds": "$.user"}'"#,
    )
    .await;
    assert_eq!(mapped, r#"{"targetUserIds": ["1"]}"#);
    assert_eq!(stage.status(&hook, &sent).await, 401);
    stage.set_mode(&hook, "live").await;
    let arm = format!("select actionflow.capture_webhook_sample({})", hook.id);
    assert_eq!(
        stage.sql().error(&arm).await.code,
        "55000",
        "a live request is not taken away"
    );
}

#[tokio::test]
async fn t20_a_rotated_url_replaces_the_old_one_at_once() {
    let stage = Stage::new().await;
    let mut hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let other = stage.live(&json!({"mapping": user_mapping()})).await;
    assert_ne!(hook.path, other.path);
    let sent = Sent::json(&json!({"user": "1"}));
    assert_eq!(stage.status(&hook, &sent).await, 202);
    let old = hook.path.clone();
    hook.path = call(&stage, &hook, "rotate_webhook_path", "").await;
    let old = send(stage.worker.address(), &old, &sent)
        .await
        .expect("an answer");
    assert_eq!((old.status, stage.status(&hook, &sent).await), (404, 202));
    assert_eq!(stage.status(&other, &sent).await, 202);
    let token = hook.path.strip_prefix("/v1/webhooks/").expect("the path");
    assert!(token.len() > 40, "{token}");
    let dump = stage
        .sql()
        .rows("select w::text from actionflow._webhook as w")
        .await
        .join("\n");
    assert!(
        !dump.contains(token) && dump.contains(&hook.id.to_string()),
        "only its hash is stored"
    );
}
