//! Signed answers: which tokens are believed.

use actionflow_core::enrich::answer::{AnswerError, Decision, read};
use actionflow_core::jose::{AnswerKey, MAX_TOKEN_BYTES, TokenError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::vectors::*;
use crate::{NOW, REQUEST, answer_key};

const KEYS: [(&str, &str, &str); 4] = [
    ("HS256", SECRET, TOKEN_HS256),
    ("RS256", RSA_PUBLIC, TOKEN_RS256),
    ("ES256", EC_PUBLIC, TOKEN_ES256),
    ("EdDSA", ED_PUBLIC, TOKEN_EDDSA),
];

/// A token with any header and claims, signed with `SECRET`.
fn token(header: &Value, claims: &Value) -> String {
    signed(&header.to_string(), &claims.to_string())
}

fn signed(header: &str, claims: &str) -> String {
    let secret = EncodingKey::from_base64_secret(&SECRET["whsec_".len()..]).expect("base64");
    let header = URL_SAFE_NO_PAD.encode(header);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256)
        .expect("HMAC signs");
    format!("{message}.{signature}")
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

fn claims() -> Value {
    json!({"iat": NOW, "jti": REQUEST})
}

fn with(mut json: Value, key: &str, value: Value) -> Value {
    json[key] = value;
    json
}

fn without(mut json: Value, key: &str) -> Value {
    json.as_object_mut().expect("object").remove(key);
    json
}

fn verify(key: &AnswerKey, token: &str) -> Result<(), TokenError> {
    key.verify(token, REQUEST, NOW).map(drop)
}

#[test]
fn a_token_of_each_algorithm_is_believed() {
    for (algorithm, key, token) in KEYS {
        let key = answer_key(algorithm, key);
        let answer = read(
            token.as_bytes(),
            Some("application/jwt"),
            Some(&key),
            REQUEST,
            NOW,
        )
        .expect(algorithm);
        assert_eq!(answer.action, Decision::Challenge);
        assert_eq!(
            json!(answer.custom_claims),
            json!({"role": "gold", "points": 12.5})
        );
        assert_eq!(
            json!(answer.data),
            json!({"score": 0.97, "tags": ["new device"]})
        );
        assert_eq!(answer.reason.as_deref(), Some("new device"));
        assert_eq!(answer.user_message.as_deref(), Some("Is it you?"));
    }
}

#[test]
fn the_algorithm_is_the_configured_one_and_never_the_tokens() {
    for (algorithm, key, _) in KEYS {
        let key = answer_key(algorithm, key);
        for (other, _, token) in KEYS.into_iter().filter(|(other, ..)| *other != algorithm) {
            let refused = match algorithm {
                "HS256" => TokenError::Algorithm("HS256"),
                "RS256" => TokenError::Algorithm("RS256"),
                "ES256" => TokenError::Algorithm("ES256"),
                _ => TokenError::Algorithm("EdDSA"),
            };
            assert_eq!(verify(&key, token), Err(refused), "{other} for {algorithm}");
        }
    }
    let rsa = answer_key("RS256", RSA_PUBLIC);
    let refused = Err(TokenError::Algorithm("RS256"));
    assert_eq!(verify(&rsa, TOKEN_CONFUSED), refused);
    // A header that agrees does not help the signature.
    let (_, rest) = TOKEN_CONFUSED.split_once('.').expect("a token");
    let relabelled = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
    assert_eq!(
        verify(&rsa, &format!("{relabelled}.{rest}")),
        Err(TokenError::Signature)
    );
    assert_eq!(verify(&rsa, TOKEN_NONE), refused);
    let hmac = answer_key("HS256", SECRET);
    for name in ["none", "None", "NONE", "", "hs256", "HS384", "HS512"] {
        let token = token(&with(header(), "alg", name.into()), &claims());
        let unsigned = &token[..=token.rfind('.').expect("a token")];
        for token in [token.as_str(), unsigned] {
            assert_eq!(
                verify(&hmac, token),
                Err(TokenError::Algorithm("HS256")),
                "{name}"
            );
        }
    }
}

#[test]
fn a_token_of_another_key_is_refused() {
    let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHiA=";
    let key = answer_key("HS256", other);
    assert_eq!(verify(&key, TOKEN_HS256), Err(TokenError::Signature));
}

#[test]
fn a_header_is_refused_that() {
    let key = answer_key("HS256", SECRET);
    let cases = [
        (header(), Ok(())),
        (json!({"alg": "HS256"}), Ok(())),
        (with(header(), "kid", json!("k")), Ok(())),
        (with(header(), "typ", json!("application/jwt")), Ok(())),
        (json!({"typ": "JWT"}), Err(TokenError::Algorithm("HS256"))),
        (
            json!({"alg": ["HS256"]}),
            Err(TokenError::Algorithm("HS256")),
        ),
        (
            with(header(), "crit", json!(["b64"])),
            Err(TokenError::Critical),
        ),
        (with(header(), "crit", json!([])), Err(TokenError::Critical)),
        (
            with(header(), "crit", json!(null)),
            Err(TokenError::Critical),
        ),
        (
            with(header(), "typ", json!("secevent+jwt")),
            Err(TokenError::SecurityEvent),
        ),
        (
            with(header(), "typ", json!("application/SecEvent+JWT")),
            Err(TokenError::SecurityEvent),
        ),
        (json!([]), Err(TokenError::Header)),
        (json!("HS256"), Err(TokenError::Header)),
    ];
    for (header, expected) in cases {
        assert_eq!(
            verify(&key, &token(&header, &claims())),
            expected,
            "{header}"
        );
    }
    assert_eq!(verify(&key, &signed("{", "{}")), Err(TokenError::Header));
}

#[test]
fn claims_are_refused_that() {
    use TokenError::*;
    let key = answer_key("HS256", SECRET);
    let at = |seconds: i64| with(claims(), "iat", seconds.into());
    let cases = [
        (claims(), Ok(())),
        (with(claims(), "aud", json!("anyone")), Ok(())),
        (at(NOW - 60), Ok(())),
        (at(NOW + 60), Ok(())),
        (at(NOW - 61), Err(TooOld)),
        (at(NOW + 61), Err(FromTheFuture)),
        (at(0), Err(TooOld)),
        (at(i64::MAX), Err(FromTheFuture)),
        (with(claims(), "iat", json!(1_458_496_025.75)), Ok(())),
        (
            with(claims(), "iat", json!(1_458_496_085.5)),
            Err(FromTheFuture),
        ),
        (without(claims(), "iat"), Err(NoIssuedAt)),
        (with(claims(), "iat", json!("1458496025")), Err(Time("iat"))),
        (with(claims(), "iat", json!(null)), Err(Time("iat"))),
        (with(claims(), "exp", json!(NOW - 59)), Ok(())),
        (with(claims(), "exp", json!(NOW - 60)), Err(Expired)),
        (with(claims(), "exp", json!(-1)), Err(Expired)),
        (with(claims(), "exp", json!("never")), Err(Time("exp"))),
        (with(claims(), "exp", json!(null)), Err(Time("exp"))),
        (with(claims(), "nbf", json!(NOW + 60)), Ok(())),
        (with(claims(), "nbf", json!(NOW + 61)), Err(NotYetValid)),
        (with(claims(), "nbf", json!([])), Err(Time("nbf"))),
        (without(claims(), "jti"), Err(OtherRequest)),
        (with(claims(), "jti", json!("124")), Err(OtherRequest)),
        (with(claims(), "jti", json!("123 ")), Err(OtherRequest)),
        (with(claims(), "jti", json!(123)), Err(OtherRequest)),
        (with(claims(), "jti", json!(["123"])), Err(OtherRequest)),
        (json!([claims()]), Err(Claims)),
        (json!("claims"), Err(Claims)),
        (json!(null), Err(Claims)),
    ];
    for (claims, expected) in cases {
        assert_eq!(
            verify(&key, &token(&header(), &claims)),
            expected,
            "{claims}"
        );
    }
    let cases = [
        "",
        "{",
        "{} {}",
        r#"{"iat":1e999,"jti":"123"}"#,
        "\u{feff}{}",
    ];
    let expected = [Claims, Claims, Claims, Time("iat"), Claims];
    for (claims, expected) in cases.into_iter().zip(expected) {
        assert_eq!(
            verify(&key, &signed(r#"{"alg":"HS256"}"#, claims)),
            Err(expected),
            "{claims}"
        );
    }
}

#[test]
fn tolerance_and_issuer_are_configured() {
    let key = |tolerance: Value, issuer: Value| {
        let settings = json!({
            "algorithm": "HS256", "key": SECRET, "tolerance_seconds": tolerance, "issuer": issuer
        });
        AnswerKey::parse(&settings).expect("a good key")
    };
    let strict = key(json!(0), json!("https://risk.example.com"));
    assert_eq!(verify(&strict, TOKEN_HS256), Ok(()));
    assert_eq!(
        strict.verify(TOKEN_HS256, REQUEST, NOW + 1),
        Err(TokenError::TooOld)
    );
    assert_eq!(
        strict.verify(TOKEN_HS256, REQUEST, NOW - 1),
        Err(TokenError::FromTheFuture)
    );
    let lax = key(json!(3600), Value::Null);
    assert!(lax.verify(TOKEN_HS256, REQUEST, NOW + 3600).is_ok());
    assert_eq!(
        lax.verify(TOKEN_HS256, REQUEST, NOW + 3601),
        Err(TokenError::TooOld)
    );
    let issuer = key(Value::Null, json!("https://risk.example.co"));
    assert_eq!(verify(&issuer, TOKEN_HS256), Err(TokenError::Issuer));
    for iss in [json!(["https://risk.example.co"]), json!(null)] {
        let token = token(&header(), &with(claims(), "iss", iss));
        assert_eq!(verify(&issuer, &token), Err(TokenError::Issuer));
    }
    assert_eq!(
        verify(&issuer, &token(&header(), &claims())),
        Err(TokenError::Issuer)
    );
}

#[test]
fn only_the_compact_form_is_a_token() {
    let key = answer_key("HS256", SECRET);
    let good = TOKEN_HS256;
    let parts: Vec<&str> = good.split('.').collect();
    let cases = [
        String::new(),
        ".".to_owned(),
        parts[0].to_owned(),
        parts[..2].join("."),
        format!("{good}.{}", parts[2]),
        format!("{good}."),
        format!("{}..{}.{}.{}", parts[0], parts[1], parts[2], parts[2]),
        format!("{good}="),
        good.replace('.', ". "),
        format!("Bearer {good}"),
        json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string(),
    ];
    for token in cases {
        assert_eq!(verify(&key, &token), Err(TokenError::Form), "{token}");
    }
    let body = format!("\r\n{good}\n");
    assert!(read(body.as_bytes(), None, Some(&key), REQUEST, NOW).is_ok());
    let binary = [good.as_bytes(), &[0xff]].concat();
    assert_eq!(
        read(&binary, None, Some(&key), REQUEST, NOW),
        Err(AnswerError::Token(TokenError::Form))
    );
}

#[test]
fn a_token_cut_short_anywhere_is_refused() {
    for (algorithm, key, token) in KEYS {
        let key = answer_key(algorithm, key);
        for end in 0..token.len() {
            assert!(verify(&key, &token[..end]).is_err(), "{algorithm} {end}");
        }
    }
}

#[test]
fn a_token_over_128_kib_is_not_looked_at() {
    let key = answer_key("HS256", SECRET);
    let sized = |bytes: usize| token(&header(), &with(claims(), "pad", "a".repeat(bytes).into()));
    let small = sized(1);
    let fits = sized((MAX_TOKEN_BYTES - small.len()) / 4 * 3);
    assert!(fits.len() > MAX_TOKEN_BYTES - 8 && fits.len() <= MAX_TOKEN_BYTES);
    assert_eq!(verify(&key, &fits), Ok(()));
    let over = sized((MAX_TOKEN_BYTES - small.len()) / 4 * 3 + 8);
    assert_eq!(verify(&key, &over), Err(TokenError::TooLarge));
}

#[test]
fn what_a_believed_token_says_has_the_rules_of_json() {
    let key = answer_key("HS256", SECRET);
    let answer = |claims: Value| {
        read(
            token(&header(), &claims).as_bytes(),
            None,
            Some(&key),
            REQUEST,
            NOW,
        )
    };
    assert_eq!(
        answer(claims()).map(|answer| answer.action),
        Ok(Decision::Allow)
    );
    assert_eq!(
        answer(with(claims(), "action", json!("deny"))),
        Err(AnswerError::UnknownAction)
    );
    assert_eq!(
        answer(with(claims(), "custom_claims", json!({"sub": "admin"}))),
        Err(AnswerError::RegisteredClaim("sub"))
    );
}

proptest! {
    #[test]
    fn a_changed_character_is_noticed(
        (algorithm, key, token) in prop::sample::select(KEYS.to_vec()),
        at in any::<prop::sample::Index>(),
        to in "[A-Za-z0-9_.=-]",
    ) {
        let at = at.index(token.len());
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != token);
        prop_assert!(verify(&answer_key(algorithm, key), &changed).is_err());
    }
}
