//! Enrich steps of the queue, and messages in the form of Security Event Tokens.

use std::time::Duration;

use actionflow_core::outcome::Outcome;
use actionflow_core::signature::{Secret, sign};
use actionflow_worker::queue::{Delivery, Privacy};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::queue::{Running, delivery};
use crate::receiver::{Answer, Receiver, Request};
use crate::rendezvous;

/// HS256 signs with no fewer than 32 bytes.
const LONG_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const JSON_TYPE: &str = "content-type: application/json";

fn step(id: i64, url: &str, settings: &Value) -> Delivery {
    Delivery {
        enrich_timeout: Some(Duration::from_secs(10)),
        ..delivery(id, url, settings)
    }
}

#[tokio::test]
async fn the_answer_to_a_step_is_read_whole_and_handed_over() {
    let data = "x".repeat(100_000);
    let body = json!({"action": "challenge", "data": {"large": data}, "unknown": 1});
    let receiver = Receiver::start([Answer::with(200, JSON_TYPE, &body.to_string())]).await;
    let worker = Running::start(8);
    worker.queue.queue(step(7, &receiver.url(), &json!({})));
    let record = worker.queue.recorded(1).await.remove(0);
    assert_eq!(
        (record.outcome, record.status, record.error),
        (Outcome::Delivered, Some(200), None)
    );
    let answer: Value = serde_json::from_str(&record.answer.unwrap()).unwrap();
    assert_eq!(
        answer,
        json!({"action": "challenge", "data": {"large": data}, "custom_claims": {}})
    );
    assert_eq!(record.response.unwrap(), body.to_string()[..1024]);
    assert_eq!(receiver.requests()[0].header("webhook-id"), "7");
    worker.stop().await;
}

#[tokio::test]
async fn a_step_without_a_usable_answer_follows_the_schedule() {
    let script = [
        Answer::status(201),
        Answer::with(200, JSON_TYPE, "[]"),
        Answer::with(200, JSON_TYPE, &" ".repeat(1 << 21)),
    ];
    let errors = [
        "the endpoint answered 201",
        "the answer is not a JSON object",
        "the answer is longer than 1048576 bytes",
    ];
    let receiver = Receiver::start(script).await;
    let worker = Running::start(1);
    let settings = json!({"success": "2xx"});
    for (id, error) in (1..).zip(errors) {
        worker.queue.queue(step(id, &receiver.url(), &settings));
        let record = worker
            .queue
            .recorded(id as usize)
            .await
            .remove(id as usize - 1);
        assert!(matches!(record.outcome, Outcome::Retry(_)), "{record:?}");
        assert_eq!(
            (record.error.as_deref(), record.answer),
            (Some(error), None)
        );
    }
    let last = Receiver::start([Answer::status(503)]).await;
    let settings = json!({"retry_seconds": []});
    worker.queue.queue(step(4, &last.url(), &settings));
    assert_eq!(worker.queue.recorded(4).await[3].outcome, Outcome::Dead);
    let gone = Receiver::start([Answer::status(410)]).await;
    worker.queue.queue(step(5, &gone.url(), &json!({})));
    assert_eq!(worker.queue.recorded(5).await[4].outcome, Outcome::Gone);
    worker.stop().await;
}

#[tokio::test]
async fn what_answers_a_private_message_is_not_recorded() {
    let answer = |status| {
        Answer::with(
            status,
            JSON_TYPE,
            r#"{"reason": "https://example.com/?t=1"}"#,
        )
    };
    let receiver = Receiver::start([answer(200), answer(500), answer(200)]).await;
    let worker = Running::start(1);
    let private = |delivery| Delivery {
        privacy: Privacy::Private,
        ..delivery
    };
    let (url, settings) = (receiver.url(), json!({}));
    worker.queue.queue(private(delivery(1, &url, &settings)));
    worker.queue.queue(private(delivery(2, &url, &settings)));
    worker.queue.queue(private(step(3, &url, &settings)));
    let records = worker.queue.recorded(3).await;
    assert!(records.iter().all(|r| r.response.is_none()), "{records:?}");
    assert!(records[2].answer.is_some(), "the flow goes on with it");
    worker.stop().await;
}

