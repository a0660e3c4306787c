//! From claim to record, with real requests.

use std::sync::Arc;
use std::time::Duration;

use actionflow_core::outcome::Outcome;
use actionflow_core::signature::{Secret, sign};
use actionflow_worker::Grace;
use actionflow_worker::config::AddressPolicy;
use actionflow_worker::deliver::{Client, Lookup, LookupFuture};
use serde_json::json;

use crate::queue::{Running, SECRET};
use crate::receiver::{Answer, Receiver};

const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[tokio::test]
async fn a_delivery_arrives_signed_with_every_secret_and_with_the_endpoint_s_own_headers() {
    let receiver = Receiver::start([]).await;
    let worker = Running::start(8);
    let headers = json!({"x-team": "growth", "Webhook-Id": "forged", "content-type": "text/plain", "host": "elsewhere"});
    worker.queue.push(
        42,
        &receiver.url(),
        json!({"headers": headers, "secrets": [OTHER_SECRET, SECRET]}),
    );
    let record = worker.queue.recorded(1).await.remove(0);
    assert_eq!(
        (record.outcome, record.status, record.error),
        (Outcome::Delivered, Some(200), None)
    );

    let request = receiver.arrived(1).await.remove(0);
    assert_eq!(request.line, "POST /hook HTTP/1.1");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("user-agent"), "actionflow/0.1.0");
    assert_eq!(request.header("host"), receiver.address.to_string());
    assert_eq!(request.header("x-team"), "growth");
    assert_eq!(request.header("webhook-id"), "42");
    assert_eq!(request.body, br#"{"delivery":42}"#);
    let secrets = [OTHER_SECRET, SECRET].map(|text| Secret::parse(text).unwrap());
    let signature = sign(
        &secrets,
        "42",
        request.header("webhook-timestamp"),
        &request.body,
    );
    assert_eq!(request.header("webhook-signature"), signature);
    worker.stop().await;
}

#[tokio::test]
async fn every_way_to_fail_is_recorded_as_what_it_means() {
    let script = [
        Answer::with(503, "retry-after: 3600", "try later"),
        Answer::with(410, "x: y", "no more"),
        Answer::Close,
    ];
    let receiver = Receiver::start(script).await;
    let worker = Running::start(1);
    for id in 1..=3 {
        worker.queue.push(id, &receiver.url(), json!({}));
    }
    worker.queue.push(4, "ftp://example.com/", json!({}));
    worker
        .queue
        .push(5, &receiver.url(), json!({"secrets": ["whsec_short"]}));
    worker
        .queue
        .push(6, &receiver.url(), json!({"retry_seconds": []}));
    worker.queue.push(
        7,
        &receiver.url(),
        json!({"success": "2xx", "headers": {"bad name": "x"}, "retry_seconds": []}),
    );

    let records = worker.queue.recorded(7).await;
    let [busy, gone, broken, scheme, secret, fine, header] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(
        (busy.outcome, busy.status),
        (Outcome::Retry(Duration::from_secs(3600)), Some(503))
    );
    assert_eq!(busy.response.as_deref(), Some("try later"));
    assert_eq!(busy.error.as_deref(), Some("the endpoint answered 503"));
    assert_eq!((gone.outcome, gone.status), (Outcome::Gone, Some(410)));
    assert!(
        matches!(broken.outcome, Outcome::Retry(wait) if (24..=36).contains(&wait.as_secs())),
        "{broken:?}"
    );
    assert_eq!(
        scheme.error.as_deref(),
        Some(r#"the URL's scheme is "ftp", which is not http or https"#)
    );
    assert_eq!(
        secret.error.as_deref(),
        Some("a signing secret is base64 after \"whsec_\"")
    );
    assert!(
        matches!(secret.outcome, Outcome::Retry(_)),
        "a repair finds the delivery alive"
    );
    assert_eq!(fine.outcome, Outcome::Delivered);
    assert_eq!(
        header.error.as_deref(),
        Some(r#""bad name" is not a header's name"#)
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_failure_after_the_last_retry_is_the_end_of_the_delivery() {
    let receiver = Receiver::start([Answer::status(500)]).await;
    let worker = Running::start(1);
    worker
        .queue
        .push(1, &receiver.url(), json!({"retry_seconds": []}));
    assert_eq!(worker.queue.recorded(1).await[0].outcome, Outcome::Dead);
    worker.stop().await;
}

#[tokio::test]
async fn a_slow_endpoint_does_not_hold_up_another() {
    let slow = Receiver::start(vec![Answer::Hold; 3]).await;
    let fast = Receiver::start([]).await;
    let worker = Running::start(4);
    for id in 1..=3 {
        worker.queue.push(id, &slow.url(), json!({}));
    }
    slow.arrived(3).await;
    for id in 11..=60 {
        worker
            .queue
            .push(id, &format!("{}/fast", fast.url()), json!({"name": "fast"}));
    }
    let records = worker.queue.recorded(50).await;
    assert!(records.iter().all(|record| record.id > 10), "{records:?}");
    slow.release();
    worker.queue.recorded(53).await;
    worker.stop().await;
}

#[tokio::test]
async fn outcomes_outlive_failures_to_record_them_and_nothing_is_claimed_meanwhile() {
    let receiver = Receiver::start([]).await;
    let worker = Running::start(8);
    worker.queue.state().record_failures = 2;
    worker.queue.push(1, &receiver.url(), json!({}));
    worker.queue.until(|state| state.record_failures < 2).await;
    worker.queue.push(2, &receiver.url(), json!({}));
    let records = worker.queue.recorded(2).await;
    assert!(
        records
            .iter()
            .all(|record| record.outcome == Outcome::Delivered)
    );
    assert_eq!(receiver.requests().len(), 2, "no delivery is sent twice");
    worker.stop().await;
}

/// Panics inside the attempt, where the name is looked up.
struct PanickingLookup;

impl Lookup for PanickingLookup {
    fn lookup(&self, host: &str) -> LookupFuture {
        panic!("no lookup of {host}");
    }
}

#[tokio::test]
async fn a_panic_is_recorded_as_a_retry_and_counted() {
    let client = Client::with_lookup(AddressPolicy::Any, Arc::new(PanickingLookup)).unwrap();
    let worker = Running::with(8, client, Grace::default(), Arc::default());
    worker.queue.push(1, "http://example.com/", json!({}));
    let record = worker.queue.recorded(1).await.remove(0);
    assert!(matches!(record.outcome, Outcome::Retry(_)), "{record:?}");
    assert_eq!(
        record.error.as_deref(),
        Some("the attempt failed inside the worker")
    );
    assert_eq!(worker.metrics.panics.get(), 1);
    assert_eq!(worker.metrics.in_flight.get(), 0);
    worker.stop().await;
}
