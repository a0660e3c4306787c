//! Questions whose callers wait: from request to reply, with real HTTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actionflow_core::signature::{Secret, sign};
use actionflow_worker::Grace;
use actionflow_worker::config::AddressPolicy;
use actionflow_worker::deliver::{Client, Lookup, LookupFuture};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::queue::SECRET;
use crate::receiver::{Answer, Receiver};
use crate::rendezvous::Running;

fn answers(json: &Value) -> Answer {
    Answer::with(200, "content-type: application/json", &json.to_string())
}

fn failure_kind(reply: &Value) -> &str {
    reply["failure"]["kind"]
        .as_str()
        .unwrap_or_else(|| panic!("{reply}"))
}

#[tokio::test]
async fn a_request_is_signed_its_answer_reaches_the_caller_and_the_attempt_is_recorded() {
    let answer = json!({
        "action": "block", "data": {"score": 97}, "custom_claims": {"tier": "gold"}, "reason": "seen before",
        "user_message": "Call us.",
    });
    let receiver = Receiver::start([answers(&answer)]).await;
    let enricher = Running::start();
    enricher.rendezvous.ask(123, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(123).await;
    assert_eq!(reply, json!({ "answer": answer }));

    let request = receiver.arrived(1).await.remove(0);
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("webhook-id"), "123");
    let signature = sign(
        &[Secret::parse(SECRET).unwrap()],
        "123",
        request.header("webhook-timestamp"),
        &request.body,
    );
    assert_eq!(request.header("webhook-signature"), signature);
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["data"]["request"], 123);

    let mut entry = enricher.rendezvous.entries(123, 1).await.remove(0);
    let entry_fields = entry.as_object_mut().unwrap();
    assert!(entry_fields.remove("started_at").unwrap().is_u64());
    assert!(entry_fields.remove("duration_us").unwrap().is_u64());
    assert_eq!(
        entry,
        json!({
            "request_id": 123, "event_id": 9, "run_id": 17, "flow_id": 3, "endpoint_id": 1, "action": "risk",
            "user_id": "42", "mode": "live", "attempt": 1, "status": 200, "outcome": "block", "reason": "seen before",
            "error": null, "is_cached": false,
        })
    );
    let page = enricher.metrics.render().unwrap();
    for line in [
        r#"actionflow_enrich_requests_total{outcome="block"} 1"#,
        r#"actionflow_enrich_requests_total{outcome="failed"} 0"#,
        "actionflow_enrich_duration_seconds_count 1",
        "actionflow_enrich_in_flight 0",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    enricher.stop().await;
}

