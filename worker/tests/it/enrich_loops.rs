//! The loops of Enrich: settings that change, a database that fails, a log that is too slow, and the end.

use std::sync::Arc;
use std::time::Duration;

use actionflow_worker::Grace;
use actionflow_worker::config::AddressPolicy;
use actionflow_worker::deliver::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use crate::receiver::{Answer, Receiver};
use crate::rendezvous::{MemoryRendezvous, Running};

/// Nothing can be sent with this URL, so no network disturbs a paused clock.
const NOWHERE: &str = "ftp://example.com/";

fn allow() -> Answer {
    Answer::with(200, "content-type: application/json", "{}")
}

fn with_revision(revision: i64) -> Value {
    json!({ "endpoint_revision": revision })
}

#[tokio::test]
async fn settings_are_asked_for_once_and_again_for_a_later_revision() {
    let receiver = Receiver::start(vec![allow(); 40]).await;
    let enricher = Running::start();
    for id in 1..=20 {
        enricher
            .rendezvous
            .ask(id, &receiver.url(), with_revision(1));
    }
    for id in 1..=20 {
        enricher.rendezvous.reply(id).await;
    }
    assert_eq!(enricher.rendezvous.state().fetches, 1);

    enricher
        .rendezvous
        .configure(2, &json!({"headers": {"x-new": "yes"}}));
    for id in 21..=40 {
        // A caller that still sees the old settings is served with the new ones.
        let revision = if id % 2 == 1 { 2 } else { 1 };
        enricher
            .rendezvous
            .ask(id, &receiver.url(), with_revision(revision));
        enricher.rendezvous.reply(id).await;
    }
    assert_eq!(enricher.rendezvous.state().fetches, 2);
    let requests = receiver.requests();
    assert!(requests[..20].iter().all(|r| r.headers("x-new").is_empty()));
    assert!(requests[20..].iter().all(|r| r.headers("x-new") == ["yes"]));
    enricher.stop().await;
}

#[tokio::test]
async fn a_caller_that_has_changed_the_endpoint_itself_is_served_with_what_is_committed() {
    let receiver = Receiver::start([allow(), allow()]).await;
    let enricher = Running::start();
    for id in 1..=2 {
        enricher
            .rendezvous
            .ask(id, &receiver.url(), with_revision(9));
        let reply = enricher.rendezvous.reply(id).await;
        assert_eq!(reply["answer"]["action"], "allow");
    }
    enricher.stop().await;
}

