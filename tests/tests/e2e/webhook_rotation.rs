//! Several secrets, several signatures, and how a secret is replaced without losing a request.

use std::time::SystemTime;

use actionflow_tests::{Cluster, Database, Oracle};
use serde_json::{Value, json};

use crate::scene::{create_endpoint, notify, publish, settle, unix_seconds};
use crate::webhook_stage::{Hook, Sent, Stage, user_mapping};

const BODY: &str = r#"{"user": "42"}"#;
const FIRST: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const SECOND: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const THIRD: &str = "whsec_HxAeHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE=";

fn job(library: &str, secret: &str) -> Value {
    let time = unix_seconds(SystemTime::now());
    json!({"library": library, "task": "sign", "secret": secret, "body": BODY, "time": time, "id": "msg_1"})
}

/// The header that each secret signs with.
async fn signed(library: &str, header: &str, secrets: &[&str]) -> Vec<(Value, String)> {
    let jobs: Vec<Value> = secrets.iter().map(|secret| job(library, secret)).collect();
    let oracle = if library == "octokit" {
        Oracle::Node
    } else {
        Oracle::Python
    };
    let results = oracle.results(&jobs).await;
    let text = |headers: &Value| headers[header].as_str().expect("a text").to_owned();
    results
        .iter()
        .map(|headers| (headers.clone(), text(headers)))
        .collect()
}

fn options(signature: Value) -> Value {
    json!({"signature": signature, "mapping": user_mapping()})
}

fn sent(headers: &Value) -> Sent {
    Sent::new("application/json", BODY).signed(headers)
}

fn with(headers: &Value, name: &str, value: &str) -> Value {
    let mut headers = headers.clone();
    headers[name] = json!(value);
    headers
}

#[tokio::test]
async fn t25_any_of_several_secrets_fits_and_a_replaced_one_no_longer() {
    let stage = Stage::new().await;
    for (preset, library, header) in [
        ("stripe", "stripe", "stripe-signature"),
        ("standard-webhooks", "standardwebhooks", "webhook-signature"),
        ("paddle", "paddle", "paddle-signature"),
        ("slack", "slack", "x-slack-signature"),
        ("github", "octokit", "x-hub-signature-256"),
    ] {
        let both = json!({"preset": preset, "secrets": [FIRST, SECOND]});
        let hook = stage.hook(&options(both)).await;
        let signed = signed(library, header, &[FIRST, SECOND, THIRD]).await;
        let mut statuses = Vec::new();
        for (headers, _) in &signed {
            statuses.push(stage.status(&hook, &sent(headers)).await);
        }
        assert_eq!(statuses, [202, 202, 401], "{preset}");
        let one = json!({"signature": {"preset": preset, "secrets": [SECOND]}});
        update(&stage, &hook, &one).await;
        statuses.clear();
        for (headers, _) in &signed {
            statuses.push(stage.status(&hook, &sent(headers)).await);
        }
        assert_eq!(statuses, [401, 202, 401], "{preset} after the change");
    }
}

async fn update(stage: &Stage<'_>, hook: &Hook, options: &Value) {
    let update = format!(
        "select actionflow.update_webhook_trigger({}, $json${options}$json$)",
        hook.id
    );
    stage.sql().run(&update).await;
}

#[tokio::test]
async fn t25_any_of_several_signatures_fits() {
    let stage = Stage::new().await;
    for (preset, library, header, parts) in [
        ("stripe", "stripe", "stripe-signature", ",v1="),
        (
            "standard-webhooks",
            "standardwebhooks",
            "webhook-signature",
            " v1,",
        ),
        ("paddle", "paddle", "paddle-signature", ";h1="),
    ] {
        let one = json!({"preset": preset, "secret": SECOND});
        let hook = stage.hook(&options(one)).await;
        let signed = signed(library, header, &[FIRST, SECOND, THIRD]).await;
        let mac = |index: usize| {
            let text = &signed[index].1;
            let start = text
                .rfind(parts.trim_start())
                .map(|at| at + parts.trim_start().len());
            text[start.expect("a prefix")..].to_owned()
        };
        let cases = [
            (202, format!("{}{parts}{}", signed[0].1, mac(1))),
            (202, format!("{}{parts}{}", signed[1].1, mac(0))),
            (
                202,
                format!("{}{parts}{}{parts}{}", signed[0].1, mac(2), mac(1)),
            ),
            (401, format!("{}{parts}{}", signed[0].1, mac(2))),
            (401, format!("{}{parts}", signed[0].1)),
        ];
        for (status, value) in cases {
            let sent = sent(&with(&signed[0].0, header, &value));
            assert_eq!(
                stage.status(&hook, &sent).await,
                status,
                "{preset}: {value}"
            );
        }
    }
}

/// A header, and the secret that its signature is made with.
type Header = (&'static str, &'static str);

const PRIMARY: &str = "BOX-SIGNATURE-PRIMARY";
const SECONDARY: &str = "BOX-SIGNATURE-SECONDARY";
const NUMBER_1: &str = "X-DocuSign-Signature-1";
const NUMBER_2: &str = "X-DocuSign-Signature-2";

/// Known are the secrets `one` and `two`.
const BOX: &[(u16, &[Header])] = &[
    (202, &[(PRIMARY, "one")]),
    (202, &[(SECONDARY, "two")]),
    (202, &[(PRIMARY, "x"), (SECONDARY, "two")]),
    (401, &[(PRIMARY, "x"), (SECONDARY, "x")]),
    (401, &[]),
];

