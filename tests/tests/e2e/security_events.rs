//! Notifications as Security Event Tokens (RFC 8417), verified by code that is not ours.

use std::time::SystemTime;

use actionflow_tests::{Answer, Request, Worker};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::asking::{data, emit, enrich, flow_on, tell};
use crate::keys::{EC_PRIVATE, EC_PUBLIC, RSA_PRIVATE};
use crate::scene::{Scene, unix_seconds, verification, wait_for_rows};

/// An endpoint `crm` that gets tokens made with these settings, and is told of new customers. Returns its secret.
async fn telling_tokens(set: Value) -> (Scene, Worker, String) {
    let scene = Scene::new().await;
    let options = json!({"format": "set", "set": set, "retry_seconds": [0, 0]});
    let secret = scene.endpoint("crm", &options.to_string()).await;
    flow_on(&scene, "welcome", "user-created", json!([tell("crm")])).await;
    let worker = scene.db.worker().await;
    (scene, worker, secret)
}

/// The three parts of a token, the first two read as JSON and the last as bytes.
fn parts(request: &Request) -> (Value, Value, Vec<u8>) {
    let token = String::from_utf8(request.body.clone()).expect("text");
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        panic!("{token} has not three parts");
    };
    let decode = |part: &&str| {
        URL_SAFE_NO_PAD
            .decode(part)
            .expect("base64url without padding")
    };
    let json = |part: &&str| serde_json::from_slice(&decode(part)).expect("JSON");
    (json(header), json(claims), decode(signature))
}

fn signed_part(request: &Request) -> &[u8] {
    let dot = request
        .body
        .iter()
        .rposition(|byte| *byte == b'.')
        .expect("a dot");
    &request.body[..dot]
}

fn is_hs256(request: &Request, secret: &str) -> bool {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").expect("a secret"))
        .expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(signed_part(request));
    mac.verify_slice(&parts(request).2).is_ok()
}

fn is_es256(request: &Request) -> bool {
    is_signature_of(request, signed_part(request))
}

/// Whether the signature of a token is one of these bytes.
fn is_signature_of(request: &Request, message: &[u8]) -> bool {
    let key = VerifyingKey::from_public_key_pem(EC_PUBLIC).expect("a public key");
    let signature = Signature::from_slice(&parts(request).2).expect("64 bytes");
    key.verify(message, &signature).is_ok()
}

/// N5.
#[tokio::test]
async fn a_notification_is_a_token_signed_with_the_endpoints_secret() {
    let set = json!({"issuer": "https://id.example.com", "audience": "crm", "algorithm": "HS256"});
    let (scene, _worker, secret) = telling_tokens(set).await;
    scene
        .sql()
        .run("insert into customers (id, email, name) values (42, 'ana@example.com', 'Ana')")
        .await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.header("content-type"), "application/secevent+jwt");
    verification(&request, &request.body, &secret).expect("the headers sign what was sent");
    assert!(is_hs256(&request, &secret));
    assert!(!is_hs256(
        &request,
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    ));
    let (header, claims, _) = parts(&request);
    assert_eq!(header, json!({"typ": "secevent+jwt", "alg": "HS256"}));
    let issued = claims["iat"].as_u64().expect("whole seconds");
    assert!(
        issued.abs_diff(unix_seconds(SystemTime::now())) < 60,
        "{issued}"
    );
    scene.settle().await;
    let run = scene
        .sql()
        .json(
            "select jsonb_build_object('run_id', r.id::text, 'txn', r.flow_invocation_id, 'event_id', r.event_id::text,
                 'toe', floor(extract(epoch from r.started_at)), 'delivery', d.id::text)
             from actionflow.runs as r join actionflow.deliveries as d on d.run_id = r.id",
        )
        .await;
    let message = json!({
        "mode": "live", "flow": "welcome", "version": 1, "run_id": run["run_id"], "flow_invocation_id": run["txn"],
        "action": "crm", "user": {"id": "42", "email": "ana@example.com", "name": "Ana"}, "variables": {},
        "event": {"id": run["event_id"], "name": "user-created", "properties": {}},
        "notificationDetail": {}, "metadata": {}
    });
    assert_eq!(request.id(), run["delivery"]);
    assert_eq!(
        claims,
        json!({
            "iss": "https://id.example.com", "aud": "crm", "iat": issued, "jti": run["delivery"], "toe": run["toe"],
            "txn": run["txn"], "sub_id": {"format": "opaque", "id": "42"},
            "events": {"urn:actionflow:event:user-created": message}
        })
    );
}

#[tokio::test]
async fn a_token_of_a_private_key_names_the_key_and_is_the_same_event_on_every_attempt() {
    let set = json!({"issuer": "i", "audience": ["a", "b"], "algorithm": "ES256", "key": EC_PRIVATE, "key_id": "k1",
        "event_prefix": "https://schemas.example.com/event/"});
    let (scene, _worker, secret) = telling_tokens(set).await;
    scene
        .receiver
        .script("/crm", [Answer::Status(500), Answer::Drop]);
    scene
        .sql()
        .run("insert into customers (id) values (42)")
        .await;
    scene.settle().await;
    let requests = scene.receiver.requests("/crm");
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert!(is_es256(request));
        verification(request, &request.body, &secret).expect("the headers sign what was sent");
        let (header, claims, _) = parts(request);
        assert_eq!(
            header,
            json!({"typ": "secevent+jwt", "alg": "ES256", "kid": "k1"})
        );
        assert_eq!(claims["jti"], request.id());
        assert_eq!(claims["aud"], json!(["a", "b"]));
        assert_eq!(claims["events"], parts(&requests[0]).1["events"]);
        let types: Vec<_> = claims["events"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys())
            .collect();
        assert_eq!(types, ["https://schemas.example.com/event/user-created"]);
    }
    let mut forged = signed_part(&requests[0]).to_vec();
    forged[30] ^= 1;
    assert!(!is_signature_of(&requests[0], &forged));
}

