//! How the claim loop sleeps and wakes, in paused time.

use std::time::Duration;

use actionflow_core::outcome::Outcome;
use serde_json::json;
use tokio::time::Instant;

use crate::queue::Running;

/// A worker that has looked at the queue, announced its sleep, looked again, and sleeps.
async fn asleep() -> Running {
    let worker = Running::start(8);
    worker
        .queue
        .until(|state| state.claims.len() == 2 && state.announcements == 1)
        .await;
    worker
}

#[tokio::test(start_paused = true)]
async fn sleep_is_announced_and_the_queue_looked_at_once_more() {
    let start = Instant::now();
    let worker = asleep().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_safety_net_looks_every_five_seconds_and_announces_anew() {
    let start = Instant::now();
    let worker = asleep().await;
    worker
        .queue
        .until(|state| state.wake_ups == 1 && state.announcements == 2 && state.claims.len() == 4)
        .await;
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(worker.health.unready(Instant::now()), None);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_delivery_is_claimed_when_it_is_due() {
    let worker = Running::start(8);
    worker.queue.state().next_claim_in = Some(Duration::from_millis(700));
    worker.queue.until(|state| state.claims.len() == 4).await;
    let claims = worker.queue.state().claims.clone();
    let gap = claims[3] - claims[2];
    assert!((700..710).contains(&gap.as_millis()), "{gap:?}");
    assert_eq!(
        worker.queue.state().announcements,
        1,
        "the announcement still stands"
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leave_to_sleep_that_is_refused_is_asked_for_again_with_growing_pauses() {
    let worker = Running::start(8);
    worker.queue.state().refusals = 100;
    worker.queue.until(|state| state.announcements == 101).await;
    let claims = worker.queue.state().claims.clone();
    assert!(
        claims.len() >= 101,
        "the queue is looked at between the announcements"
    );
    let whole = *claims.last().unwrap() - claims[0];
    assert!(
        (1..3).contains(&whole.as_secs()),
        "100 pauses of at most 20 ms: {whole:?}"
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_notification_ends_the_sleep_and_the_announcement_is_taken_back() {
    let start = Instant::now();
    let worker = asleep().await;
    // Nothing can be sent with this URL, so no network disturbs the paused clock.
    worker.queue.push(1, "ftp://example.com/", json!({}));
    let record = worker.queue.recorded(1).await.remove(0);
    assert!(matches!(record.outcome, Outcome::Retry(_)));
    assert!(start.elapsed() < Duration::from_millis(10));
    worker
        .queue
        .until(|state| state.wake_ups == 1 && state.announcements == 2)
        .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failing_claims_are_tried_again_for_ever_and_readiness_follows() {
    let worker = Running::start(8);
    worker.queue.state().claim_failures = 50;
    worker.queue.until(|state| state.claims.len() == 2).await;
    assert_eq!(
        worker.health.unready(Instant::now()),
        Some("the database is unreachable")
    );
    for tries in (10..=50).step_by(10) {
        worker
            .queue
            .until(|state| state.claims.len() >= tries)
            .await;
    }
    worker
        .queue
        .until(|state| state.claim_failures == 0 && state.claims.len() > 51)
        .await;
    assert_eq!(worker.health.unready(Instant::now()), None);
    worker.stop().await;
}
