//! What is refused: the status, the field, nothing of what happens inside; and what the owner can read of it.

use actionflow_tests::Response;
use serde_json::{Value, json};

use crate::webhook_stage::{Hook, Sent, Stage, user_mapping};

/// The largest body, in bytes.
const MAX: usize = 1 << 20;

/// An answer is an error of this shape and no other, and tells nothing of the inside.
fn check(response: &Response, status: u16, code: &str, field: Option<&str>) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("cache-control"), "no-store");
    let body = response.json();
    let mut error = body["error"].as_object().expect("an error").clone();
    assert_eq!(body, json!({"error": body["error"]}));
    assert_eq!(error.remove("code"), Some(json!(code)), "{body}");
    assert_eq!(
        error.remove("field").as_ref().and_then(Value::as_str),
        field,
        "{body}"
    );
    let message = error.remove("message");
    let message = message
        .as_ref()
        .and_then(Value::as_str)
        .expect("a text")
        .to_lowercase();
    assert!(error.is_empty(), "{body}");
    for word in [
        "sql",
        "postgres",
        "relation",
        "actionflow",
        "panic",
        "src/",
        "hush",
        "line ",
        "$.",
    ] {
        assert!(!message.contains(word), "{body} says {word:?}");
    }
}

async fn refused(
    stage: &Stage<'_>,
    hook: &Hook,
    sent: &Sent,
    status: u16,
    code: &str,
    field: Option<&str>,
) {
    check(&stage.send(hook, sent).await, status, code, field);
}

#[tokio::test]
async fn t20_an_unknown_url_is_not_found_whatever_it_looks_like() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let sent = Sent::json(&json!({"user": "1"}));
    let token = hook.path.rsplit('/').next().expect("a token");
    let changed: String = token.chars().rev().collect();
    let long = "a".repeat(5000);
    for token in [
        "nope",
        "afwh_",
        &changed,
        &token.to_uppercase(),
        &token[..token.len() - 1],
        &long,
        "%27%3B",
        "%00",
        "%ff",
        "%",
    ] {
        let response = stage.send_to(&format!("/v1/webhooks/{token}"), &sent).await;
        check(&response, 404, "not_found", None);
    }
    for path in [
        "/v1/webhooks",
        "/v1/webhooks/",
        "/v1/webhook/x",
        "/v2/webhooks/x",
    ] {
        assert_eq!(stage.send_to(path, &sent).await.status, 404, "{path}");
    }
    let deeper = format!("{}/x", hook.path);
    assert_eq!(stage.send_to(&deeper, &sent).await.status, 404);
    assert_eq!(stage.status(&hook, &sent).await, 202, "the URL itself");
    assert_eq!(stage.run_count().await, 1);
    assert!(
        stage.reasons().await.is_empty(),
        "refusals of nobody are nobody's"
    );
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    for method in ["GET", "DELETE", "PATCH", "OPTIONS", "post"] {
        let sent = Sent::json(&json!({"user": "1"})).method(method);
        refused(&stage, &hook, &sent, 405, "method_not_allowed", None).await;
    }
    let head = stage.send(&hook, &Sent::bare("HEAD", "")).await;
    assert_eq!((head.status, head.body), (405, Vec::new()));
    assert_eq!(stage.run_count().await, 0);
}

#[tokio::test]
async fn t23_what_the_mapping_makes_is_checked_and_the_answer_names_the_field() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({})).await;
    let bad = |field: &'static str, body: Value| (Some(field), body);
    let cases = [
        bad("targetUserIds", json!({})),
        bad("targetUserIds", json!({"targetUserIds": null})),
        bad("targetUserIds", json!({"targetUserIds": {}})),
        bad("targetUserIds[1]", json!({"targetUserIds": ["1", ""]})),
        bad("targetUserIds[0]", json!({"targetUserIds": [true]})),
        bad("targetUserIds[0]", json!({"targetUserIds": ["\u{0}"]})),
        bad(
            "flowInvocationId",
            json!({"targetUserIds": "1", "flowInvocationId": {}}),
        ),
        bad("variables", json!({"targetUserIds": "1", "variables": [1]})),
        bad(
            "variables.a.b[1]",
            json!({"targetUserIds": "1", "variables": {"a": {"b": ["", "\u{0}"]}}}),
        ),
        bad(
            "notificationDetail",
            json!({"targetUserIds": "1", "notificationDetail": "x"}),
        ),
        bad("metadata", json!({"targetUserIds": "1", "metadata": 7})),
    ];
    for (field, body) in cases {
        refused(
            &stage,
            &hook,
            &Sent::json(&body),
            422,
            "unprocessable",
            field,
        )
        .await;
    }
    for body in [
        "",
        "{",
        "[1",
        "nul",
        "{\"targetUserIds\": \"1\"} x",
        "\u{feff}{}",
    ] {
        let sent = Sent::new("application/json", body);
        refused(&stage, &hook, &sent, 422, "unprocessable", None).await;
    }
    let unknown = json!({"targetUserIds": "1", "targetUserId": "2"});
    assert_eq!(
        stage.status(&hook, &Sent::json(&unknown)).await,
        422,
        "an unknown key is a mistake"
    );
    assert_eq!(stage.run_count().await, 0);
}

