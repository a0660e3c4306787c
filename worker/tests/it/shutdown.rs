//! The end of a worker: what is under way ends, is recorded, or is given back.

use std::sync::Arc;
use std::time::Duration;

use actionflow_core::outcome::Outcome;
use actionflow_worker::Grace;
use actionflow_worker::config::AddressPolicy;
use actionflow_worker::deliver::Client;
use serde_json::json;

use crate::queue::Running;
use crate::receiver::{Answer, Receiver};

#[tokio::test]
async fn attempts_under_way_end_and_are_recorded_and_nothing_more_is_claimed() {
    let receiver = Receiver::start(vec![Answer::Hold; 2]).await;
    let worker = Running::start(2);
    for id in 1..=5 {
        worker.queue.push(id, &receiver.url(), json!({}));
    }
    receiver.arrived(2).await;
    let (queue, health) = (worker.queue.clone(), worker.health.clone());
    let ending = worker.begin_stop();
    while health.unready(tokio::time::Instant::now()) != Some("the worker is shutting down") {
        tokio::task::yield_now().await;
    }
    receiver.release();
    ending.await.unwrap().unwrap();
    let records = queue.recorded(2).await;
    assert_eq!(records.len(), 2);
    assert!(
        records
            .iter()
            .all(|record| record.outcome == Outcome::Delivered)
    );
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(queue.state().released, [0i64; 0]);
}

#[tokio::test]
async fn attempts_that_do_not_end_in_time_are_given_back() {
    let receiver = Receiver::start([Answer::Hang, Answer::Hang, Answer::status(200)]).await;
    let grace = Grace {
        attempts: Duration::from_millis(50),
        records: Duration::from_secs(5),
    };
    let worker = Running::with(
        8,
        Client::new(AddressPolicy::Any).unwrap(),
        grace,
        Arc::default(),
    );
    for id in 1..=3 {
        worker.queue.push(id, &receiver.url(), json!({}));
    }
    receiver.arrived(3).await;
    let queue = worker.queue.clone();
    worker.stop().await;
    let state = queue.state();
    let delivered: Vec<i64> = state.records.iter().map(|record| record.id).collect();
    assert_eq!((delivered.len(), state.released.len()), (1, 2));
    assert!(!state.released.contains(&delivered[0]));
}

#[tokio::test]
async fn outcomes_that_cannot_be_recorded_in_time_are_given_back() {
    let receiver = Receiver::start([]).await;
    let grace = Grace {
        attempts: Duration::from_millis(50),
        records: Duration::from_millis(50),
    };
    let worker = Running::with(
        8,
        Client::new(AddressPolicy::Any).unwrap(),
        grace,
        Arc::default(),
    );
    worker.queue.state().record_failures = 1_000_000;
    worker.queue.push(1, &receiver.url(), json!({}));
    worker
        .queue
        .until(|state| state.record_failures < 1_000_000)
        .await;
    let queue = worker.queue.clone();
    worker.stop().await;
    assert_eq!(queue.state().released, [1]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_at_once() {
    let worker = Running::start(8);
    worker.queue.until(|state| state.announcements == 1).await;
    let start = tokio::time::Instant::now();
    worker.stop().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}