/// The header and the claims of the token that arrived, whose signature the endpoint's secret makes.
fn token(request: &Request) -> (Value, Value) {
    let text = std::str::from_utf8(&request.body).unwrap();
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3, "{text}");
    let part = |index: usize| {
        let json = URL_SAFE_NO_PAD.decode(parts[index]).unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    (part(0), part(1))
}

fn set_settings() -> Value {
    let set =
        json!({"issuer": "https://shop.example.com", "algorithm": "HS256", "audience": "crm"});
    json!({"secrets": [LONG_SECRET], "format": "set", "set": set})
}

fn expect_token(request: &Request, id: &str, kind: &str) {
    assert_eq!(request.header("content-type"), "application/secevent+jwt");
    assert_eq!(request.header("webhook-id"), id);
    let timestamp = request.header("webhook-timestamp");
    let signature = sign(
        &[Secret::parse(LONG_SECRET).unwrap()],
        id,
        timestamp,
        &request.body,
    );
    assert_eq!(request.header("webhook-signature"), signature);
    let (header, claims) = token(request);
    assert_eq!(header, json!({"typ": "secevent+jwt", "alg": "HS256"}));
    assert_eq!(claims["iss"], "https://shop.example.com");
    assert_eq!(claims["aud"], "crm");
    assert_eq!(claims["jti"], id);
    assert_eq!(claims["iat"].to_string(), timestamp);
    assert_eq!(claims["sub_id"]["id"], "42");
    assert!(claims["events"][kind].is_object(), "{claims}");
}

fn message(kind: &str) -> String {
    json!({
        "type": kind, "timestamp": "2026-11-22T03:00:00.000Z",
        "data": {"flow_invocation_id": "inv", "user": {"id": "42"}},
    })
    .to_string()
}

#[tokio::test]
async fn a_delivery_is_sent_as_a_token_when_the_endpoint_wants_it() {
    let receiver = Receiver::start([]).await;
    let worker = Running::start(8);
    worker.queue.queue(Delivery {
        body: message("user-created").into(),
        ..delivery(7, &receiver.url(), &set_settings())
    });
    assert_eq!(
        worker.queue.recorded(1).await[0].outcome,
        Outcome::Delivered
    );
    let request = receiver.requests().remove(0);
    expect_token(&request, "7", "urn:actionflow:event:user-created");
    worker.stop().await;
}

#[tokio::test]
async fn an_enrich_request_is_sent_as_a_token_when_the_endpoint_wants_it() {
    let receiver = Receiver::start([Answer::with(200, JSON_TYPE, "{}")]).await;
    let enricher = rendezvous::Running::start();
    enricher.rendezvous.configure(1, &set_settings());
    enricher.rendezvous.ask(9, &receiver.url(), json!({}));
    let reply = enricher.rendezvous.reply(9).await;
    assert_eq!(reply["answer"]["action"], "allow", "{reply}");
    expect_token(&receiver.requests()[0], "9", "urn:actionflow:event:login");
    enricher.stop().await;
}

#[tokio::test]
async fn an_endpoint_whose_tokens_cannot_be_made_says_so() {
    let receiver = Receiver::start([]).await;
    let worker = Running::start(1);
    let url = receiver.url();
    worker.queue.push(1, &url, json!({"format": "set"}));
    worker.queue.push(2, &format!("{url}?2"), set_settings());
    let records = worker.queue.recorded(2).await;
    assert_eq!(
        records[0].error.as_deref(),
        Some("its format is \"set\" without the option set")
    );
    assert_eq!(
        records[1].error.as_deref(),
        Some("no token can be made of the message: the message has no usable \"type\"")
    );
    assert_eq!(receiver.connections(), 0);
    worker.stop().await;
}
