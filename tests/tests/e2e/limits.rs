//! Limits of an endpoint hold for all workers together; ordered endpoints keep each customer's order.

use std::collections::HashMap;
use std::time::Duration;

use actionflow_tests::{Answer, PATIENCE, eventually};

use crate::scene::{Scene, wait_for_rows};

async fn start_many(scene: &Scene, count: usize) {
    let users: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    assert_eq!(scene.start("welcome", &users).await.len(), count);
}

#[tokio::test]
async fn max_in_flight_holds_for_two_workers_together() {
    let scene = Scene::with_crm(r#"{"max_in_flight": 3, "timeout_ms": 60000}"#).await;
    scene.receiver.always("/crm", Answer::Held(200));
    start_many(&scene, 12).await;
    let _workers = (scene.db.worker().await, scene.db.worker().await);
    for done in 0..12_usize {
        let expected = (12 - done).min(3);
        eventually(PATIENCE, async || match scene.receiver.in_flight("/crm") {
            open if open == expected => Ok(()),
            open => Err(format!(
                "{open} open requests instead of {expected} after {done} answers"
            )),
        })
        .await;
        scene.receiver.release(1);
    }
    scene.settle().await;
    assert_eq!(scene.receiver.most_in_flight("/crm"), 3);
    assert_eq!(scene.receiver.requests("/crm").len(), 12);
}

#[tokio::test]
async fn a_rate_holds_for_two_workers_together() {
    let scene = Scene::with_crm(r#"{"rate_per_second": 10}"#).await;
    start_many(&scene, 30).await;
    let _workers = (scene.db.worker().await, scene.db.worker().await);
    scene.settle().await;
    let mut times: Vec<_> = scene
        .receiver
        .requests("/crm")
        .iter()
        .map(|request| request.at)
        .collect();
    assert_eq!(times.len(), 30);
    times.sort();
    // A second's worth may be saved up and spent at once; whatever is above that has to wait for its slot.
    // Two workers with a limit each would need half of this.
    let took = times[29].duration_since(times[0]).expect("sorted");
    assert!(
        took >= Duration::from_millis(1800),
        "30 requests at 10 per second took {took:?} only"
    );
}

#[tokio::test]
async fn an_ordered_endpoint_keeps_each_customers_order_over_failures() {
    let scene = Scene::with_crm(r#"{"ordered": true, "retry_seconds": [0, 0, 0, 0, 0, 0]}"#).await;
    for _ in 0..4 {
        scene.start("welcome", &["a", "b", "c"]).await;
    }
    scene.receiver.script(
        "/crm",
        [503, 200, 503, 503, 200, 200, 503, 200].map(Answer::Status),
    );
    let _workers = (scene.db.worker().await, scene.db.worker().await);
    scene.settle().await;
    let mut last: HashMap<String, i64> = HashMap::new();
    for request in scene.receiver.requests("/crm") {
        let id: i64 = request.id().parse().expect("a decimal id");
        let last = last.entry(request.user_id()).or_default();
        assert!(
            id >= *last,
            "{} was sent {id} after {last}",
            request.user_id()
        );
        *last = id;
    }
    assert_eq!(last.len(), 3);
    assert_eq!(
        scene
            .sql()
            .rows("select state, count(*) from actionflow.deliveries group by state")
            .await,
        ["delivered|12"]
    );
}

#[tokio::test]
async fn an_undelivered_one_holds_its_customers_later_ones_until_it_is_dead() {
    let scene =
        Scene::with_crm(r#"{"ordered": true, "retry_seconds": [0], "timeout_ms": 60000}"#).await;
    scene.receiver.script("/crm", [Answer::Held(500)]);
    let _worker = scene.worker_amid_deaths().await;
    scene.start("welcome", &["a"]).await;
    scene.receiver.wait_for("/crm", 1).await;
    scene.start("welcome", &["a", "b"]).await;
    let requests = scene.receiver.wait_for("/crm", 2).await;
    let of = |user: &str| {
        requests
            .iter()
            .filter(|request| request.user_id() == user)
            .count()
    };
    assert_eq!(
        (of("a"), of("b")),
        (1, 1),
        "b waits for nobody, and the second of a for the first"
    );
    let states = "select user_id, state, attempts from actionflow.deliveries order by id";
    wait_for_rows(
        scene.sql(),
        states,
        &["a|running|1", "a|pending|0", "b|delivered|1"],
    )
    .await;

    scene.receiver.script("/crm", [Answer::Status(500)]);
    scene.receiver.release(1);
    scene.settle().await;
    assert_eq!(
        scene.sql().rows(states).await,
        ["a|dead|2", "a|delivered|1", "b|delivered|1"]
    );
}

#[tokio::test]
async fn a_hanging_endpoint_does_not_delay_another_ones_deliveries() {
    let scene = Scene::new().await;
    for name in ["slow", "fast"] {
        scene.endpoint(name, r#"{"timeout_ms": 120000}"#).await;
        scene.flow(name, &[name]).await;
    }
    scene.receiver.always("/slow", Answer::Hang);
    let users: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    scene.start("slow", &users).await;
    let worker = scene.db.worker().await;
    // As many as the worker wants to have open at once: the number no longer grows.
    scene.receiver.wait_for("/slow", 1).await;
    for batch in users[..200].chunks(20) {
        scene.start("fast", batch).await;
    }
    scene.receiver.wait_for("/fast", 200).await;
    let hanging = scene.receiver.in_flight("/slow");
    assert!(hanging > 0, "the slow endpoint does not hang");
    assert_eq!(
        scene.receiver.requests("/slow").len(),
        hanging,
        "a slow delivery ended"
    );
    wait_for_rows(
        scene.sql(),
        "select endpoint, state, count(*) from actionflow.deliveries where state = 'delivered' group by 1, 2",
        &["fast|delivered|200"],
    )
    .await;
    worker.kill().await;
}

#[tokio::test]
async fn six_hanging_endpoints_together_do_not_delay_another_one_either() {
    // Each takes half of what the ones before it have left of a worker's slots.
    const HANGING: [&str; 6] = ["slow1", "slow2", "slow3", "slow4", "slow5", "slow6"];
    let scene = Scene::new().await;
    let users: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    for name in HANGING {
        scene.endpoint(name, r#"{"timeout_ms": 120000}"#).await;
        scene.flow(name, &[name]).await;
        scene.receiver.always(&format!("/{name}"), Answer::Hang);
        scene.start(name, &users).await;
    }
    scene.endpoint("fast", "{}").await;
    scene.flow("fast", &["fast"]).await;
    let worker = scene.db.worker().await;
    for name in HANGING {
        scene.receiver.wait_for(&format!("/{name}"), 1).await;
    }
    for batch in users[..100].chunks(10) {
        scene.start("fast", batch).await;
    }
    scene.receiver.wait_for("/fast", 100).await;
    worker.kill().await;
}
