//! Every preset verifies a request that is signed here by the sender's rule, written down a second time, and no changed one.

use std::collections::BTreeSet;

use actionflow_core::input::Kind;
use actionflow_core::signature::{Config, Rejection, Request, preset, preset_names};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{NOW, SECONDS, base64, config, sha1, sha256, sha512, verify, verify_at};

pub(super) const BODY: &str =
    r#"{"id":"evt_1","webhookTimestamp":1700000000000,"data":{"text":"[payload] $& [timestamp]"}}"#;
const URL: &str = "https://example.com/v1/webhooks/abc?x=1";
pub(super) const SECRET: &str = "a secret: 100% [payload]";
/// The rules of the senders: name, hash, form of the signature, what is signed, and the headers. `{…}` is put in.
const RULES: &str = "\
autotask      | sha1   | base64    | {body}              | X-Hook-Signature: sha1={sig}
bitbucket     | sha256 | hex       | {body}              | X-Hub-Signature: sha256={sig}
box           | sha256 | base64    | {body}{iso}         | BOX-SIGNATURE-PRIMARY: {sig}; BOX-DELIVERY-TIMESTAMP: {iso}
cal-com       | sha256 | hex       | {body}              | X-Cal-Signature-256: {sig}
calendly      | sha256 | hex       | {ts}.{body}         | Calendly-Webhook-Signature: t={ts},v1={sig}
customerio    | sha256 | hex       | v0:{ts}:{body}      | X-CIO-Signature: {sig}; X-CIO-Timestamp: {ts}
docusign      | sha256 | base64    | {body}              | X-DocuSign-Signature-2: {sig}
dropbox       | sha256 | hex       | {body}              | X-Dropbox-Signature: {sig}
fourthwall    | sha256 | base64    | {body}              | X-Fourthwall-Hmac-SHA256: {sig}
github        | sha256 | hex       | {body}              | X-Hub-Signature-256: sha256={sig}
github-sha1   | sha1   | hex       | {body}              | X-Hub-Signature: sha1={sig}
grafana       | sha256 | hex       | {body}              | x-grafana-alerting-signature: {sig}
heroku        | sha256 | base64    | {body}              | Heroku-Webhook-Hmac-SHA256: {sig}
hubspot-v3    | sha256 | base64    | POST{url}{body}{ms} | X-HubSpot-Signature-v3: {sig}; X-HubSpot-Request-Timestamp: {ms}
intercom      | sha1   | hex       | {body}              | X-Hub-Signature: sha1={sig}
lemon-squeezy | sha256 | hex       | {body}              | X-Signature: {sig}
linear        | sha256 | hex       | {body}              | Linear-Signature: {sig}
meta          | sha256 | hex       | {body}              | X-Hub-Signature-256: sha256={sig}
mux           | sha256 | hex       | {ts}.{body}         | Mux-Signature: t={ts},v1={sig}
paddle        | sha256 | hex       | {ts}:{body}         | Paddle-Signature: ts={ts};h1={sig}
pagerduty     | sha256 | hex       | {body}              | X-PagerDuty-Signature: v1=00,v1={sig}
paystack      | sha512 | hex       | {body}              | x-paystack-signature: {sig}
polar         | sha256 | base64    | {id}.{ts}.{body}    | webhook-id: {id}; webhook-timestamp: {ts}; webhook-signature: v1,{sig}
razorpay      | sha256 | hex       | {body}              | X-Razorpay-Signature: {sig}
recurly       | sha256 | hex       | {ms}.{body}         | recurly-signature: {ms},00,{sig}
sanity        | sha256 | base64url | {ms}.{body}         | sanity-webhook-signature: t={ms},v1={sig}
segment       | sha1   | hex       | {body}              | X-Signature: {sig}
sfmc-ens      | sha256 | base64    | {body}              | x-sfmc-ens-signature: {sig}
shopify       | sha256 | base64    | {body}              | X-Shopify-Hmac-SHA256: {sig}
slack         | sha256 | hex       | v0:{ts}:{body}      | X-Slack-Signature: v0={sig}; X-Slack-Request-Timestamp: {ts}
square        | sha256 | base64    | {url}{body}         | x-square-hmacsha256-signature: {sig}
stripe        | sha256 | hex       | {ts}.{body}         | Stripe-Signature: t={ts},v1=00,v1={sig},v0=00
tiktok        | sha256 | hex       | {ts}.{body}         | TikTok-Signature: t={ts},s={sig}
trello        | sha1   | base64    | {body}{url}         | X-Trello-Webhook: {sig}
twitch        | sha256 | hex       | {id}{iso}{body}     | Twitch-Eventsub-Message-Signature: sha256={sig}; Twitch-Eventsub-Message-Id: {id}; Twitch-Eventsub-Message-Timestamp: {iso}
typeform      | sha256 | base64    | {body}              | Typeform-Signature: sha256={sig}
vercel        | sha1   | hex       | {body}              | x-vercel-signature: {sig}
webflow       | sha256 | hex       | {ms}:{body}         | x-webflow-signature: {sig}; x-webflow-timestamp: {ms}
woocommerce   | sha256 | base64    | {body}              | X-WC-Webhook-Signature: {sig}
workos        | sha256 | hex       | {ms}.{body}         | WorkOS-Signature: t={ms}, v1={sig}
xero          | sha256 | base64    | {body}              | x-xero-signature: {sig}
zendesk       | sha256 | base64    | {iso}{body}         | X-Zendesk-Webhook-Signature: {sig}; X-Zendesk-Webhook-Signature-Timestamp: {iso}
zoom          | sha256 | hex       | v0:{ts}:{body}      | x-zm-signature: v0={sig}; x-zm-request-timestamp: {ts}";

