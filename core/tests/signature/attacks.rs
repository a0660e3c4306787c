//! What other implementations fell for, and what a sender of nonsense may try: each case ends as a rejection.

use actionflow_core::signature::{Config, Rejection};
use serde_json::{Value, json};

use super::{NOW, base64, config, sha1, sha256, verify, verify_at};

pub(super) const BODY: &[u8] = br#"{"a":1}"#;

pub(super) fn stripe_json() -> Value {
    json!({
        "algorithm": "sha256", "digest": "hex", "secret": "secret",
        "data": {
            "signature": {"header": "stripe-signature", "parsePrefix": "v1="},
            "timestamp": {"header": "stripe-signature", "parsePrefix": "t="}
        },
        "template": "[timestamp].[payload]",
    })
}

pub(super) fn github_json() -> Value {
    json!({
        "algorithm": "sha256", "digest": "hex", "secret": "secret", "template": "[payload]",
        "data": {"signature": {"header": "x-hub-signature-256", "parsePrefix": "sha256="}},
    })
}

/// In hex, what Stripe signs.
pub(super) fn stripe_mac(time: &str, body: &[u8]) -> String {
    hex::encode(sha256(b"secret", &[time.as_bytes(), b".", body].concat()))
}

pub(super) fn standard(secret: &str) -> Config {
    config(&json!({"preset": "standard-webhooks", "secret": secret}))
}

pub(super) fn standard_headers(signature: &str) -> [(&str, &str); 3] {
    [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", signature),
    ]
}

#[test]
fn what_is_missing_is_never_believed() {
    let github = config(&github_json());
    let mac = hex::encode(sha256(b"secret", BODY));
    let value = format!("sha256={mac}");
    let name = "x-hub-signature-256";
    assert_eq!(verify(&github, &[(name, &value)], BODY), Ok(()));
    assert_eq!(
        verify(&github, &[], BODY),
        Err(Rejection::MissingHeader(name.to_owned()))
    );
    assert_eq!(
        verify(&github, &[("x-hub-signature", &value)], BODY),
        Err(Rejection::MissingHeader(name.to_owned()))
    );
    let weaker = format!("sha1={}", hex::encode(sha1(b"secret", BODY)));
    let disguised = format!("sha256={}", hex::encode(sha1(b"secret", BODY)));
    for value in [
        "",
        "sha256=",
        &mac,
        &weaker,
        &disguised,
        "sha256",
        "=",
        "sha256=null",
        "undefined",
    ] {
        assert_eq!(
            verify(&github, &[(name, value)], BODY),
            Err(Rejection::NoSignature),
            "{value}"
        );
    }
}

#[test]
fn no_secret_is_no_secret_for_anybody() {
    // HMAC with an empty key is perfectly computable.
    let signatures =
        ["", " ", "\0"].map(|key| format!("sha256={}", hex::encode(sha256(key.as_bytes(), BODY))));
    for (key, value) in [
        ("secret", Value::Null),
        ("secret", json!("")),
        ("secret", json!("  \n")),
        ("secrets", json!([])),
        ("secrets", json!(["", " "])),
        (
            "secrets",
            json!([{"secret": ""}, {"secret": null}, {}, null]),
        ),
    ] {
        let mut json = github_json();
        json["secret"] = Value::Null;
        json[key] = value;
        let github = config(&json);
        assert_eq!(github.require_secret().unwrap_err().path, "$.secret");
        assert_eq!(github.hmac_hex(b"x"), None);
        for signature in &signatures {
            let answer = verify(&github, &[("x-hub-signature-256", signature)], BODY);
            assert_eq!(answer, Err(Rejection::NoSecret), "{json}");
        }
    }
}

