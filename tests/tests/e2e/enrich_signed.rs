//! Answers that endpoints sign: nothing is believed but a fresh token of the configured key about this very request.

use std::time::SystemTime;

use actionflow_tests::{Answer, Request, Worker};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::asking::{asking, enrich, failure, flow_on, login, tell, wait_for_attempts};
use crate::keys::{EC_PRIVATE, EC_PUBLIC, ED_PRIVATE, ED_PUBLIC, RSA_PRIVATE, RSA_PUBLIC, SECRET};
use crate::scene::{Scene, unix_seconds};

/// The content of a text with one block of base64.
fn decoded(pem: &str) -> Vec<u8> {
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    STANDARD.decode(lines.collect::<String>()).expect("base64")
}

fn private(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_der(&decoded(RSA_PRIVATE)),
        Algorithm::ES256 => EncodingKey::from_ec_der(&decoded(EC_PRIVATE)),
        Algorithm::EdDSA => EncodingKey::from_ed_der(&decoded(ED_PRIVATE)),
        _ => EncodingKey::from_secret(&STANDARD.decode(&SECRET[6..]).expect("base64")),
    }
}

fn token(algorithm: Algorithm, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &private(algorithm)).expect("a token")
}

fn now() -> u64 {
    unix_seconds(SystemTime::now())
}

/// What a good token says about this request.
fn claims(request: &Request) -> Value {
    json!({
        "jti": request.id(), "iat": now(), "action": "challenge", "data": {"score": 0.5},
        "custom_claims": {"role": "gold"}, "reason": "new device", "user_message": "Is it you?"
    })
}

/// The same with another value of one claim; none when it is null.
fn changed(request: &Request, claim: &str, value: Value) -> Value {
    let mut claims = claims(request);
    let map = claims.as_object_mut().expect("an object");
    match value {
        Value::Null => drop(map.remove(claim)),
        value => drop(map.insert(claim.to_owned(), value)),
    }
    claims
}

fn typed(content_type: &str, body: String) -> Answer {
    let content_type = ("content-type".to_owned(), content_type.to_owned());
    Answer::Full(200, vec![content_type], body)
}

fn jwt(token: String) -> Answer {
    typed("application/jwt", token)
}

/// A token put together by hand.
fn assembled(header: &Value, claims: &Value, signature: &[u8]) -> Answer {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signature = URL_SAFE_NO_PAD.encode(signature);
    jwt(format!("{}.{}.{signature}", encode(header), encode(claims)))
}

fn es256(claims: &Value) -> Answer {
    jwt(token(Algorithm::ES256, claims))
}

/// A flow that asks an endpoint whose answers are verified with this key.
async fn trusting(key: Value) -> (Scene, Worker) {
    let (scene, worker) = asking(json!([])).await;
    let options = json!({"answer_key": key, "breaker_failures": 1000});
    scene.endpoint("risk", &options.to_string()).await;
    let action = enrich("risk", json!({"on_failure": "block"}));
    flow_on(&scene, "ask", "login", json!([action])).await;
    (scene, worker)
}

/// Makes an answer of a request.
type Made = fn(&Request) -> Answer;

/// Algorithms, what verifies them, and a good answer.
const GOOD: [(&str, &str, Made); 4] = [
    ("HS256", SECRET, |request| {
        jwt(token(Algorithm::HS256, &claims(request)))
    }),
    ("RS256", RSA_PUBLIC, |request| {
        jwt(token(Algorithm::RS256, &claims(request)))
    }),
    ("ES256", EC_PUBLIC, |request| {
        jwt(token(Algorithm::ES256, &claims(request)))
    }),
    ("EdDSA", ED_PUBLIC, |request| {
        jwt(token(Algorithm::EdDSA, &claims(request)))
    }),
];

#[tokio::test]
async fn a_token_of_the_configured_key_is_believed() {
    let (scene, _worker) = trusting(Value::Null).await;
    for (algorithm, key, answer) in GOOD {
        let options = json!({"answer_key": {"algorithm": algorithm, "key": key}});
        let update = format!("select actionflow.update_endpoint('risk', $json${options}$json$)");
        scene.sql().run(&update).await;
        scene.receiver.always("/risk", Answer::By(answer));
        let said = login(&scene).await;
        assert_eq!(
            said["results"]["risk"],
            json!({"action": "challenge", "data": {"score": 0.5}, "custom_claims": {"role": "gold"}, "user_message": "Is it you?"}),
            "{algorithm}"
        );
        assert_eq!(
            (&said["action"], &said["custom_claims"]),
            (&json!("challenge"), &json!({"role": "gold"}))
        );
    }
    wait_for_attempts(&scene, "outcome, reason", &["challenge|new device"; 4]).await;
}

