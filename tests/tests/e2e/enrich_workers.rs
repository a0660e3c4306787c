//! A worker that dies, freezes, loses a connection or stops: its callers hear of it at once, and others are served.

use std::time::Instant;

use actionflow_tests::{Cluster, PATIENCE, Worker, eventually};

use crate::enrich_stage::{
    NARROW, SLOTS, Stage, TAKES, TIMEOUT, assert_echo, emit, failure, is_echo, wait_for_number,
};

/// Callers at once.
const CALLERS: usize = 12;

/// Ends the worker's connection with this purpose, if it has one now.
async fn cut(stage: &Stage<'_>, purpose: &str) {
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = 'actionflow-worker {purpose}'"
    );
    stage.sql().run(&sql).await;
}

/// How many requests are under way in a worker.
async fn under_way(worker: &Worker) -> usize {
    let (_, metrics) = worker.get("/metrics").await.expect("the worker answers");
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix("actionflow_enrich_in_flight "));
    let value = value.unwrap_or_else(|| panic!("no gauge in {metrics}"));
    value.parse().expect("a count")
}

async fn wait_until_under_way(worker: &Worker, count: usize) {
    eventually(PATIENCE, async || match under_way(worker).await {
        found if found == count => Ok(()),
        found => Err(format!("{found} requests are under way, not {count}")),
    })
    .await;
}

