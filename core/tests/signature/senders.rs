//! Senders whose rule is not one hash over one text: Standard Webhooks, tokens, public keys, signatures in the body, hashes without
//! a key.

use actionflow_core::signature::{Rejection, Request};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::presets::{BODY, SECRET, STANDARD, TOKENS, with};
use super::{NOW, SECONDS, base64, config, sha256, verify, verify_at};

/// 32 bytes.
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

#[test]
fn standard_webhooks_under_all_its_names() {
    for (name, family) in STANDARD {
        let secret = format!("whsec_{}", base64(KEY));
        let shown = if *name == "supabase" {
            format!("v1,{secret}")
        } else {
            secret
        };
        let text = format!("msg_1.{SECONDS}.{BODY}");
        let signature = format!(
            "v2,x v1, v1a,AAAA v1,{}",
            base64(&sha256(KEY, text.as_bytes()))
        );
        let [id, time, sign] =
            ["id", "timestamp", "signature"].map(|part| format!("{family}-{part}"));
        let seconds = SECONDS.to_string();
        let headers = [
            (id.as_str(), "msg_1"),
            (&time, &seconds),
            (&sign, &signature),
        ];
        let good = with(name, &shown);
        assert_eq!(verify(&good, &headers, BODY.as_bytes()), Ok(()), "{name}");
        let request = Request {
            method: "POST",
            headers: &headers,
            body: BODY.as_bytes(),
            now: NOW,
        };
        assert_eq!(good.request_id(&request).as_deref(), Some("msg_1"));
        assert_eq!(
            verify(&good, &headers, b"{}"),
            Err(Rejection::Mismatch),
            "{name}"
        );
        for (index, other) in [(0, "msg_2"), (1, "1700000001")] {
            let mut changed = headers;
            changed[index].1 = other;
            assert_eq!(
                verify(&good, &changed, BODY.as_bytes()),
                Err(Rejection::Mismatch),
                "{name}"
            );
        }
        // "a.1700000000" and "." and a body is also "a" and "." and a body that begins with the time.
        let mut changed = headers;
        changed[0].1 = "msg.1";
        let border = verify(&good, &changed, BODY.as_bytes());
        assert_eq!(border, Err(Rejection::Border(format!("header \"{id}\""))));
    }
}

#[test]
fn tokens_are_compared_whole() {
    for (name, header) in TOKENS {
        let good = with(name, "Bearer a, b; c=");
        assert_eq!(
            verify(&good, &[(header, "Bearer a, b; c=")], b""),
            Ok(()),
            "{name}"
        );
        assert_eq!(good.credential_headers(), [header.to_lowercase()]);
        for other in [
            "",
            "Bearer a",
            "Bearer a, b; c",
            "bearer a, b; c=",
            "Bearer a, b; c==",
        ] {
            assert!(
                verify(&good, &[(header, other)], b"").is_err(),
                "{name} {other}"
            );
        }
        assert_eq!(
            verify(&good, &[], b""),
            Err(Rejection::MissingHeader(header.to_lowercase()))
        );
        let bearer = json!({"preset": name, "secret": "a b", "data": {"signature": {"parsePrefix": "Bearer "}}});
        assert_eq!(
            verify(&config(&bearer), &[(header, "Bearer a b")], b""),
            Ok(())
        );
        assert_eq!(
            verify(&config(&bearer), &[(header, "a b")], b""),
            Err(Rejection::NoSignature)
        );
    }
}

#[test]
fn discord_signs_with_a_private_key() {
    let pair = Ed25519KeyPair::from_seed_unchecked(KEY).unwrap();
    let signature = hex::encode(pair.sign(format!("{SECONDS}{BODY}").as_bytes()));
    let headers = [
        ("X-Signature-Ed25519", signature.as_str()),
        ("X-Signature-Timestamp", "1700000000"),
    ];
    let good = with("discord", &hex::encode(pair.public_key()));
    assert_eq!(verify(&good, &headers, BODY.as_bytes()), Ok(()));
    assert_eq!(verify(&good, &headers, b"{}"), Err(Rejection::Mismatch));
    // The border between time and body cannot be moved.
    let moved = [headers[0], ("X-Signature-Timestamp", "170000000")];
    assert_eq!(
        verify(&good, &moved, format!("0{BODY}").as_bytes()),
        Err(Rejection::TimestampForm)
    );
    let late = verify_at(&good, &headers, BODY.as_bytes(), NOW + 301_000_000);
    assert_eq!(late, Err(Rejection::TooOld));
    let other = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let other = with("discord", &hex::encode(other.public_key()));
    assert_eq!(
        verify(&other, &headers, BODY.as_bytes()),
        Err(Rejection::Mismatch)
    );
}

