//! Messages as Security Event Tokens.

use actionflow_core::jose::{AnswerKey, SET_CONTENT_TYPE, SetSigner, SignError, TokenError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};

use crate::NOW;
use crate::vectors::*;

fn message() -> Value {
    json!({
        "type": "user-created", "timestamp": "2026-11-22T03:00:00.250Z",
        "data": {
            "mode": "live", "flow": "welcome", "version": 3, "run_id": "17", "flow_invocation_id": "inv-1", "action": "tell",
            "user": {"id": "42", "email": "ana@example.com"}, "variables": {"amount": 12.50}, "event": null,
            "notificationDetail": {}, "metadata": {}
        }
    })
}

fn sign(settings: &Value, message: &Value) -> String {
    SetSigner::parse(settings, Some(SECRET))
        .expect("good settings")
        .sign(message, "900", NOW)
        .expect("a message of ours")
}

/// Header and claims of a token.
fn parts(token: &str) -> (Value, Value) {
    let parts: Vec<Value> = token
        .split('.')
        .take(2)
        .map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64"))
        .map(|part| serde_json::from_slice(&part).expect("JSON"))
        .collect();
    (parts[0].clone(), parts[1].clone())
}

#[test]
fn a_token_has_the_shape_of_rfc_8417() {
    let settings = json!({
        "issuer": "https://idp.example.com", "audience": ["https://a.example.com", "b"], "algorithm": "ES256",
        "key": EC_PRIVATE, "key_id": "2026-11"
    });
    let (header, claims) = parts(&sign(&settings, &message()));
    assert_eq!(
        header,
        json!({"typ": "secevent+jwt", "alg": "ES256", "kid": "2026-11"})
    );
    assert_eq!(
        claims,
        json!({
            "iss": "https://idp.example.com", "iat": NOW, "jti": "900", "aud": ["https://a.example.com", "b"],
            "toe": 1_795_316_400, "txn": "inv-1", "sub_id": {"format": "opaque", "id": "42"},
            "events": {"urn:actionflow:event:user-created": message()["data"]}
        })
    );
    assert_eq!(SET_CONTENT_TYPE, "application/secevent+jwt");
}

#[test]
fn what_is_not_configured_is_left_out() {
    let settings = json!({"issuer": "i", "algorithm": "HS256", "audience": null, "key_id": null});
    let (header, claims) = parts(&sign(&settings, &message()));
    assert_eq!(header, json!({"typ": "secevent+jwt", "alg": "HS256"}));
    assert_eq!(claims.get("aud"), None);
    let settings = json!({"issuer": "i", "algorithm": "HS256", "audience": "one"});
    assert_eq!(parts(&sign(&settings, &message())).1["aud"], "one");
}

#[test]
fn an_event_is_a_uri() {
    let event = |prefix: Value, kind: &str| {
        let settings = json!({"issuer": "i", "algorithm": "HS256", "event_prefix": prefix});
        let mut message = message();
        message["type"] = kind.into();
        let (_, claims) = parts(&sign(&settings, &message));
        let events = claims["events"].as_object().expect("object").clone();
        events.into_iter().next().expect("one event").0
    };
    let own = json!("https://schemas.example.com/account/v1/");
    assert_eq!(event(Value::Null, "login"), "urn:actionflow:event:login");
    assert_eq!(
        event(own, "userCreated"),
        "https://schemas.example.com/account/v1/userCreated"
    );
    assert_eq!(
        event(Value::Null, "cart left é?#%"),
        "urn:actionflow:event:cart%20left%20%C3%A9%3F%23%25"
    );
}

