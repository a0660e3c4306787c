//! Presets of providers whose libraries are not at hand: each by its own rule, computed with Python's `hmac`.

use std::time::SystemTime;

use actionflow_tests::Oracle;
use serde_json::{Value, json};

use crate::scene::unix_seconds;
use crate::webhook_stage::{Sent, Stage};

/// `{s}`, `{ms}` and three spellings of an ISO 8601 time, `{id}`, `{url}`, `{body}` and `{mac}` are filled in.
struct Provider {
    preset: &'static str,
    algorithm: &'static str,
    encoding: &'static str,
    /// What is signed.
    text: &'static str,
    headers: &'static [(&'static str, &'static str)],
    /// What tells the request from others.
    id: Option<&'static str>,
}

const fn provider(
    preset: &'static str,
    algorithm: &'static str,
    encoding: &'static str,
    text: &'static str,
    headers: &'static [(&'static str, &'static str)],
    id: Option<&'static str>,
) -> Provider {
    Provider {
        preset,
        algorithm,
        encoding,
        text,
        headers,
        id,
    }
}

const SECRET: &str = "s3cret-κλειδί";
const URL: &str = "https://hooks.example.com/in";
const ID: Option<&str> = Some("6f1c9a52");
const EVENT: Option<&str> = Some("evt_1");

#[rustfmt::skip]
const PROVIDERS: &[Provider] = &[
    provider("autotask", "sha1", "base64", "{body}", &[("X-Hook-Signature", "sha1={mac}")], None),
    provider("bitbucket", "sha256", "hex", "{body}", &[("X-Hub-Signature", "sha256={mac}"), ("X-Request-UUID", "{id}")], ID),
    provider("box", "sha256", "base64", "{body}{iso_offset}",
        &[("BOX-SIGNATURE-PRIMARY", "{mac}"), ("BOX-DELIVERY-TIMESTAMP", "{iso_offset}")], EVENT),
    provider("cal-com", "sha256", "hex", "{body}", &[("X-Cal-Signature-256", "{mac}")], None),
    provider("calendly", "sha256", "hex", "{s}.{body}", &[("Calendly-Webhook-Signature", "t={s},v1={mac}")], None),
    provider("customerio", "sha256", "hex", "v0:{s}:{body}", &[("X-CIO-Signature", "{mac}"), ("X-CIO-Timestamp", "{s}")], Some("Ev1")),
    provider("dropbox", "sha256", "hex", "{body}", &[("X-Dropbox-Signature", "{mac}")], None),
    provider("fourthwall", "sha256", "base64", "{body}", &[("X-Fourthwall-Hmac-SHA256", "{mac}")], None),
    provider("github-sha1", "sha1", "hex", "{body}", &[("X-Hub-Signature", "sha1={mac}"), ("X-GitHub-Delivery", "{id}")], ID),
    provider("heroku", "sha256", "base64", "{body}", &[("Heroku-Webhook-Hmac-SHA256", "{mac}")], None),
    provider("intercom", "sha1", "hex", "{body}", &[("X-Hub-Signature", "sha1={mac}")], EVENT),
    provider("lemon-squeezy", "sha256", "hex", "{body}", &[("X-Signature", "{mac}")], None),
    provider("linear", "sha256", "hex", "{body}", &[("Linear-Signature", "{mac}"), ("Linear-Delivery", "{id}")], ID),
    provider("mailgun", "sha256", "hex", "{s}t0ken", &[], Some("t0ken")),
    provider("meta", "sha256", "hex", "{body}", &[("X-Hub-Signature-256", "sha256={mac}")], None),
    provider("mux", "sha256", "hex", "{s}.{body}", &[("Mux-Signature", "t={s},v1={mac}")], EVENT),
    provider("pagerduty", "sha256", "hex", "{body}", &[("X-PagerDuty-Signature", "v1=00ff,v1={mac}")], Some("pd_1")),
    provider("paystack", "sha512", "hex", "{body}", &[("x-paystack-signature", "{mac}")], None),
    provider("polar", "sha256", "base64", "{id}.{s}.{body}",
        &[("webhook-id", "{id}"), ("webhook-timestamp", "{s}"), ("webhook-signature", "v1,{mac}")], ID),
    provider("razorpay", "sha256", "hex", "{body}", &[("X-Razorpay-Signature", "{mac}"), ("X-Razorpay-Event-Id", "{id}")], ID),
    provider("recurly", "sha256", "hex", "{ms}.{body}", &[("recurly-signature", "{ms},{mac},00ff")], None),
    provider("sfmc-ens", "sha256", "base64", "{body}", &[("x-sfmc-ens-signature", "{mac}")], None),
    provider("shopify", "sha256", "base64", "{body}", &[("X-Shopify-Hmac-SHA256", "{mac}"), ("X-Shopify-Webhook-Id", "{id}")], ID),
    provider("tiktok", "sha256", "hex", "{s}.{body}", &[("TikTok-Signature", "t={s},s={mac}")], None),
    provider("trello", "sha1", "base64", "{body}{url}", &[("X-Trello-Webhook", "{mac}")], Some("act_1")),
    provider("twitch", "sha256", "hex", "{id}{iso_nanos}{body}",
        &[("Twitch-Eventsub-Message-Id", "{id}"), ("Twitch-Eventsub-Message-Timestamp", "{iso_nanos}"),
          ("Twitch-Eventsub-Message-Signature", "sha256={mac}")], ID),
    provider("typeform", "sha256", "base64", "{body}", &[("Typeform-Signature", "sha256={mac}")], Some("Ev1")),
    provider("vercel", "sha1", "hex", "{body}", &[("x-vercel-signature", "{mac}")], EVENT),
    provider("webflow", "sha256", "hex", "{ms}:{body}", &[("x-webflow-signature", "{mac}"), ("x-webflow-timestamp", "{ms}")], None),
    provider("woocommerce", "sha256", "base64", "{body}", &[("X-WC-Webhook-Signature", "{mac}"), ("X-WC-Webhook-Delivery-ID", "{id}")], None),
    provider("workos", "sha256", "hex", "{ms}.{body}", &[("WorkOS-Signature", "t={ms}, v1={mac}")], EVENT),
    provider("xero", "sha256", "base64", "{body}", &[("x-xero-signature", "{mac}")], None),
    provider("zendesk", "sha256", "base64", "{iso}{body}",
        &[("X-Zendesk-Webhook-Signature", "{mac}"), ("X-Zendesk-Webhook-Signature-Timestamp", "{iso}"),
          ("X-Zendesk-Webhook-Invocation-Id", "{id}")], ID),
    provider("zoom", "sha256", "hex", "v0:{s}:{body}", &[("x-zm-signature", "v0={mac}"), ("x-zm-request-timestamp", "{s}")], None),
];