/// A line of the rules.
struct Rule {
    name: &'static str,
    hash: &'static str,
    form: &'static str,
    text: &'static str,
    headers: &'static str,
}

fn rules() -> impl Iterator<Item = Rule> {
    RULES.lines().map(|line| {
        let mut columns = line.split(" | ").map(str::trim);
        let mut next = || columns.next().expect("five columns");
        Rule {
            name: next(),
            hash: next(),
            form: next(),
            text: next(),
            headers: next(),
        }
    })
}

/// The tolerances of the senders that say another one than 300 seconds.
const TOLERANCES: &[(&str, i64)] = &[("box", 600), ("linear", 60), ("twitch", 600)];

pub(super) const STANDARD: &[(&str, &str)] = &[
    ("clerk", "svix"),
    ("dodo-payments", "webhook"),
    ("gitlab", "webhook"),
    ("openai", "webhook"),
    ("replicate", "webhook"),
    ("resend", "svix"),
    ("standard-webhooks", "webhook"),
    ("supabase", "webhook"),
    ("svix", "svix"),
];
pub(super) const TOKENS: &[(&str, &str)] = &[
    ("auth0", "Authorization"),
    ("gitlab-token", "X-Gitlab-Token"),
    ("okta", "Authorization"),
    ("token", "Authorization"),
];
/// Those whose tests are below or among the vectors.
const OTHERS: &[&str] = &[
    "adyen",
    "discord",
    "hubspot-v1",
    "hubspot-v2",
    "mailgun",
    "sendgrid",
    "twilio",
];