#[tokio::test]
async fn without_a_worker_an_action_fails_at_once() {
    let stage = Stage::new().await;
    let caller = stage.call(&emit("login", 1)).await;
    assert_eq!(caller.prompt_failure().await, "no_worker");
    let worker = stage.worker().await;
    assert_echo(&stage.login(2).await, 2);
    assert!(worker.stop().await.status.success());
    wait_for_number(stage.sql(), &format!("select count(*) {TAKES}"), 0).await;
    let caller = stage.call(&emit("login", 3)).await;
    assert_eq!(caller.prompt_failure().await, "no_worker");
    let error = stage.sql().error(&emit("strict", 4)).await;
    assert_eq!(error.code, "38000");
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn callers_of_a_killed_worker_are_told_at_once() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    for round in 1..=3 {
        let worker = stage.worker().await;
        stage.hold_answers();
        let callers = stage.logins(0..CALLERS).await;
        stage.receiver.wait_for("/risk", round * CALLERS).await;
        worker.kill().await;
        for caller in callers {
            assert_eq!(caller.prompt_failure().await, "worker_lost");
        }
        assert_eq!(stage.in_flight().await, 0);
        let caller = stage.call(&emit("login", 1)).await;
        assert_eq!(caller.prompt_failure().await, "no_worker");
        stage.let_go();
    }
    let _worker = stage.worker().await;
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn when_the_connection_that_takes_is_lost_callers_are_told_and_the_worker_comes_back() {
    let cluster = Cluster::start(NARROW);
    let mut stage = Stage::within(&cluster).await;
    let _worker = stage.worker_amid_faults().await;
    for _ in 0..3 {
        let before = stage.receiver.all().len();
        stage.hold_answers();
        let callers = stage.logins(0..CALLERS).await;
        stage.receiver.wait_for("/risk", before + CALLERS).await;
        cut(&stage, "enrich takes").await;
        for caller in callers {
            assert_eq!(caller.prompt_failure().await, "worker_lost");
        }
        assert_eq!(stage.in_flight().await, 0);
        // Their answers now come too late, and must reach nobody else.
        stage.let_go();
        stage.wait_until_served().await;
    }
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn a_lost_connection_that_answers_costs_nobody_an_answer() {
    let mut stage = Stage::new().await;
    let _worker = stage.worker_amid_faults().await;
    stage.wait_until_served().await;
    for _ in 0..5 {
        stage.hold_answers();
        let before = stage.receiver.all().len();
        let callers = stage.logins(0..CALLERS).await;
        stage.receiver.wait_for("/risk", before + CALLERS).await;
        stage.let_go();
        cut(&stage, "enrich answers").await;
        for (user, caller) in callers.into_iter().enumerate() {
            assert_echo(&caller.answer().await, user);
        }
    }
    cut(&stage, "enrich endpoints").await;
    cut(&stage, "enrich records").await;
    assert_echo(&stage.login(1).await, 1);
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn a_frozen_worker_costs_a_caller_its_deadline_and_its_late_answers_reach_nobody() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let worker = stage.worker().await;
    stage.wait_until_served().await;
    stage.hold_answers();
    let taken = stage.call(&emit("hasty", 1)).await;
    stage.receiver.wait_for("/risk", 2).await;
    worker.freeze();
    assert_eq!(failure(&taken.answer().await), "timeout");
    let mut kinds = Vec::new();
    for user in 0..6 {
        let answer = stage.sql().json(&emit("hasty", user)).await;
        kinds.push(failure(&answer));
    }
    // The worker's connection waits in the database, and may take one more for it.
    let first = kinds.remove(0);
    assert!(first == "timeout" || first == "busy", "{first}");
    assert_eq!(kinds, ["busy"; 5]);
    let waiting = stage.logins(0..SLOTS).await;
    stage.let_go();
    worker.thaw();
    // Those before them have gone, so each is served although the slots had been used before.
    for (user, caller) in waiting.into_iter().enumerate() {
        assert_echo(&caller.answer().await, user);
    }
    assert_eq!(stage.in_flight().await, 0);
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn queued_callers_of_a_frozen_worker_can_be_cancelled() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let worker = stage.worker().await;
    stage.wait_until_served().await;
    worker.freeze();
    let callers = stage.logins(0..SLOTS).await;
    wait_for_number(
        stage.sql(),
        "select enrich_in_flight from actionflow.endpoint_health",
        SLOTS as i64,
    )
    .await;
    // From the middle, the end and the beginning of the queue.
    let mut kept = Vec::new();
    for (user, caller) in callers.into_iter().enumerate() {
        if user % 3 == 1 {
            kept.push((user, caller));
            continue;
        }
        let pid = caller.pid;
        stage
            .sql()
            .run(&format!("select pg_cancel_backend({pid})"))
            .await;
        assert_eq!(caller.error().await.code, "57014");
    }
    worker.thaw();
    for (user, caller) in kept {
        assert_echo(&caller.answer().await, user);
    }
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn a_killed_worker_loses_only_what_it_had_taken() {
    // Its own, because the first of all waiting connections is given the next request.
    let cluster = Cluster::own();
    let stage = Stage::within(&cluster).await;
    let first = stage.worker().await;
    stage.hold_answers();
    let of_first = stage.logins(0..CALLERS).await;
    wait_until_under_way(&first, CALLERS).await;
    let second = stage.db.worker().await;
    stage.wait_for_listeners(2).await;
    first.freeze();
    // Its connection may take one more for it, and waits no longer then.
    stage.sql().run(&emit("hasty", 1)).await;
    let before = under_way(&second).await;
    let of_second = stage.logins(100..100 + CALLERS).await;
    wait_until_under_way(&second, before + CALLERS).await;
    first.kill().await;
    for caller in of_first {
        assert_eq!(caller.prompt_failure().await, "worker_lost");
    }
    assert_eq!(stage.in_flight().await, CALLERS as i64);
    stage.let_go();
    for (n, caller) in of_second.into_iter().enumerate() {
        assert_echo(&caller.answer().await, 100 + n);
    }
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn workers_come_and_go_under_callers_and_nobody_gets_anothers_answer() {
    let stage = Stage::new().await;
    let mut workers = vec![stage.worker().await, stage.db.worker().await];
    stage.wait_for_listeners(2).await;
    let callers: Vec<_> = (0..8)
        .map(|user| {
            let url = stage.db.url();
            tokio::spawn(async move {
                let session = actionflow_tests::Session::connect(&url).await;
                let (mut served, mut lost) = (0, 0);
                while served < 300 {
                    let user = user * 10_000 + served + lost;
                    let answer = session.json(&emit("login", user)).await;
                    if is_echo(&answer, user) {
                        served += 1;
                    } else {
                        let kind = failure(&answer);
                        assert!(kind == "worker_lost" || kind == "no_worker", "{answer}");
                        lost += 1;
                    }
                }
                lost
            })
        })
        .collect();
    for _ in 0..4 {
        let next = stage.db.worker().await;
        stage.wait_for_listeners(3).await;
        workers.remove(0).kill().await;
        wait_for_number(stage.sql(), &format!("select count(*) {TAKES}"), 2).await;
        workers.push(next);
    }
    let mut lost = 0;
    for caller in callers {
        lost += caller.await.expect("a caller is served");
    }
    // Each dead worker had at most one request of each caller.
    assert!(lost <= 4 * 8, "{lost} requests were lost");
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_answers_what_is_under_way() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    stage.hold_answers();
    let callers = stage.logins(0..CALLERS).await;
    stage.receiver.wait_for("/risk", CALLERS).await;
    worker.ask_to_stop();
    stage.let_go();
    let exit = worker.stop().await;
    assert!(exit.status.success(), "{exit:?}");
    for (user, caller) in callers.into_iter().enumerate() {
        assert_echo(&caller.answer().await, user);
    }
    let attempts = "select count(*) from actionflow.enrich_attempts where outcome = 'allow'";
    assert_eq!(stage.sql().number(attempts).await, CALLERS as i64);
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn a_worker_that_stops_gives_up_what_does_not_end() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    stage.hold_answers();
    let since = Instant::now();
    let callers = stage.logins(0..CALLERS).await;
    stage.receiver.wait_for("/risk", CALLERS).await;
    let exit = worker.stop().await;
    assert!(exit.status.success(), "{exit:?}");
    for caller in callers {
        assert_eq!(failure(&caller.answer().await), "worker_lost");
    }
    assert!(since.elapsed() < TIMEOUT, "{:?}", since.elapsed());
    stage.let_go();
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn whoever_comes_while_the_only_worker_stops_is_told_at_once() {
    let stage = Stage::new().await;
    let mut worker = stage.worker().await;
    stage.hold_answers();
    let early = stage.call(&emit("login", 1)).await;
    stage.receiver.wait_for("/risk", 1).await;
    worker.ask_to_stop();
    // It has left its wait, and takes no more.
    let taking = format!("select count(*) {TAKES} and state = 'active'");
    wait_for_number(stage.sql(), &taking, 0).await;
    let late = stage.call(&emit("login", 2)).await;
    assert_eq!(late.prompt_failure().await, "no_worker");
    assert_eq!(stage.in_flight().await, 1, "the first one still waits");
    stage.let_go();
    assert_echo(&early.answer().await, 1);
    assert!(worker.wait().await.status.success());
}