/// What is filled into templates.
struct Words(Vec<(&'static str, String)>);

impl Words {
    async fn now(stage: &Stage<'_>) -> Self {
        let seconds = unix_seconds(SystemTime::now());
        let iso = async |offset: &str| {
            let format = format!(
                "select to_char(to_timestamp({seconds}) at time zone 'utc' + interval '{offset}', 'YYYY-MM-DD\"T\"HH24:MI:SS')"
            );
            stage.sql().text(&format).await
        };
        let mut words = Self(vec![
            ("{s}", seconds.to_string()),
            ("{ms}", format!("{seconds}000")),
            ("{iso}", iso("0").await + "Z"),
            ("{iso_offset}", iso("-7 hours").await + "-07:00"),
            ("{iso_nanos}", iso("0").await + ".123456789Z"),
            ("{id}", "6f1c9a52".to_owned()),
            ("{url}", URL.to_owned()),
        ]);
        let body = words.fill(
            r#"{"user": "42", "note": "marker é", "id": "evt_1", "event_id": "Ev1", "webhookTimestamp": {ms},
                "action": {"id": "act_1"}, "event": {"id": "pd_1"}}"#,
        );
        words.0.push(("{body}", body));
        words
    }

    fn fill(&self, template: &str) -> String {
        let words = self.0.iter();
        words.fold(template.to_owned(), |text, (word, meaning)| {
            text.replace(word, meaning)
        })
    }

    fn with_mac(&self, mac: &str) -> Self {
        let mut words = self.0.clone();
        words.push(("{mac}", mac.to_owned()));
        Self(words)
    }
}

impl Provider {
    fn job(&self, words: &Words) -> Value {
        json!({"library": "hmac", "task": "sign", "algorithm": self.algorithm, "encoding": self.encoding,
            "secret": SECRET, "text": words.fill(self.text)})
    }

    fn sent(&self, words: &Words) -> Sent {
        let body = match self.preset {
            "mailgun" => {
                r#"{"user": "42", "signature": {"timestamp": "{s}", "token": "t0ken", "signature": "{mac}"}}"#
            }
            _ => "{body}",
        };
        let sent = Sent::new("application/json", words.fill(body));
        let headers = self.headers.iter();
        headers.fold(sent, |sent, (name, value)| {
            sent.header(name, &words.fill(value))
        })
    }

    fn options(&self) -> Value {
        let mut signature = json!({"preset": self.preset, "secret": SECRET});
        if self.text.contains("{url}") {
            signature["url"] = json!(URL);
        }
        // A customer for each: the ids are of the senders' making, and the same here.
        let user = json!({"const": self.preset});
        json!({"signature": signature, "mapping": {"kind": "fields", "targetUserIds": user}})
    }
}

#[tokio::test]
async fn t25_each_preset_believes_what_its_provider_signs_and_nothing_else() {
    let stage = Stage::new().await;
    let words = Words::now(&stage).await;
    let jobs: Vec<Value> = PROVIDERS
        .iter()
        .map(|provider| provider.job(&words))
        .collect();
    let mut wrong = Vec::new();
    for (provider, signed) in PROVIDERS.iter().zip(Oracle::Python.results(&jobs).await) {
        let hook = stage.live(&provider.options()).await;
        let mac = signed["mac"].as_str().expect("a text");
        let good = provider.sent(&words.with_mac(mac));
        let mut changed = good.clone();
        changed.body = changed.text().replace("marker", "marjer").into();
        // All of the MAC but its beginning fits.
        let nearly = match mac.strip_prefix('0') {
            Some(rest) => format!("1{rest}"),
            None => format!("0{}", &mac[1..]),
        };
        let mut attempts = vec![
            (401, provider.sent(&words.with_mac(&nearly))),
            (401, provider.sent(&words.with_mac(""))),
        ];
        if provider.preset != "mailgun" {
            attempts.push((401, changed));
        }
        // Xero takes nothing but 200 for success.
        let accepted = if provider.preset == "xero" { 200 } else { 202 };
        attempts.push((accepted, good));
        for (status, sent) in attempts {
            let response = stage.send(&hook, &sent).await;
            let is_known_by_id = status != 202
                || provider
                    .id
                    .is_none_or(|id| response.json()["data"]["flowInvocationId"] == id);
            if response.status != status || !is_known_by_id {
                wrong.push(format!("{}: {sent:?}: {response:?}", provider.preset));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{:#?}",
        wrong.join("\n"),
        stage.reasons().await
    );
    let runs = i64::try_from(PROVIDERS.len()).expect("few");
    assert_eq!(stage.run_count().await, runs, "{:#?}", stage.runs().await);
}

#[tokio::test]
async fn a_shared_token_is_the_whole_header_and_is_never_kept() {
    let stage = Stage::new().await;
    for (preset, header) in [
        ("gitlab-token", "x-gitlab-token"),
        ("okta", "authorization"),
        ("auth0", "authorization"),
        ("token", "authorization"),
    ] {
        let options = json!({"signature": {"preset": preset, "secret": "Bearer t0ken"},
            "mapping": {"kind": "fields", "targetUserIds": "$.user"}});
        let hook = stage.hook(&options).await;
        let sent = Sent::json(&json!({"user": "42"}));
        let tokens = [
            ("Bearer t0ken", 202),
            ("Bearer t0keN", 401),
            ("t0ken", 401),
            ("Bearer t0ken2", 401),
            ("", 401),
        ];
        for (token, status) in tokens {
            let sent = sent.clone().header(header, token);
            assert_eq!(
                stage.status(&hook, &sent).await,
                status,
                "{preset} {token:?}"
            );
        }
        let capture = format!("select actionflow.capture_webhook_sample({})", hook.id);
        stage.sql().run(&capture).await;
        stage
            .send(&hook, &sent.header(header, "Bearer t0ken"))
            .await;
    }
    let kept = "select (select json_agg(s) from actionflow.webhook_samples as s) || '' ||
        (select json_agg(r) from actionflow.webhook_rejections as r)";
    let kept = stage.sql().text(kept).await;
    assert!(
        kept.contains("content-type") && !kept.to_lowercase().contains("t0ken"),
        "{kept}"
    );
}

#[tokio::test]
async fn every_preset_can_be_saved_with_a_secret() {
    let stage = Stage::new().await;
    let presets = include_str!("../../../core/src/signature/presets.json");
    let presets: Value = serde_json::from_str(presets).expect("JSON");
    let presets = presets.as_object().expect("an object");
    assert!(presets.len() >= 30, "{}", presets.len());
    for (name, preset) in presets {
        let shown = stage
            .sql()
            .json(&format!("select actionflow.signature_preset('{name}')"))
            .await;
        assert_eq!(shown["preset"], **name, "{shown}");
        assert_eq!(shown["template"], preset["template"], "{shown}");
        let secret = match preset["algorithm"].as_str() {
            Some("standard-webhooks") => "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            Some("ed25519") => "f650d1b683cd8ae5b858dd82ed6c5788bc2e0157c0e1046dd2c287e3d3dd910b",
            Some("ecdsa-p256-sha256") => {
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBD5Q5qq0aUqgv2GtALmTKumaMs1+zzePZUxsCdEqQ0/OR/6glLaVo0VIwZf6N83qS1VCrhH1mGgaV5Znbwzf+w=="
            }
            _ => "aabbccdd",
        };
        let secret = if name == "supabase" {
            format!("v1,{secret}")
        } else {
            secret.to_owned()
        };
        let mut signature = json!({"preset": name, "secret": secret, "url": URL});
        let template = preset["template"].as_str().unwrap_or_default();
        if !template.contains("[url]") {
            signature.as_object_mut().expect("an object").remove("url");
        }
        stage.hook(&json!({"signature": signature})).await;
    }
}