/// What an endpoint whose answers are verified with `EC_PUBLIC` must not be believed.
const BAD: [(&str, Made); 19] = [
    ("plain JSON", |request| Answer::json(&claims(request))),
    ("JSON as jwt", |request| jwt(claims(request).to_string())),
    ("token as JSON", |request| {
        typed(
            "application/json",
            token(Algorithm::ES256, &claims(request)),
        )
    }),
    ("HS256 with the public key", |request| {
        let key = EncodingKey::from_secret(EC_PUBLIC.as_bytes());
        jwt(encode(&Header::new(Algorithm::HS256), &claims(request), &key).expect("a token"))
    }),
    ("another algorithm", |request| {
        jwt(token(Algorithm::EdDSA, &claims(request)))
    }),
    ("no algorithm", |request| {
        assembled(&json!({"alg": "none"}), &claims(request), b"")
    }),
    ("no signature", |request| {
        assembled(&json!({"alg": "ES256"}), &claims(request), b"")
    }),
    ("zeros for a signature", |request| {
        assembled(&json!({"alg": "ES256"}), &claims(request), &[0; 64])
    }),
    ("changed after signing", |request| {
        let signed = token(
            Algorithm::ES256,
            &changed(request, "action", json!("block")),
        );
        let signature = signed.rsplit('.').next().expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        assembled(
            &json!({"typ": "JWT", "alg": "ES256"}),
            &claims(request),
            &signature,
        )
    }),
    ("another request", |request| {
        es256(&changed(request, "jti", json!("1")))
    }),
    ("no request", |request| {
        es256(&changed(request, "jti", Value::Null))
    }),
    ("a number for the request", |request| {
        es256(&changed(
            request,
            "jti",
            json!(request.id().parse::<i64>().expect("a number")),
        ))
    }),
    ("old", |request| {
        es256(&changed(request, "iat", json!(now() - 120)))
    }),
    ("of the future", |request| {
        es256(&changed(request, "iat", json!(now() + 120)))
    }),
    ("without a time", |request| {
        es256(&changed(request, "iat", Value::Null))
    }),
    ("expired", |request| {
        es256(&changed(request, "exp", json!(now() - 120)))
    }),
    ("not yet valid", |request| {
        es256(&changed(request, "nbf", json!(now() + 120)))
    }),
    ("an unknown action", |request| {
        es256(&changed(request, "action", json!("maybe")))
    }),
    ("a critical extension", |request| {
        assembled(
            &json!({"alg": "ES256", "crit": ["b64"], "b64": false}),
            &claims(request),
            &[1; 64],
        )
    }),
];

#[tokio::test]
async fn a_token_that_may_be_forged_old_or_about_another_request_is_a_failure() {
    let (scene, _worker) = trusting(json!({"algorithm": "ES256", "key": EC_PUBLIC})).await;
    for (case, answer) in BAD {
        scene.receiver.always("/risk", Answer::By(answer));
        let said = login(&scene).await;
        assert_eq!(
            said["results"]["risk"],
            failure("block", "answer"),
            "{case}"
        );
        assert_eq!(said["custom_claims"], json!({}), "{case}");
    }
    scene.receiver.always("/risk", Answer::By(GOOD[2].2));
    assert_eq!(
        login(&scene).await["action"],
        "challenge",
        "the cases would all fail anyway"
    );
}

#[tokio::test]
async fn the_issuer_and_the_tolerance_are_those_of_the_endpoint() {
    let key = json!({"algorithm": "HS256", "key": SECRET, "issuer": "https://risk.example.com", "tolerance_seconds": 600});
    let (scene, _worker) = trusting(key).await;
    fn issued(request: &Request, claim: &str, seconds: i64) -> Answer {
        let mut claims = changed(request, "iss", json!("https://risk.example.com"));
        claims[claim] = json!(now().saturating_add_signed(seconds));
        jwt(token(Algorithm::HS256, &claims))
    }
    let cases: [(&str, Made); 5] = [
        ("answer", |request| {
            jwt(token(Algorithm::HS256, &claims(request)))
        }),
        ("answer", |request| {
            let claims = changed(request, "iss", json!("https://other.example.com"));
            jwt(token(Algorithm::HS256, &claims))
        }),
        ("answer", |request| issued(request, "iat", -900)),
        ("challenge", |request| issued(request, "iat", -300)),
        ("challenge", |request| issued(request, "exp", 60)),
    ];
    for (expected, answer) in cases {
        scene.receiver.always("/risk", Answer::By(answer));
        let result = login(&scene).await["results"]["risk"].clone();
        let outcome = result.get("failure").unwrap_or(&result["action"]);
        assert_eq!(*outcome, expected);
    }
}

#[tokio::test]
async fn a_replaced_key_is_no_longer_believed() {
    let (scene, _worker) = trusting(json!({"algorithm": "ES256", "key": EC_PUBLIC})).await;
    scene.receiver.always("/risk", Answer::By(GOOD[2].2));
    assert_eq!(login(&scene).await["action"], "challenge");
    let options = json!({"answer_key": {"algorithm": "EdDSA", "key": ED_PUBLIC}});
    let update = format!("select actionflow.update_endpoint('risk', $json${options}$json$)");
    scene.sql().run(&update).await;
    assert_eq!(
        login(&scene).await["results"]["risk"],
        failure("block", "answer")
    );
    let none = r#"select actionflow.update_endpoint('risk', '{"answer_key": null}')"#;
    scene.sql().run(none).await;
    assert_eq!(
        login(&scene).await["results"]["risk"],
        failure("block", "answer")
    );
}

#[tokio::test]
async fn answers_in_the_queue_are_verified_too() {
    let (scene, _worker) = asking(json!([])).await;
    let options =
        json!({"answer_key": {"algorithm": "EdDSA", "key": ED_PUBLIC}, "retry_seconds": [0, 0]});
    scene.endpoint("risk", &options.to_string()).await;
    scene.endpoint("crm", "{}").await;
    let actions = json!([enrich("risk", json!({})), tell("crm")]);
    flow_on(&scene, "later", "never", actions).await;
    scene.receiver.script(
        "/risk",
        [
            Answer::json(&json!({"data": {"score": "forged"}})),
            Answer::By(GOOD[2].2),
            Answer::By(GOOD[3].2),
        ],
    );
    scene.start("later", &["42"]).await;
    let told = scene.receiver.wait_for_one("/crm").await.json();
    assert_eq!(told["data"]["variables"], json!({"risk": {"score": 0.5}}));
    scene.settle().await;
    assert_eq!(scene.receiver.requests("/risk").len(), 3);
}