#[test]
fn a_secret_is_used_in_its_time_only() {
    let mut json = github_json();
    json["secret"] = Value::Null;
    json["secrets"] = json!([{"secret": "secret", "notBefore": "2023-11-14T22:13:20Z", "notAfter": "2023-11-14T23:13:20+00:00"}]);
    let github = config(&json);
    let signature = format!("sha256={}", hex::encode(sha256(b"secret", BODY)));
    let at = |now| verify_at(&github, &[("x-hub-signature-256", &signature)], BODY, now);
    assert_eq!(at(NOW - 1), Err(Rejection::NoSecret));
    assert_eq!(at(NOW), Ok(()));
    assert_eq!(at(NOW + 3_600_000_000), Ok(()));
    assert_eq!(at(NOW + 3_600_000_001), Err(Rejection::NoSecret));
}

#[test]
fn a_header_or_a_body_is_never_taken_for_a_template() {
    let json = json!({
        "algorithm": "sha256", "digest": "base64", "secret": "secret", "template": "[header:x-a].[header:x-b].[payload]",
        "data": {"signature": {"header": "x-sign"}},
    });
    let config = config(&json);
    let body = b"[header:x-a] $& $$ [payload] \\1 {0} %s";
    let sign = |text: &[u8]| base64(&sha256(b"secret", text));
    let signature = sign(b"[payload].[header:x-a].[header:x-a] $& $$ [payload] \\1 {0} %s");
    let headers = [
        ("x-a", "[payload]"),
        ("x-b", "[header:x-a]"),
        ("x-sign", signature.as_str()),
    ];
    assert_eq!(verify(&config, &headers, body), Ok(()));
    let expanded = sign(&[body.as_slice(), b".", body, b".", body].concat());
    let headers = [headers[0], headers[1], ("x-sign", expanded.as_str())];
    assert_eq!(verify(&config, &headers, body), Err(Rejection::Mismatch));
}

#[test]
fn bodies_are_bytes() {
    let github = config(&github_json());
    let many = vec![b'['; 100_000];
    for body in [
        b"".as_slice(),
        b"\0",
        b"a\0b",
        b"\xff\xfe\x80",
        "é".as_bytes(),
        br#""\u00e9""#,
        &many,
        b" {} \r\n",
    ] {
        let signature = format!("sha256={}", hex::encode(sha256(b"secret", body)));
        let headers = [("x-hub-signature-256", signature.as_str())];
        assert_eq!(verify(&github, &headers, body), Ok(()));
        assert_eq!(
            verify(&github, &headers, &[body, b"\0"].concat()),
            Err(Rejection::Mismatch)
        );
        // Whatever wants JSON of it says so, and goes on.
        for preset in ["mailgun", "adyen"] {
            let other = config(&json!({"preset": preset, "secret": "00"}));
            assert!(verify(&other, &headers, body).is_err());
        }
    }
}

#[test]
fn a_key_serves_its_own_algorithm_only() {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = base64(ring::signature::KeyPair::public_key(&pair).as_ref());
    let text = [b"msg_1.1700000000.", BODY].concat();
    let config = standard(&format!("whpk_{public}"));
    let signature = format!("v1a,{}", base64(pair.sign(&text).as_ref()));
    assert_eq!(verify(&config, &standard_headers(&signature), BODY), Ok(()));
    // Everybody knows the public key, so everybody could do this.
    let key = ring::signature::KeyPair::public_key(&pair).as_ref();
    for forged in [
        format!("v1,{}", base64(&sha256(key, &text))),
        format!("v1a,{}", base64(&sha256(key, &text))),
    ] {
        assert!(verify(&config, &standard_headers(&forged), BODY).is_err());
    }
    let under_hmac = format!("v1,{}", base64(pair.sign(&text).as_ref()));
    let shared = standard(&format!("whsec_{public}"));
    assert_eq!(
        verify(&shared, &standard_headers(&under_hmac), BODY),
        Err(Rejection::NoSignature)
    );
    let bare =
        Config::parse(&json!({"preset": "standard-webhooks", "secret": public})).unwrap_err();
    assert_eq!(bare.path, "$.secret");
    for (preset, secret) in [
        ("github", format!("whpk_{public}")),
        ("discord", format!("whsec_{public}")),
    ] {
        assert!(
            Config::parse(&json!({"preset": preset, "secret": secret})).is_err(),
            "{preset}"
        );
    }
}

