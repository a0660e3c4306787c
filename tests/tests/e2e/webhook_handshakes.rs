//! Senders that ask before they send.

use std::time::SystemTime;

use actionflow_tests::Oracle;
use serde_json::{Value, json};

use crate::scene::unix_seconds;
use crate::webhook_stage::{Sent, Stage, user_mapping};

async fn mac(secret: &str, text: &str, encoding: &str) -> String {
    let job = json!({"library": "hmac", "task": "sign", "algorithm": "sha256", "encoding": encoding,
        "secret": secret, "text": text});
    let results = Oracle::Python.results(&[job]).await;
    results[0]["mac"].as_str().expect("a text").to_owned()
}

fn with_preset(preset: &str) -> Value {
    json!({"signature": {"preset": preset, "secret": "hush"}, "mapping": user_mapping()})
}

#[tokio::test]
async fn slack_is_told_its_challenge_when_it_has_signed_the_question() {
    let stage = Stage::new().await;
    let hook = stage.hook(&with_preset("slack")).await;
    let body = r#"{"token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": "url_verification"}"#;
    let time = unix_seconds(SystemTime::now());
    let job =
        json!({"library": "slack", "task": "sign", "secret": "hush", "body": body, "time": time});
    let signed = &Oracle::Python.results(&[job]).await[0];
    let sent = Sent::new("application/json", body);
    let response = stage.send(&hook, &sent.clone().signed(signed)).await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.json(),
        json!({"challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"})
    );
    assert_eq!(
        stage.status(&hook, &sent).await,
        401,
        "whoever has not signed is told nothing"
    );
    stage.set_mode(&hook, "disabled").await;
    assert_eq!(stage.status(&hook, &sent.signed(signed)).await, 409);
    assert_eq!(stage.run_count().await, 0);
}

#[tokio::test]
async fn zoom_is_told_the_mac_of_its_token() {
    let stage = Stage::new().await;
    let hook = stage.hook(&with_preset("zoom")).await;
    let body = r#"{"payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}, "event_ts": 1654503849680, "event": "endpoint.url_validation"}"#;
    let time = unix_seconds(SystemTime::now());
    let signature = mac("hush", &format!("v0:{time}:{body}"), "hex").await;
    let sent = Sent::new("application/json", body)
        .header("x-zm-request-timestamp", &time.to_string())
        .header("x-zm-signature", &format!("v0={signature}"));
    let response = stage.send(&hook, &sent).await;
    let encrypted = mac("hush", "qgg8vlvZRS6UYooatFL8Aw", "hex").await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(
        response.json(),
        json!({"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": encrypted})
    );
}

#[tokio::test]
async fn twitch_and_xero_ask_with_signed_requests_of_their_own() {
    let stage = Stage::new().await;
    let twitch = stage.hook(&with_preset("twitch")).await;
    let body = r#"{"challenge": "pogchamp-kappa-360noscope-vohiyo", "subscription": {}}"#;
    let time =
        "select to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\".123456789Z\"')";
    let time = stage.sql().text(time).await;
    let signature = mac("hush", &format!("id-1{time}{body}"), "hex").await;
    let sent = Sent::new("application/json", body)
        .header("Twitch-Eventsub-Message-Id", "id-1")
        .header("Twitch-Eventsub-Message-Timestamp", &time)
        .header(
            "Twitch-Eventsub-Message-Signature",
            &format!("sha256={signature}"),
        );
    let asking = sent.clone().header(
        "Twitch-Eventsub-Message-Type",
        "webhook_callback_verification",
    );
    let response = stage.send(&twitch, &asking).await;
    assert_eq!(
        (response.status, &*response.text()),
        (200, "pogchamp-kappa-360noscope-vohiyo")
    );
    assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        stage.status(&twitch, &sent).await,
        422,
        "without the type it is an ordinary request"
    );

    let xero = stage.hook(&with_preset("xero")).await;
    let body = r#"{"events": [], "firstEventSequence": 0, "lastEventSequence": 0, "entropy": "S0m3r4Nd0mt3xt"}"#;
    let signature = mac("hush", body, "base64").await;
    let sent = Sent::new("application/json", body);
    let right = stage
        .send(&xero, &sent.clone().header("x-xero-signature", &signature))
        .await;
    assert_eq!((right.status, right.body), (200, Vec::new()));
    assert_eq!(
        stage
            .status(&xero, &sent.header("x-xero-signature", "AAAA"))
            .await,
        401
    );
}