fn filled(text: &str, signature: &str) -> String {
    [
        ("{ts}", "1700000000"),
        ("{ms}", "1700000000000"),
        ("{iso}", "2023-11-14T22:13:20Z"),
        ("{id}", "msg_1"),
        ("{url}", URL),
        ("{sig}", signature),
        ("{body}", BODY),
    ]
    .iter()
    .fold(text.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

fn signed(rule: &Rule) -> Vec<(String, String)> {
    let text = filled(rule.text, "");
    let mac = match rule.hash {
        "sha1" => sha1(SECRET.as_bytes(), text.as_bytes()),
        "sha512" => sha512(SECRET.as_bytes(), text.as_bytes()),
        _ => sha256(SECRET.as_bytes(), text.as_bytes()),
    };
    let signature = match rule.form {
        "hex" => hex::encode(mac),
        "base64url" => URL_SAFE_NO_PAD.encode(mac),
        _ => base64(&mac),
    };
    let pairs = rule
        .headers
        .split("; ")
        .filter_map(|header| header.split_once(": "));
    pairs
        .map(|(name, value)| (name.to_owned(), filled(value, &signature)))
        .collect()
}

pub(super) fn with(name: &str, secret: &str) -> Config {
    let mut json = json!({"preset": name, "secret": secret});
    let needs_url = preset(name).expect("a known name")["template"]
        .as_str()
        .is_some_and(|t| t.contains("[url]"));
    if needs_url {
        json["url"] = json!(URL);
    }
    config(&json)
}

#[test]
fn every_preset_is_tested_and_is_a_configuration_but_for_the_secret() {
    let names: BTreeSet<&str> = preset_names().collect();
    let rules = rules().map(|rule| rule.name);
    let pairs = STANDARD.iter().chain(TOKENS).map(|pair| pair.0);
    let tested: BTreeSet<&str> = rules.chain(pairs).chain(OTHERS.iter().copied()).collect();
    assert_eq!(names, tested);
    assert!(names.len() >= 30);
    for name in names {
        let mut json = preset(name).unwrap();
        assert_eq!(json["preset"], name);
        if json["template"]
            .as_str()
            .is_some_and(|template| template.contains("[url]"))
        {
            assert_eq!(
                Config::parse(&json).unwrap_err().to_string(),
                "invalid signature configuration: key \"url\" is missing"
            );
            json["url"] = json!(URL);
        }
        let whole = config(&json);
        assert_eq!(whole.preset(), Some(name));
        assert!(whole.require_secret().is_err());
        assert_eq!(verify(&whole, &[], b""), Err(Rejection::NoSecret), "{name}");
        // The same without saying where it comes from.
        json.as_object_mut().unwrap().remove("preset");
        assert_eq!(config(&json).preset(), None);
    }
    assert_eq!(preset("nobody"), None);
}

#[test]
fn requests_signed_by_the_senders_rules_are_believed_and_no_changed_ones() {
    for rule in rules() {
        let name = rule.name;
        let owned = signed(&rule);
        let headers: Vec<(&str, &str)> = owned
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let good = with(name, SECRET);
        assert_eq!(verify(&good, &headers, BODY.as_bytes()), Ok(()), "{name}");
        let changed = BODY.replace("evt_1", "evt_2");
        assert_eq!(
            verify(&good, &headers, changed.as_bytes()),
            Err(Rejection::Mismatch),
            "{name}"
        );
        assert_eq!(
            verify(&with(name, "other"), &headers, BODY.as_bytes()),
            Err(Rejection::Mismatch),
            "{name}"
        );
        for index in 0..headers.len() {
            let mut fewer = headers.clone();
            let (missing, _) = fewer.remove(index);
            let answer = verify(&good, &fewer, BODY.as_bytes());
            let expected = if name == "docusign" {
                "x-docusign-signature-1".to_owned()
            } else {
                missing.to_lowercase()
            };
            assert_eq!(answer, Err(Rejection::MissingHeader(expected)), "{name}");
        }
        check_age(
            name,
            &good,
            &headers,
            ["{ts}", "{ms}", "{iso}"]
                .iter()
                .any(|t| rule.text.contains(t)),
        );
    }
}

/// On both sides: exactly the tolerance passes, a second more does not.
fn check_age(name: &str, config: &Config, headers: &[(&str, &str)], has_time: bool) {
    let tolerance = TOLERANCES
        .iter()
        .find(|pair| pair.0 == name)
        .map_or(300, |pair| pair.1)
        * 1_000_000;
    let at = |now| verify_at(config, headers, BODY.as_bytes(), now);
    if has_time || name == "linear" {
        assert_eq!(at(NOW + tolerance), Ok(()), "{name}");
        assert_eq!(at(NOW - tolerance), Ok(()), "{name}");
        assert_eq!(
            at(NOW + tolerance + 1_000_000),
            Err(Rejection::TooOld),
            "{name}"
        );
        assert_eq!(
            at(NOW - tolerance - 1_000_000),
            Err(Rejection::FromTheFuture),
            "{name}"
        );
    } else {
        assert_eq!(at(NOW * 2), Ok(()), "{name}");
    }
}

#[test]
fn woocommerce_has_no_id() {
    // A second delivery within a second has the same, and would be taken for the first.
    let request = Request {
        method: "POST",
        headers: &[("X-WC-Webhook-Delivery-ID", "0123456789abcdef")],
        body: BODY.as_bytes(),
        now: NOW,
    };
    let woocommerce = config(&json!({"preset": "woocommerce", "secret": SECRET}));
    assert_eq!(woocommerce.request_id(&request), None);
}

#[test]
fn what_is_written_lies_over_the_preset() {
    let own: Value = json!({
        "preset": "slack", "secret": SECRET, "tolerance": 0, "data": {"id": {"header": "x-id"}, "signature": {"header": "x-own"}},
    });
    let own = config(&own);
    let signature = format!(
        "v0={}",
        hex::encode(sha256(
            SECRET.as_bytes(),
            format!("v0:{SECONDS}:{BODY}").as_bytes()
        ))
    );
    let headers = [
        ("x-own", signature.as_str()),
        ("x-slack-request-timestamp", "1700000000"),
        ("x-id", "7"),
    ];
    let request = Request {
        method: "POST",
        headers: &headers,
        body: BODY.as_bytes(),
        now: 0,
    };
    assert_eq!(own.verify(&request), Ok(()), "any age is allowed");
    assert_eq!(
        own.request_id(&request).as_deref(),
        Some("7"),
        "one source replaces the other"
    );
    let without = config(&json!({"preset": "slack", "data": {"id": null}}));
    assert_eq!(without.request_id(&request), None, "null takes away");
    let wrong = Config::parse(&json!({"preset": "slack", "data": {"signature": {"hedder": "x"}}}));
    assert_eq!(wrong.unwrap_err().path, "$.data.signature");
    let unknown = Config::parse(&json!({"preset": "slak"})).unwrap_err();
    assert_eq!(
        (unknown.path.as_str(), unknown.to_string().as_str()),
        (
            "$.preset",
            "invalid signature configuration: unknown preset"
        )
    );
    let Kind::Unusable { hint, .. } = unknown.kind else {
        panic!("{:?}", unknown.kind);
    };
    for name in preset_names() {
        assert!(hint.contains(name), "{name}: {hint}");
    }
}