#[tokio::test(start_paused = true)]
async fn settings_are_asked_for_again_after_a_minute_while_requests_go_on() {
    let enricher = Running::start();
    let fetches = || enricher.rendezvous.state().fetches;
    for id in 1..=3 {
        enricher.rendezvous.ask(id, NOWHERE, json!({}));
        enricher.rendezvous.reply(id).await;
        assert_eq!(fetches(), 1);
        advance(Duration::from_secs(15)).await;
    }
    advance(Duration::from_secs(60)).await;
    let start = Instant::now();
    for id in 4..=5 {
        enricher.rendezvous.ask(id, NOWHERE, json!({}));
        enricher.rendezvous.reply(id).await;
    }
    assert!(start.elapsed() < Duration::from_millis(10));
    enricher.rendezvous.until(|state| state.fetches == 2).await;
    enricher.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_not_prepared_is_asked_again_every_half_minute() {
    let rendezvous = Arc::new(MemoryRendezvous::default());
    rendezvous.state().refused_takes = 3;
    let client = Client::new(AddressPolicy::Any).unwrap();
    let enricher = Running::with(client, Grace::default(), rendezvous);
    for count in 1..=4 {
        enricher
            .rendezvous
            .until(|state| state.takes.len() >= count)
            .await;
    }
    let takes = enricher.rendezvous.state().takes.clone();
    for pair in takes[..4].windows(2) {
        assert_eq!((pair[1] - pair[0]).as_secs(), 30);
    }
    assert_eq!(enricher.metrics.database_errors.get(), 0);
    enricher.stop().await;
}

#[tokio::test(start_paused = true)]
async fn takes_that_fail_are_made_again_with_growing_pauses() {
    let rendezvous = Arc::new(MemoryRendezvous::default());
    rendezvous.configure(1, &json!({}));
    rendezvous.state().take_failures = 10;
    rendezvous.ask(1, NOWHERE, json!({}));
    let client = Client::new(AddressPolicy::Any).unwrap();
    let enricher = Running::with(client, Grace::default(), rendezvous);
    let start = Instant::now();
    enricher.rendezvous.reply(1).await;
    let waited = start.elapsed().as_secs();
    assert!(
        (10..40).contains(&waited),
        "six pauses that double, four of five seconds: {waited} s"
    );
    assert_eq!(enricher.metrics.database_errors.get(), 10);
    enricher.stop().await;
}

#[tokio::test]
async fn replies_outlive_one_failure_to_hand_them_over() {
    let enricher = Running::start();
    enricher.rendezvous.state().answer_failures = 1;
    enricher.rendezvous.ask(1, NOWHERE, json!({}));
    enricher.rendezvous.reply(1).await;

    enricher.rendezvous.state().answer_failures = 2;
    enricher.rendezvous.ask(2, NOWHERE, json!({}));
    enricher
        .rendezvous
        .until(|state| state.answer_failures == 0)
        .await;
    enricher.rendezvous.ask(3, NOWHERE, json!({}));
    enricher.rendezvous.reply(3).await;
    let dropped = enricher.rendezvous.state().replies.len();
    assert_eq!(dropped, 2, "the second is dropped: its caller has gone on");
    enricher.stop().await;
}

#[tokio::test(start_paused = true)]
async fn entries_outlive_failures_to_record_them() {
    let enricher = Running::start();
    enricher.rendezvous.state().record_failures = 5;
    for id in 1..=3 {
        enricher.rendezvous.ask(id, NOWHERE, json!({}));
    }
    for id in 1..=3 {
        assert_eq!(enricher.rendezvous.entries(id, 1).await.len(), 1);
    }
    assert_eq!(enricher.metrics.enrich.log_dropped.get(), 0);
    enricher.stop().await;
}

#[tokio::test]
async fn a_log_that_is_too_slow_loses_entries_and_delays_no_answer() {
    const REQUESTS: i64 = 12_000;
    let grace = Grace {
        records: Duration::from_millis(50),
        ..Grace::default()
    };
    let rendezvous = Running::start().rendezvous;
    rendezvous.state().is_record_stuck = true;
    let client = Client::new(AddressPolicy::Any).unwrap();
    let enricher = Running::with(client, grace, rendezvous);
    for id in 1..=REQUESTS {
        enricher.rendezvous.ask(id, NOWHERE, json!({}));
    }
    enricher
        .rendezvous
        .until(|state| state.replies.len() == REQUESTS as usize)
        .await;
    let (rendezvous, metrics) = (enricher.rendezvous.clone(), enricher.metrics.clone());
    enricher.stop().await;
    // 8192 wait, and a batch of up to 1024 is under way.
    let dropped = metrics.enrich.log_dropped.get();
    assert!((2784..=3808).contains(&dropped), "{dropped}");
    assert!(rendezvous.state().entries.is_empty());
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_answered_and_nothing_more_is_taken() {
    let receiver = Receiver::start([Answer::Hold]).await;
    let enricher = Running::start();
    enricher.rendezvous.ask(1, &receiver.url(), json!({}));
    receiver.arrived(1).await;
    let rendezvous = enricher.rendezvous.clone();
    let ending = enricher.begin_stop();
    // Before what is under way has ended.
    rendezvous.until(|state| state.is_retired).await;
    receiver.release();
    ending.await.unwrap();
    let takes = rendezvous.state().takes.len();
    rendezvous.ask(2, &receiver.url(), json!({}));

    // The held answer is empty, which is no JSON: what matters here is that it is handed over.
    let reply = rendezvous.reply(1).await;
    assert_eq!(reply["failure"]["kind"], "answer", "{reply}");
    assert_eq!(rendezvous.entries(1, 1).await.len(), 1);
    let state = rendezvous.state();
    assert!(state.has_left && !state.answered_late);
    assert_eq!(state.takes.len(), takes);
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn requests_that_do_not_end_in_time_are_left_to_their_callers() {
    let receiver = Receiver::start([Answer::Hang]).await;
    let grace = Grace {
        attempts: Duration::from_millis(50),
        records: Duration::from_secs(5),
    };
    let client = Client::new(AddressPolicy::Any).unwrap();
    let enricher = Running::with(client, grace, Running::start().rendezvous);
    enricher
        .rendezvous
        .ask_within(Duration::from_secs(3600), 1, &receiver.url(), json!({}));
    receiver.arrived(1).await;
    let (rendezvous, metrics) = (enricher.rendezvous.clone(), enricher.metrics.clone());
    enricher.stop().await;
    let state = rendezvous.state();
    assert!(state.has_left);
    assert!(state.replies.is_empty());
    assert_eq!(metrics.enrich.in_flight.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_enricher_ends_with_its_last_take() {
    let enricher = Running::start();
    enricher
        .rendezvous
        .until(|state| state.takes.len() >= 2)
        .await;
    let start = Instant::now();
    enricher.stop().await;
    assert!(start.elapsed() <= Duration::from_millis(500));
}