#[test]
fn sendgrid_signs_with_a_private_key() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let info = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    let public = base64(&[info.as_slice(), pair.public_key().as_ref()].concat());
    let signature = pair
        .sign(&random, format!("{SECONDS}{BODY}").as_bytes())
        .unwrap();
    let signature = base64(signature.as_ref());
    let headers = [
        ("X-Twilio-Email-Event-Webhook-Signature", signature.as_str()),
        ("X-Twilio-Email-Event-Webhook-Timestamp", "1700000000"),
    ];
    let good = with("sendgrid", &public);
    assert_eq!(verify(&good, &headers, BODY.as_bytes()), Ok(()));
    assert_eq!(verify(&good, &headers, b"{}"), Err(Rejection::Mismatch));
}

#[test]
fn a_signature_in_hex_may_be_as_long_as_any() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let info = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
    let good = config(&json!({
        "algorithm": "ecdsa-p256-sha256", "digest": "hex", "secretEncoding": "hex",
        "secret": format!("{info}{}", hex::encode(pair.public_key())),
        "template": "[payload]", "data": {"signature": {"header": "x-sign"}},
    }));
    // Their length differs by chance: of so many, some have 70 bytes, some 71 and some 72.
    let mut longest = 0;
    for _ in 0..64 {
        let signature = hex::encode(pair.sign(&random, b"x").unwrap());
        longest = longest.max(signature.len());
        assert_eq!(verify(&good, &[("x-sign", &signature)], b"x"), Ok(()));
    }
    assert!(longest > 128, "{longest}");
    let long = "00".repeat(73);
    assert!(verify(&good, &[("x-sign", &long)], b"x").is_err());
}

#[test]
fn mailgun_signs_a_time_and_a_token() {
    let body = |time: &str, token: &str| -> String {
        let signature = hex::encode(sha256(
            SECRET.as_bytes(),
            format!("{SECONDS}abc").as_bytes(),
        ));
        let event = json!({"signature": {"timestamp": time, "token": token, "signature": signature}, "event-data": {}});
        event.to_string()
    };
    let good = with("mailgun", SECRET);
    let request = body("1700000000", "abc");
    assert_eq!(verify(&good, &[], request.as_bytes()), Ok(()));
    assert_eq!(
        verify(&good, &[], body("1700000000", "abd").as_bytes()),
        Err(Rejection::Mismatch)
    );
    assert_eq!(
        verify(&good, &[], body("170000000", "0abc").as_bytes()),
        Err(Rejection::TimestampForm)
    );
    assert_eq!(verify(&good, &[], b"no JSON"), Err(Rejection::NoJson));
    assert_eq!(
        verify_at(&good, &[], request.as_bytes(), NOW * 2),
        Err(Rejection::TooOld)
    );
    let request = Request {
        method: "POST",
        headers: &[],
        body: request.as_bytes(),
        now: NOW,
    };
    assert_eq!(good.request_id(&request).as_deref(), Some("abc"));
}

#[test]
fn hubspot_v1_hashes_secret_and_body() {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{SECRET}{BODY}").as_bytes());
    let digest = hex::encode(digest);
    let headers = [("X-HubSpot-Signature", digest.as_str())];
    let good = with("hubspot-v1", SECRET);
    assert_eq!(verify(&good, &headers, BODY.as_bytes()), Ok(()));
    assert_eq!(verify(&good, &headers, b"{}"), Err(Rejection::Mismatch));
    assert_eq!(
        verify(&with("hubspot-v1", "b"), &headers, BODY.as_bytes()),
        Err(Rejection::Mismatch)
    );
}

#[test]
fn hubspot_v3_signs_the_url_with_some_characters_decoded() {
    let json = json!({
        "preset": "hubspot-v3", "secret": SECRET, "url": "https://example.com/a%3Ab%2f%20%26?c=%40",
    });
    let text = format!("POSThttps://example.com/a:b/%20%26?c=@{BODY}1700000000000");
    let signature = base64(&sha256(SECRET.as_bytes(), text.as_bytes()));
    let headers = [
        ("X-HubSpot-Signature-v3", signature.as_str()),
        ("X-HubSpot-Request-Timestamp", "1700000000000"),
    ];
    assert_eq!(verify(&config(&json), &headers, BODY.as_bytes()), Ok(()));
}