#[tokio::test]
async fn a_rotated_secret_and_a_changed_format_count_for_the_next_token() {
    let set = json!({"issuer": "i", "algorithm": "HS256"});
    let (scene, _worker, old) = telling_tokens(set).await;
    let new = scene
        .sql()
        .text("select actionflow.rotate_endpoint_secret('crm')")
        .await;
    scene
        .sql()
        .run("insert into customers (id) values (1)")
        .await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert!(is_hs256(&request, &new) && !is_hs256(&request, &old));
    assert_eq!(parts(&request).1.get("aud"), None);
    scene.settle().await;
    scene
        .sql()
        .run(r#"select actionflow.update_endpoint('crm', '{"format": "json"}')"#)
        .await;
    scene
        .sql()
        .run("insert into customers (id) values (2)")
        .await;
    let request = scene.receiver.wait_for("/crm", 2).await.remove(1);
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.user_id(), "2");
    scene.settle().await;
}

/// N8.
#[tokio::test]
async fn the_link_of_an_email_is_in_the_token() {
    let set = json!({"issuer": "i", "algorithm": "ES256", "key": EC_PRIVATE});
    let (scene, _worker, _) = telling_tokens(set).await;
    flow_on(&scene, "mail", "registration", json!([tell("crm")])).await;
    let link = json!({"verification_url": "https://id.example.com/v?t=1"});
    emit(scene.sql(), "registration", "42", link.clone()).await;
    let (_, claims, _) = parts(&scene.receiver.wait_for_one("/crm").await);
    let message = &claims["events"]["urn:actionflow:event:registration"];
    assert_eq!(message["event"]["properties"], link);
    scene.settle().await;
}

/// N9.
#[tokio::test]
async fn a_question_may_be_a_token_too() {
    let set = json!({"issuer": "i", "algorithm": "ES256", "key": EC_PRIVATE});
    let (scene, _worker, _) = telling_tokens(set).await;
    flow_on(&scene, "ask", "login", json!([enrich("crm", json!({}))])).await;
    scene.receiver.always("/crm", data(json!({"score": 1})));
    let answer = emit(scene.sql(), "login", "42", json!({"ip": "a"})).await;
    assert_eq!(answer["results"]["crm"]["data"], json!({"score": 1}));
    let request = scene.receiver.wait_for_one("/crm").await;
    assert!(is_es256(&request));
    let (_, claims, _) = parts(&request);
    let message = &claims["events"]["urn:actionflow:event:login"];
    assert_eq!(
        (&claims["jti"], &message["user"]),
        (&json!(request.id()), &json!({"id": "42"}))
    );
}

#[tokio::test]
async fn no_key_of_an_endpoint_is_shown_or_logged() {
    let set = json!({"issuer": "i", "algorithm": "RS256", "key": RSA_PRIVATE});
    let (scene, worker, _) = telling_tokens(set).await;
    let options = json!({"answer_key": {"algorithm": "HS256", "key": crate::keys::SECRET}});
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('crm', $json${options}$json$)"
        ))
        .await;
    scene
        .sql()
        .run("insert into customers (id) values (42)")
        .await;
    wait_for_rows(
        scene.sql(),
        "select state from actionflow.deliveries",
        &["delivered"],
    )
    .await;
    let views = scene
        .sql()
        .rows(
            "select oid::regclass from pg_class
             where relnamespace = 'actionflow'::regnamespace and relkind = 'v' and relname not like '\\_%'",
        )
        .await;
    let line = RSA_PRIVATE.lines().nth(3).expect("several lines");
    for key in [line, &crate::keys::SECRET[6..]] {
        for view in &views {
            let rows = scene
                .sql()
                .rows(&format!("select v::text from {view} as v"))
                .await;
            assert!(!rows.join("\n").contains(key), "{view}");
        }
        assert!(!worker.log().contains(key));
    }
}

#[tokio::test]
async fn a_secret_too_short_for_its_tokens_is_refused_when_it_is_saved() {
    let scene = Scene::new().await;
    let short = r#"{"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
    scene.endpoint("json", short).await;
    let set = r#"{"format": "set", "set": {"issuer": "i", "algorithm": "HS256"}}"#;
    scene.endpoint("set", set).await;
    for (endpoint, options) in [("json", set), ("set", short)] {
        let update = format!("select actionflow.update_endpoint('{endpoint}', '{options}')");
        let error = scene.sql().error(&update).await;
        assert_eq!(error.code, "22023", "{error:?}");
        assert!(error.message.contains("HS256"), "{error:?}");
    }
}