/// Known is the secret `two`.
const DOCUSIGN: &[(u16, &[Header])] = &[
    (202, &[(NUMBER_1, "one"), (NUMBER_2, "two")]),
    (202, &[(NUMBER_1, "two")]),
    (401, &[(NUMBER_1, "one")]),
    (401, &[("X-DocuSign-Signature", "two")]),
];

#[tokio::test]
async fn t25_a_second_header_has_the_signature_of_the_second_key() {
    let stage = Stage::new().await;
    let time = "select to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    let time = stage.sql().text(time).await;
    let cases = [
        (
            json!({"preset": "box", "secrets": ["one", "two"]}),
            format!("{BODY}{time}"),
            BOX,
        ),
        (
            json!({"preset": "docusign", "secret": "two"}),
            BODY.to_owned(),
            DOCUSIGN,
        ),
    ];
    for (signature, text, requests) in cases {
        let secrets = ["one", "two", "x"];
        let jobs = secrets.map(|secret| {
            json!({"library": "hmac", "task": "sign", "algorithm": "sha256", "encoding": "base64", "secret": secret, "text": text})
        });
        let macs = Oracle::Python.results(&jobs).await;
        let hook = stage.hook(&options(signature)).await;
        for (status, headers) in requests {
            let mut sent =
                Sent::new("application/json", BODY).header("BOX-DELIVERY-TIMESTAMP", &time);
            for (name, secret) in *headers {
                let index = secrets.iter().position(|known| known == secret);
                let mac = &macs[index.expect("a secret")]["mac"];
                sent = sent.header(name, mac.as_str().expect("a text"));
            }
            assert_eq!(stage.status(&hook, &sent).await, *status, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn t25_a_secret_is_valid_between_its_dates() {
    let stage = Stage::new().await;
    let time = async |offset: &str| {
        let text = format!(
            "select to_char((now() + interval '{offset}') at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        );
        stage.sql().text(&text).await
    };
    let (before, after) = (time("-1 hour").await, time("1 hour").await);
    let signed = signed("stripe", "stripe-signature", &[FIRST]).await;
    for (status, dates) in [
        (202, json!({"notBefore": before, "notAfter": after})),
        (202, json!({"notAfter": after})),
        (401, json!({"notAfter": before})),
        (401, json!({"notBefore": after})),
    ] {
        let mut secret = dates.clone();
        secret["secret"] = json!(FIRST);
        let hook = stage
            .hook(&options(
                json!({"preset": "stripe", "secrets": [secret, SECOND]}),
            ))
            .await;
        assert_eq!(
            stage.status(&hook, &sent(&signed[0].0)).await,
            status,
            "{dates}"
        );
        let shown = format!(
            "select options from actionflow.triggers where id = {}",
            hook.id
        );
        let shown = stage.sql().text(&shown).await;
        assert!(!shown.contains("whsec_"), "{shown}");
    }
}

/// Notify of one flow is the webhook of another one: each side holds what the other one expects of the standard.
#[tokio::test]
async fn t25_what_actionflow_sends_another_actionflow_believes_also_while_its_secret_is_replaced() {
    let stage = Stage::new().await;
    let other = Database::within(Cluster::shared()).await;
    let target = format!("http://{}", stage.worker.address());
    let secret = create_endpoint(&other.sql, "shop", &target, "{}").await;
    let signature = json!({"preset": "standard-webhooks", "secret": secret});
    let mapping = json!({"kind": "fields", "targetUserIds": "$.data.user.id", "variables": {"from": "$.data.flow"}});
    let hook = stage
        .live(&json!({"signature": signature, "mapping": mapping}))
        .await;
    let move_there = format!(
        r#"select actionflow.update_endpoint('shop', '{{"url": "{target}{}", "success": "2xx"}}')"#,
        hook.path
    );
    other.sql.run(&move_there).await;
    publish(&other.sql, "tell-shop", &notify("tell", &["shop"])).await;
    let _worker = other.worker().await;
    let start = async |user: &str| {
        let start = format!(
            "select actionflow.start_flow('tell-shop', '{{\"targetUserIds\": \"{user}\"}}')"
        );
        other.sql.run(&start).await;
        settle(&other.sql).await;
    };
    start("1").await;
    // Signed with both from now on; only the old one is known there.
    let rotated = other
        .sql
        .text("select actionflow.rotate_endpoint_secret('shop', '1 day')")
        .await;
    start("2").await;
    let known = json!({"signature": {"preset": "standard-webhooks", "secret": rotated}});
    let force = format!(
        "select actionflow.update_webhook_trigger({}, $json${known}$json$, force => true)",
        hook.id
    );
    stage.sql().run(&force).await;
    start("3").await;
    let delivered = "select string_agg(state || attempts, ' ') from actionflow.deliveries";
    assert_eq!(
        other.sql.text(delivered).await,
        "delivered1 delivered1 delivered1"
    );
    // The delivery's id is what a repetition is known by.
    let ids = other
        .sql
        .rows("select user_id, id from actionflow.deliveries order by id")
        .await;
    assert_eq!(stage.runs().await, ids);
    let told = stage.receiver.wait_for("/crm", 3).await;
    assert_eq!(
        told[0].json()["data"]["variables"],
        json!({"from": "tell-shop"})
    );
}