#[test]
fn the_url_and_the_algorithm_are_the_configured_ones() {
    let square =
        config(&json!({"preset": "square", "secret": "secret", "url": "https://example.com/hook"}));
    let signature = base64(&sha256(
        b"secret",
        &[b"https://evil.example/hook", BODY].concat(),
    ));
    let headers = [
        ("x-square-hmacsha256-signature", signature.as_str()),
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=https"),
    ];
    assert_eq!(verify(&square, &headers, BODY), Err(Rejection::Mismatch));
    let docusign = config(&json!({"preset": "docusign", "secret": "secret"}));
    let signature = base64(&sha1(b"secret", BODY));
    let headers = [
        ("x-docusign-signature-1", signature.as_str()),
        ("x-authorization-digest", "HMACSHA1"),
    ];
    assert_eq!(
        verify(&docusign, &headers, BODY),
        Err(Rejection::NoSignature)
    );
}

#[test]
fn a_border_cannot_be_moved() {
    let json = json!({
        "algorithm": "sha256", "digest": "hex", "secret": "secret", "template": "[timestamp][payload]",
        "data": {"signature": {"header": "x-sign"}, "timestamp": {"header": "x-time"}},
    });
    let config = config(&json);
    let signature = hex::encode(sha256(b"secret", b"17000000001{}"));
    let headers = |time| [("x-sign", signature.as_str()), ("x-time", time)];
    assert_eq!(verify(&config, &headers("1700000000"), b"1{}"), Ok(()));
    assert_eq!(
        verify(&config, &headers("17000000001"), b"{}"),
        Err(Rejection::TimestampForm)
    );
    assert_eq!(
        verify(&config, &headers("170000000"), b"01{}"),
        Err(Rejection::TimestampForm)
    );
}

#[test]
fn a_header_in_a_template_ends_at_its_border() {
    let config = config(&json!({
        "algorithm": "sha256", "digest": "hex", "secret": "secret", "template": "[header:x-a].[header:x-b]:[payload]",
        "data": {"signature": {"header": "x-sign"}},
    }));
    let signature = hex::encode(sha256(b"secret", b"a.b.c:d:e"));
    let judge = |a, b, body: &[u8]| {
        let headers = [("x-sign", signature.as_str()), ("x-a", a), ("x-b", b)];
        verify(&config, &headers, body)
    };
    assert_eq!(judge("a", "b.c", b"d:e"), Ok(()));
    let border = |name: &str| Err(Rejection::Border(format!("header \"{name}\"")));
    assert_eq!(judge("a.b", "c", b"d:e"), border("x-a"));
    assert_eq!(judge("a", "b.c:d", b"e"), border("x-b"));
}

#[test]
fn who_cannot_sign_learns_nothing_about_the_clock() {
    let stripe = config(&stripe_json());
    for time in ["0000000000", "1700000000", "9999999999"] {
        let header = format!("t={time},v1={}", "00".repeat(32));
        let headers = [("stripe-signature", header.as_str())];
        for now in [i64::MIN, 0, NOW, i64::MAX] {
            assert_eq!(
                verify_at(&stripe, &headers, BODY, now),
                Err(Rejection::Mismatch)
            );
        }
    }
    let header = format!("t=1700000000,v1={}", stripe_mac("1700000000", BODY));
    for (now, expected) in [
        (i64::MIN, Rejection::FromTheFuture),
        (i64::MAX, Rejection::TooOld),
    ] {
        assert_eq!(
            verify_at(&stripe, &[("stripe-signature", &header)], BODY, now),
            Err(expected)
        );
    }
}