#[tokio::test]
async fn meta_is_answered_when_it_knows_the_verify_token() {
    let stage = Stage::new().await;
    let mut options = with_preset("meta");
    let unanswered = stage.hook(&options).await;
    options["handshake"] = json!({"kind": "meta", "verify_token": "mei tok&n"});
    let hook = stage.hook(&options).await;
    let ask = |token: &str, challenge: &str| {
        Sent::bare(
            "GET",
            &format!("hub.mode=subscribe&hub.challenge={challenge}&hub.verify_token={token}"),
        )
    };
    let good = ask("mei%20tok%26n", "1158201444");
    let response = stage.send(&hook, &good).await;
    assert_eq!((response.status, &*response.text()), (200, "1158201444"));
    assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(response.header("x-content-type-options"), "nosniff");
    for (status, sent) in [
        (403, ask("mei", "1158201444")),
        (403, ask("", "1158201444")),
        (403, Sent::bare("GET", "hub.challenge=1")),
        (403, Sent::bare("GET", "")),
        (422, ask("mei+tok%26n", "")),
        (422, ask("mei+tok%26n", "a%20b")),
        (422, ask("mei+tok%26n", "a%0d%0aset-cookie:x")),
        (422, ask("mei+tok%26n", &"x".repeat(2000))),
        (422, Sent::bare("GET", "hub.verify_token=mei+tok%26n")),
    ] {
        let response = stage.send(&hook, &sent).await;
        assert_eq!(response.status, status, "{sent:?}: {response:?}");
        assert!(!response.text().contains("mei"), "{response:?}");
    }
    assert_eq!(
        stage.status(&unanswered, &good).await,
        405,
        "who has configured nothing answers nothing"
    );
    let shown = stage
        .sql()
        .text("select json_agg(t) from actionflow.triggers as t")
        .await;
    assert!(
        shown.contains("meta") && !shown.contains("mei tok"),
        "{shown}"
    );
}

#[tokio::test]
async fn dropbox_okta_and_trello_ask_without_a_body() {
    let stage = Stage::new().await;
    let dropbox = stage.hook(&with_preset("dropbox")).await;
    let response = stage
        .send(&dropbox, &Sent::bare("GET", "challenge=abc_123-%3Cb%3E"))
        .await;
    assert_eq!((response.status, &*response.text()), (200, "abc_123-<b>"));
    assert_eq!(response.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        response.header("x-content-type-options"),
        "nosniff",
        "nothing takes it for a page"
    );
    assert_eq!(stage.status(&dropbox, &Sent::bare("GET", "")).await, 422);
    assert_eq!(
        stage
            .status(&dropbox, &Sent::bare("HEAD", "challenge=a"))
            .await,
        405
    );

    let okta = stage.hook(&with_preset("okta")).await;
    let ask = Sent::bare("GET", "").header("X-Okta-Verification-Challenge", "Sd0f-7");
    let response = stage.send(&okta, &ask).await;
    assert_eq!(
        (response.status, response.json()),
        (200, json!({"verification": "Sd0f-7"}))
    );

    let mut options = with_preset("trello");
    options["signature"]["url"] = json!("https://hooks.example.com/in");
    let trello = stage.hook(&options).await;
    let response = stage.send(&trello, &Sent::bare("HEAD", "")).await;
    assert_eq!((response.status, response.body), (200, Vec::new()));
    assert_eq!(stage.status(&trello, &Sent::bare("GET", "")).await, 405);
    assert_eq!(stage.run_count().await, 0);
}

#[tokio::test]
async fn a_question_is_answered_also_while_a_sample_is_waited_for() {
    let stage = Stage::new().await;
    let hook = stage.hook(&with_preset("dropbox")).await;
    let xero = stage.hook(&with_preset("xero")).await;
    for hook in [&hook, &xero] {
        let arm = format!("select actionflow.capture_webhook_sample({})", hook.id);
        stage.sql().run(&arm).await;
    }
    assert_eq!(
        stage
            .send(&hook, &Sent::bare("GET", "challenge=a"))
            .await
            .text(),
        "a"
    );
    let body = r#"{"events": []}"#;
    let sent = Sent::new("application/json", body)
        .header("x-xero-signature", &mac("hush", body, "base64").await);
    let response = stage.send(&xero, &sent).await;
    assert_eq!((response.status, response.body), (200, Vec::new()));
    let waiting = "select count(*) from actionflow.webhook_samples where captured_at is null";
    assert_eq!(stage.sql().number(waiting).await, 2);
}

#[tokio::test]
async fn the_allow_list_holds_for_questions_too() {
    let stage = Stage::new().await;
    let mut options = with_preset("dropbox");
    options["allowed_ips"] = json!(["203.0.113.9"]);
    let hook = stage.hook(&options).await;
    let response = stage.send(&hook, &Sent::bare("GET", "challenge=a")).await;
    assert_eq!(
        (response.status, &response.json()["error"]["code"]),
        (403, &json!("forbidden"))
    );
}