#[tokio::test]
async fn every_way_to_fail_has_its_kind() {
    let json_type = "content-type: application/json";
    let script = [
        Answer::status(404),
        Answer::with(410, "x: y", "no more"),
        Answer::with(204, "x: y", ""),
        Answer::with(302, "location: http://127.0.0.1:9/", ""),
        Answer::with(200, json_type, "secret nonsense"),
        Answer::with(200, "content-type: text/html", "{}"),
        Answer::with(200, json_type, r#"{"action": "maybe"}"#),
        Answer::Endless(format!(
            "HTTP/1.1 200 OK\r\n{json_type}\r\ncontent-length: 99999999\r\n\r\n"
        )),
    ];
    let receiver = Receiver::start(script).await;
    let enricher = Running::start();
    let kinds = [
        "status",
        "status",
        "status",
        "status",
        "answer",
        "answer",
        "answer",
        "too_large",
    ];
    for (id, kind) in (1..).zip(kinds) {
        enricher.rendezvous.ask(id, &receiver.url(), json!({}));
        let reply = enricher.rendezvous.reply(id).await;
        assert_eq!(failure_kind(&reply), kind, "request {id}: {reply}");
        assert!(!reply.to_string().contains("nonsense"), "{reply}");
        let entries = enricher.rendezvous.entries(id, 1).await;
        assert_eq!(entries.len(), 1, "nothing of this is tried again");
        assert_eq!(entries[0]["outcome"], "failed");
        assert_eq!(entries[0]["error"], reply["failure"]["message"]);
    }
    assert_eq!(receiver.requests().len(), kinds.len());
    assert_eq!(enricher.metrics.enrich.failed.get(), kinds.len() as u64);
    enricher.stop().await;
}

#[tokio::test]
async fn what_cannot_be_sent_fails_without_a_request() {
    let receiver = Receiver::start([]).await;
    let enricher = Running::start();
    enricher.rendezvous.ask(1, "ftp://example.com/", json!({}));
    enricher
        .rendezvous
        .ask(2, &receiver.url(), json!({"endpoint_id": 77}));
    enricher
        .rendezvous
        .ask_within(Duration::ZERO, 3, &receiver.url(), json!({}));
    enricher
        .rendezvous
        .ask(4, &receiver.url(), json!({"user_id": {}}));
    for (id, kind) in [
        (1, "unsendable"),
        (2, "unsendable"),
        (3, "timeout"),
        (4, "internal"),
    ] {
        let reply = enricher.rendezvous.reply(id).await;
        assert_eq!(failure_kind(&reply), kind, "request {id}: {reply}");
    }
    for id in 1..=3 {
        let entry = enricher.rendezvous.entries(id, 1).await.remove(0);
        assert_eq!(
            (&entry["attempt"], &entry["status"], &entry["outcome"]),
            (&json!(1), &json!(null), &json!("failed"))
        );
    }
    assert_eq!(receiver.connections(), 0);
    enricher.stop().await;
}

#[tokio::test]
async fn a_private_address_is_refused() {
    let receiver = Receiver::start([]).await;
    let (own, client) = (
        Running::start().rendezvous,
        Client::new(AddressPolicy::PublicOnly).unwrap(),
    );
    let enricher = Running::with(client, Grace::default(), own);
    enricher.rendezvous.ask(1, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(1).await;
    assert_eq!(failure_kind(&reply), "address_refused");
    assert_eq!(receiver.connections(), 0);
    enricher.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_silent_costs_the_caller_its_time_and_no_more() {
    let receiver = Receiver::start([Answer::Hang]).await;
    let enricher = Running::start();
    enricher
        .rendezvous
        .ask_within(Duration::from_millis(300), 1, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(1).await;
    assert_eq!(failure_kind(&reply), "timeout");
    assert_eq!(enricher.rendezvous.entries(1, 1).await.len(), 1);
    enricher.stop().await;
}

#[tokio::test]
async fn what_may_pass_is_tried_once_more() {
    let allow = || answers(&json!({}));
    let enricher = Running::start();
    let first = [
        Answer::status(429),
        Answer::status(502),
        Answer::with(503, "retry-after: 1", ""),
        Answer::status(504),
        Answer::Close,
    ];
    let count = first.len() as i64;
    for (id, first) in (1..).zip(first) {
        let receiver = Receiver::start([first, allow()]).await;
        enricher.rendezvous.ask(id, &receiver.url(), json!({}));
        let reply = enricher.rendezvous.reply(id).await;
        assert_eq!(reply["answer"]["action"], "allow", "request {id}: {reply}");
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].header("webhook-id"), id.to_string());
        assert_eq!(requests[1].header("webhook-id"), id.to_string());
        let entries = enricher.rendezvous.entries(id, 2).await;
        let told: Vec<_> = entries
            .iter()
            .map(|e| (e["attempt"].clone(), e["outcome"].clone()))
            .collect();
        assert_eq!(
            told,
            [(json!(1), json!("failed")), (json!(2), json!("allow"))]
        );
    }
    let receiver = Receiver::start([Answer::status(503), Answer::status(502), allow()]).await;
    enricher
        .rendezvous
        .ask(count + 1, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(count + 1).await;
    assert_eq!(
        reply["failure"],
        json!({"kind": "status", "message": "the endpoint answered 502"})
    );
    assert_eq!(enricher.rendezvous.entries(count + 1, 2).await.len(), 2);
    enricher.stop().await;
}

#[tokio::test]
async fn nothing_is_tried_again_without_time_for_it() {
    let script = [
        Answer::with(503, "retry-after: 20", ""),
        Answer::status(503),
    ];
    let receiver = Receiver::start(script).await;
    let enricher = Running::start();
    enricher.rendezvous.ask(1, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(1).await;
    assert_eq!(failure_kind(&reply), "status");
    // Less than the wait before a second attempt and the shortest one together.
    enricher
        .rendezvous
        .ask_within(Duration::from_millis(60), 2, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(2).await;
    // On a busy machine the first attempt may not have had its time either.
    assert!(
        ["status", "timeout"].contains(&failure_kind(&reply)),
        "{reply}"
    );
    for id in [1, 2] {
        assert_eq!(enricher.rendezvous.entries(id, 1).await.len(), 1);
    }
    assert!(receiver.requests().len() <= 2);
    enricher.stop().await;
}

fn jwt(claims: &Value) -> Answer {
    let key = EncodingKey::from_base64_secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let token = jsonwebtoken::encode(&Header::default(), claims, &key.unwrap()).unwrap();
    Answer::with(200, "content-type: application/jwt", &token)
}

#[tokio::test]
async fn with_a_key_nothing_but_a_signed_answer_to_this_request_is_believed() {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since_1970.unwrap().as_secs();
    let script = [
        jwt(&json!({"iat": now, "jti": "1", "action": "challenge"})),
        jwt(&json!({"iat": now, "jti": "1", "action": "challenge"})),
        jwt(&json!({"iat": now - 3600, "jti": "3", "action": "challenge"})),
        answers(&json!({"action": "allow"})),
    ];
    let receiver = Receiver::start(script).await;
    let enricher = Running::start();
    let key = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    enricher.rendezvous.configure(
        1,
        &json!({"answer_key": {"algorithm": "HS256", "key": key}}),
    );
    for id in 1..=4 {
        enricher.rendezvous.ask(id, &receiver.url(), json!({}));
        let reply = enricher.rendezvous.reply(id).await;
        match id {
            1 => assert_eq!(reply["answer"]["action"], "challenge", "{reply}"),
            _ => assert_eq!(failure_kind(&reply), "answer", "request {id}: {reply}"),
        }
    }
    enricher.stop().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_no_reason_to_believe_everything() {
    let receiver = Receiver::start([answers(&json!({}))]).await;
    let enricher = Running::start();
    enricher.rendezvous.configure(
        1,
        &json!({"answer_key": {"algorithm": "HS256", "key": "hunter2"}}),
    );
    enricher.rendezvous.ask(1, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(1).await;
    assert_eq!(failure_kind(&reply), "unsendable");
    assert!(!reply.to_string().contains("hunter2"), "{reply}");
    assert_eq!(receiver.connections(), 0);
    enricher.stop().await;
}

#[tokio::test]
async fn an_answer_serves_later_requests_of_its_key_until_the_endpoint_changes() {
    let script = [
        Answer::status(500),
        answers(&json!({"action": "block", "reason": "first"})),
        answers(&json!({"action": "allow"})),
        answers(&json!({"action": "challenge"})),
    ];
    let receiver = Receiver::start(script).await;
    let enricher = Running::start();
    let cached = json!({"cache_key": "abc", "cache_seconds": 3600});
    let ask = async |id: i64, head: &Value| {
        enricher.rendezvous.ask(id, &receiver.url(), head.clone());
        enricher.rendezvous.reply(id).await
    };
    assert_eq!(failure_kind(&ask(1, &cached).await), "status");
    assert_eq!(ask(2, &cached).await["answer"]["action"], "block");
    assert_eq!(ask(3, &cached).await, enricher.rendezvous.reply(2).await);
    let entry = enricher.rendezvous.entries(3, 1).await.remove(0);
    assert_eq!(
        json!([
            entry["is_cached"],
            entry["attempt"],
            entry["duration_us"],
            entry["status"]
        ]),
        json!([true, 1, 0, null])
    );
    assert_eq!(
        json!([entry["outcome"], entry["reason"]]),
        json!(["block", "first"])
    );
    assert_eq!(enricher.metrics.enrich.cache_hits.get(), 1);

    let other = json!({"cache_key": "xyz", "cache_seconds": 3600});
    assert_eq!(ask(4, &other).await["answer"]["action"], "allow");
    enricher.rendezvous.configure(2, &json!({}));
    let changed = json!({"cache_key": "abc", "cache_seconds": 3600, "endpoint_revision": 2});
    assert_eq!(ask(5, &changed).await["answer"]["action"], "challenge");
    assert_eq!(receiver.requests().len(), 4);
    enricher.stop().await;
}

/// Panics inside the attempt, where the name is looked up.
struct PanickingLookup;

impl Lookup for PanickingLookup {
    fn lookup(&self, host: &str) -> LookupFuture {
        panic!("no lookup of {host}");
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_request_alone() {
    let client = Client::with_lookup(AddressPolicy::Any, Arc::new(PanickingLookup)).unwrap();
    let enricher = Running::with(client, Grace::default(), Running::start().rendezvous);
    enricher.rendezvous.ask(1, "http://example.com/", json!({}));
    let reply = enricher.rendezvous.reply(1).await;
    assert_eq!(
        reply["failure"],
        json!({"kind": "internal", "message": "the request failed inside the worker"})
    );
    let entries = enricher.rendezvous.entries(1, 1).await;
    assert_eq!(entries[0]["error"], "the request failed inside the worker");
    assert_eq!(enricher.metrics.panics.get(), 1);
    assert_eq!(enricher.metrics.enrich.in_flight.get(), 0);

    let receiver = Receiver::start([answers(&json!({}))]).await;
    enricher.rendezvous.ask(2, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(2).await;
    assert_eq!(reply["answer"]["action"], "allow");
    enricher.stop().await;
}