/// The signatures of these algorithms do not vary: those here stood under tokens that `PyJWT` 2.15 verified.
#[test]
fn the_same_message_makes_the_same_token() {
    let rsa = "VixfQrLVsGP4jRCQo6ulzETqFrjSyEWf9PCqK4XGM3i2H52cEt3tjVEVxgXLkg8dvcUrvBESm-89cUTtFh7v29xtOvDH3_hMF1Jd5zfJ61pTy_\
vm_J3P5Prxp1jBBS05oA5x3LoTSBKXSfb6c0_JoKtkogMVpth-GoTe4UK64nJSmiukJ6cyNaJ7FPtUXWpUi-Hxe2sSrmBOcxkzO_E7VicI4rN8\
X9CM5kQOdza2zIB5PgHsm3L9EZeJfFXY2LPW2cUrHHqoTM7hV0OTKaU8HdeT9K-jzzPxnZ4aSjwh2xE8yOhmqhQvZ4m1R71U3jBU4ahPAPHcbP\
CnyOSyxPylTQ";
    let cases = [
        (
            "HS256",
            Value::Null,
            "e4O86TxEfvWbWsnVxVwTyqcdExdhDv8vCBAu0P3LjmQ",
        ),
        ("RS256", json!(RSA_PRIVATE), rsa),
        ("RS256", json!(RSA_PRIVATE_PKCS1), rsa),
        (
            "EdDSA",
            json!(ED_PRIVATE),
            "8KH9LlVWn0l_3veGxfSudFpDeKmVZVBvioK3LSaVTBK3sy7r5Oi-_16sVoG3DnA52B9C0vmQPFQWETQ2Ia0DCw",
        ),
    ];
    for (algorithm, key, signature) in cases {
        let settings =
            json!({"issuer": "https://idp.example.com", "algorithm": algorithm, "key": key});
        let token = sign(&settings, &message());
        assert_eq!(
            token.rsplit_once('.').map(|(_, found)| found),
            Some(signature)
        );
    }
}

#[test]
fn every_signature_fits_its_public_key() {
    let raw = |pem: &str, head: usize| {
        let encoded: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .expect("base64")[head..]
            .to_vec()
    };
    let secret = DecodingKey::from_base64_secret(&SECRET["whsec_".len()..]).expect("base64");
    let cases = [
        (Algorithm::HS256, "HS256", Value::Null, secret),
        (
            Algorithm::RS256,
            "RS256",
            json!(RSA_PRIVATE),
            DecodingKey::from_rsa_der(&raw(RSA_PUBLIC, 24)),
        ),
        (
            Algorithm::ES256,
            "ES256",
            json!(EC_PRIVATE),
            DecodingKey::from_ec_der(&raw(EC_PUBLIC, 26)),
        ),
        (
            Algorithm::EdDSA,
            "EdDSA",
            json!(ED_PRIVATE),
            DecodingKey::from_ed_der(&raw(ED_PUBLIC, 12)),
        ),
    ];
    for (algorithm, name, key, public) in cases {
        let token = sign(
            &json!({"issuer": "i", "algorithm": name, "key": key}),
            &message(),
        );
        let (message, signature) = token.rsplit_once('.').expect("a token");
        let is_signed =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &public, algorithm);
        assert!(is_signed.expect("base64"), "{name}");
    }
}

#[test]
fn a_token_that_comes_back_is_no_answer() {
    let token = sign(&json!({"issuer": "i", "algorithm": "HS256"}), &message());
    let key = AnswerKey::parse(&json!({"algorithm": "HS256", "key": SECRET})).expect("a good key");
    assert_eq!(
        key.verify(&token, "900", NOW),
        Err(TokenError::SecurityEvent)
    );
}

#[test]
fn a_message_that_is_not_ours_is_refused() {
    let signer = SetSigner::parse(&json!({"issuer": "i", "algorithm": "HS256"}), Some(SECRET))
        .expect("good settings");
    let without = |pointer: &str| {
        let mut message = message();
        *message.pointer_mut(pointer).expect("there") = Value::Null;
        message
    };
    let cases = [
        (without("/type"), "type"),
        (without("/timestamp"), "timestamp"),
        (without("/data"), "data"),
        (without("/data/user"), "user"),
        (without("/data/user/id"), "user"),
        (without("/data/flow_invocation_id"), "flow_invocation_id"),
        (json!([]), "type"),
        (json!(null), "type"),
    ];
    for (message, part) in cases {
        let signed = signer.sign(&message, "900", NOW);
        assert_eq!(signed, Err(SignError::Message(part)), "{message}");
    }
    let mut numbered = message();
    numbered["data"]["user"]["id"] = 42.into();
    let token = signer
        .sign(&numbered, "900", NOW)
        .expect("a number is an id");
    assert_eq!(parts(&token).1["sub_id"]["id"], "42");
}