#[tokio::test]
async fn t21_a_mapping_that_finds_nothing_or_fails_is_unprocessable() {
    let stage = Stage::new().await;
    let fields = stage.live(&json!({"mapping": user_mapping()})).await;
    refused(
        &stage,
        &fields,
        &Sent::json(&json!({"usr": "1"})),
        422,
        "unprocessable",
        Some("targetUserIds"),
    )
    .await;
    let source = "function map(payload) {\n  if (payload.user === 'boom') throw new Error('hush: ' + payload.user)\n  return payload\n}";
    let script = stage
        .live(&json!({"mapping": {"kind": "javascript", "source": source}}))
        .await;
    refused(
        &stage,
        &script,
        &Sent::json(&json!({"user": "boom"})),
        422,
        "unprocessable",
        None,
    )
    .await;
    let reasons = stage.reasons().await.join("\n");
    assert!(
        reasons.contains("line 2") && reasons.contains("hush: boom"),
        "the owner is told: {reasons}"
    );
    let required = r#"{"variables": {"sku": {"required": true}}, "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]}"#;
    let publish = format!(
        "select actionflow.update_flow('welcome', '{required}'); select actionflow.publish_flow('welcome')"
    );
    stage.sql().run(&publish).await;
    refused(
        &stage,
        &fields,
        &Sent::json(&json!({"user": "1"})),
        422,
        "unprocessable",
        Some("variables.sku"),
    )
    .await;
    assert_eq!(stage.run_count().await, 0);
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_the_largest() {
    let stage = Stage::new().await;
    let hook = stage.live(&json!({"mapping": user_mapping()})).await;
    let body = |length: usize| {
        let start = r#"{"user": "1", "filling": ""#;
        format!("{start}{}\"}}", "x".repeat(length - start.len() - 2))
    };
    let largest = Sent::new("application/json", body(MAX));
    assert_eq!(largest.body.len(), MAX);
    assert_eq!(stage.status(&hook, &largest).await, 202);
    let larger = Sent::new("application/json", body(MAX + 1));
    refused(&stage, &hook, &larger, 413, "payload_too_large", None).await;
    let called = format!(
        "select status from actionflow.receive_webhook('{}', 'POST', '{{}}', convert_to(repeat('x', {}), 'UTF8'), null)",
        hook.path.rsplit('/').next().expect("a token"),
        MAX + 1
    );
    assert_eq!(
        stage.sql().text(&called).await,
        "413",
        "also without the worker"
    );
    assert_eq!(stage.run_count().await, 1);
}

#[tokio::test]
async fn the_owner_sees_the_last_refusals_and_how_many_there_were() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "github", "secret": "hush"});
    let hook = stage
        .live(&json!({"signature": signature, "allowed_ips": ["127.0.0.1"]}))
        .await;
    let sent = Sent::json(&json!({"user": "hush"}))
        .header("x-hub-signature-256", "sha256=00")
        .header("authorization", "hush");
    for _ in 0..30 {
        refused(&stage, &hook, &sent, 401, "unauthorized", None).await;
    }
    let mut unsigned = sent.clone();
    unsigned.headers.clear();
    refused(&stage, &hook, &unsigned, 401, "unauthorized", None).await;
    stage.set_mode(&hook, "disabled").await;
    refused(&stage, &hook, &sent, 409, "disabled", None).await;
    let rows = stage.sql().rows(
        "select flow, status, method, content_type, body_bytes, host(remote_addr), min(total), count(*) <= 16
         from actionflow.webhook_rejections group by 1, 2, 3, 4, 5, 6 order by status, content_type nulls first").await;
    assert_eq!(
        rows,
        [
            "welcome|401|POST||15|127.0.0.1|31|t",
            "welcome|401|POST|application/json|15|127.0.0.1|31|t",
            "welcome|409|POST|application/json|15|127.0.0.1|1|t"
        ]
    );
    let all = stage
        .sql()
        .text("select json_agg(r) from actionflow.webhook_rejections as r")
        .await;
    assert!(
        all.contains("x-hub-signature-256") && !all.contains("hush"),
        "{all}"
    );
}

/// Who may not send here is not told whether the signature would have fitted.
#[tokio::test]
async fn the_address_is_looked_at_before_the_signature_and_the_mode_before_both() {
    let stage = Stage::new().await;
    let signature = json!({"preset": "github", "secret": "hush"});
    let hook = stage
        .live(&json!({"signature": signature, "allowed_ips": ["203.0.113.9"]}))
        .await;
    let sent = Sent::json(&json!({})).header("x-hub-signature-256", "sha256=00");
    refused(&stage, &hook, &sent, 403, "forbidden", None).await;
    stage.set_mode(&hook, "disabled").await;
    refused(&stage, &hook, &sent, 409, "disabled", None).await;
}
