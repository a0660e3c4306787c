//! Whatever goes away in the middle of a request: what was answered 2xx has started, and what is repeated starts once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actionflow_tests::{Cluster, PATIENCE, Response, Worker, eventually, send_signal};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::webhook_runs::Barrier;
use crate::webhook_stage::{Hook, Sent, Stage, send};

fn with_id(id: &str) -> Sent {
    Sent::json(&json!({"targetUserIds": ["1"], "flowInvocationId": id}))
}

/// Sends from another task.
fn send_meanwhile(
    stage: &Stage<'_>,
    hook: &Hook,
    id: &str,
) -> JoinHandle<std::io::Result<Response>> {
    let (address, path, sent) = (
        stage.worker.address().to_owned(),
        hook.path.clone(),
        with_id(id),
    );
    tokio::spawn(async move { send(&address, &path, &sent).await })
}

async fn answer(request: JoinHandle<std::io::Result<Response>>) -> Response {
    request.await.expect("no panic").expect("an answer")
}

/// A refusal after which the sender is to come again.
fn check_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{response:?}");
    let after: u32 = response.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&after), "{response:?}");
    let error = &response.json()["error"];
    assert_eq!(error["code"], "unavailable");
    let message = error["message"].as_str().expect("a text");
    assert!(
        !message.contains("sql") && !message.contains("connect"),
        "{message}"
    );
}

/// A stage on a cluster that breaks; its worker and server may complain.
async fn fragile(cluster: &Cluster) -> (Stage<'_>, Hook) {
    let mut stage = Stage::within(cluster, |worker| worker.expect_in_log("")).await;
    stage.db.expect_in_log("");
    let hook = stage.live(&json!({})).await;
    (stage, hook)
}

/// Sends until it is answered 2xx.
async fn until_accepted(stage: &Stage<'_>, hook: &Hook, id: &str) -> u16 {
    eventually(PATIENCE * 2, async || {
        let response = stage.send(hook, &with_id(id)).await;
        match response.status {
            200 | 202 => Ok(response.status),
            _ => Err(format!("{response:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn without_the_server_senders_are_asked_to_come_again_and_then_it_works() {
    let cluster = Cluster::own();
    let (mut stage, hook) = fragile(&cluster).await;
    assert_eq!(stage.status(&hook, &with_id("before")).await, 202);
    cluster.stop();
    for id in ["during", "during", "other"] {
        check_unavailable(&stage.send(&hook, &with_id(id)).await);
    }
    cluster.restart_immediately();
    assert_eq!(until_accepted(&stage, &hook, "during").await, 202);
    assert_eq!(until_accepted(&stage, &hook, "before").await, 200);
    stage.db.reconnect().await;
    assert_eq!(stage.runs().await, ["1|before", "1|during"]);
}

#[tokio::test]
async fn a_backend_that_is_killed_in_the_middle_starts_nothing_and_the_repetition_starts_once() {
    let cluster = Cluster::own();
    let (mut stage, hook) = fragile(&cluster).await;
    stage.db.expect_in_log("was terminated by signal 9");
    let barrier = Barrier::raise(&stage).await;
    let request = send_meanwhile(&stage, &hook, "a");
    barrier.wait_for(1).await;
    let backend = barrier.waiting().await.remove(0);
    send_signal("KILL", &backend);
    check_unavailable(&answer(request).await);
    until_accepted(&stage, &hook, "a").await;
    assert_eq!(stage.status(&hook, &with_id("a")).await, 200);
    eventually(PATIENCE, async || {
        match stage.db.session().await.try_rows("select 1").await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.message),
        }
    })
    .await;
    stage.db.reconnect().await;
    assert_eq!(stage.runs().await, ["1|a"]);
}

#[tokio::test]
async fn a_backend_that_is_terminated_or_waits_too_long_starts_nothing() {
    let mut stage = Stage::within(Cluster::shared(), |worker| {
        worker.expect_in_log("failed to receive a webhook")
    })
    .await;
    stage
        .db
        .expect_in_log("terminating connection due to administrator command");
    stage
        .db
        .expect_in_log("canceling statement due to statement timeout");
    let hook = stage.live(&json!({})).await;
    let barrier = Barrier::raise(&stage).await;
    let (first, second) = (
        send_meanwhile(&stage, &hook, "a"),
        send_meanwhile(&stage, &hook, "b"),
    );
    barrier.wait_for(2).await;
    let backend = barrier.waiting().await.remove(0);
    stage
        .sql()
        .run(&format!("select pg_terminate_backend({backend})"))
        .await;
    // The other one is ended by its own time limit: the barrier stays.
    check_unavailable(&answer(first).await);
    check_unavailable(&answer(second).await);
    barrier.fall().await;
    assert_eq!(
        stage.run_count().await,
        0,
        "what was answered with 503 goes on"
    );
    for id in ["a", "b"] {
        assert_eq!(stage.status(&hook, &with_id(id)).await, 202);
    }
}

#[tokio::test]
async fn more_requests_than_may_wait_are_sent_away_at_once() {
    let stage = Stage::within(Cluster::shared(), |worker| {
        worker.flag("--ingress-connections", "1")
    })
    .await;
    let hook = stage.live(&json!({})).await;
    let barrier = Barrier::raise(&stage).await;
    let mut requests = vec![send_meanwhile(&stage, &hook, "0")];
    barrier.wait_for(1).await;
    // Eight for each connection may wait, and six of one webhook.
    requests.extend((1..=6).map(|id| send_meanwhile(&stage, &hook, &id.to_string())));
    eventually(PATIENCE, async || {
        let (_, page) = stage
            .worker
            .get("/metrics")
            .await
            .map_err(|error| error.to_string())?;
        match page
            .lines()
            .any(|line| line == "actionflow_webhook_queue 6")
        {
            true => Ok(()),
            false => Err(page),
        }
    })
    .await;
    let refused = stage.send(&hook, &with_id("9")).await;
    check_unavailable(&refused);
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        stage.worker.get("/healthz").await.expect("an answer").0,
        200
    );
    barrier.fall().await;
    let mut accepted = 0;
    for request in requests {
        let response = answer(request).await;
        match response.status {
            202 => accepted += 1,
            // It has waited for as long as one may wait, on a machine that is too busy.
            _ => check_unavailable(&response),
        }
    }
    assert!(accepted > 0);
    assert_eq!(stage.run_count().await, accepted);
    assert_eq!(stage.status(&hook, &with_id("9")).await, 202);
    let (_, page) = stage.worker.get("/metrics").await.expect("the metrics");
    assert!(
        page.contains("actionflow_webhook_requests_total{status=\"503\"} "),
        "{page}"
    );
}

#[tokio::test]
async fn a_stopping_worker_answers_what_it_has_taken() {
    let mut stage = Stage::new().await;
    let hook = stage.live(&json!({})).await;
    let barrier = Barrier::raise(&stage).await;
    let requests: Vec<_> = ["a", "b", "c"]
        .map(|id| send_meanwhile(&stage, &hook, id))
        .into();
    barrier.wait_for(3).await;
    stage.worker.ask_to_stop();
    eventually(PATIENCE, async || {
        match tokio::net::TcpStream::connect(stage.worker.address()).await {
            Ok(_) => Err("it still accepts connections".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    barrier.fall().await;
    for request in requests {
        assert_eq!(answer(request).await.status, 202);
    }
    let exit = stage.worker.wait().await;
    assert!(exit.status.success(), "{exit:?}");
    assert_eq!(stage.run_count().await, 3);
}

/// Senders that repeat each request until it is answered 2xx, wherever the worker is just now.
struct Senders {
    address: watch::Sender<String>,
    is_over: Arc<AtomicBool>,
    /// By id: how often it was answered 202.
    tasks: JoinSet<BTreeMap<String, usize>>,
}

impl Senders {
    fn start(stage: &Stage<'_>, hook: &Hook, count: usize) -> Self {
        let (address, _) = watch::channel(stage.worker.address().to_owned());
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for sender in 0..count {
            let (address, path, is_over) =
                (address.subscribe(), hook.path.clone(), is_over.clone());
            tasks.spawn(async move {
                let mut starts = BTreeMap::new();
                for number in 0.. {
                    let id = format!("{sender}-{number}");
                    let started = starts.entry(id.clone()).or_insert(0);
                    loop {
                        let now = address.borrow().clone();
                        match send(&now, &path, &with_id(&id))
                            .await
                            .map(|response| response.status)
                        {
                            Ok(202) => *started += 1,
                            Ok(200) => {}
                            // No connection, a broken one, 503 or 500.
                            _ => {
                                tokio::task::yield_now().await;
                                continue;
                            }
                        }
                        break;
                    }
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                starts
            });
        }
        Self {
            address,
            is_over,
            tasks,
        }
    }

    async fn end(self) -> BTreeMap<String, usize> {
        self.is_over.store(true, Ordering::Relaxed);
        let all = tokio::time::timeout(PATIENCE * 2, self.tasks.join_all()).await;
        all.expect("each is answered in the end")
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Waits until so many more runs are there.
async fn more_runs(stage: &mut Stage<'_>, count: i64) {
    stage.db.reconnect().await;
    let before = stage.run_count().await;
    eventually(PATIENCE * 2, async || match stage.run_count().await {
        now if now >= before + count => Ok(()),
        now => Err(format!("{now} runs, {before} before")),
    })
    .await;
}

async fn replace_worker(stage: &mut Stage<'_>, senders: &Senders, is_asked: bool) {
    let next: Worker = stage.db.worker_builder().expect_in_log("").start().await;
    let old = std::mem::replace(&mut stage.worker, next);
    if is_asked {
        let exit = old.stop().await;
        assert!(exit.status.success(), "{exit:?}");
    } else {
        old.kill().await;
    }
    senders
        .address
        .send_replace(stage.worker.address().to_owned());
}

#[tokio::test]
async fn every_request_that_was_answered_has_exactly_one_run_whatever_breaks() {
    let cluster = Cluster::own();
    let (mut stage, hook) = fragile(&cluster).await;
    let senders = Senders::start(&stage, &hook, 8);
    more_runs(&mut stage, 50).await;
    replace_worker(&mut stage, &senders, true).await;
    more_runs(&mut stage, 50).await;
    cluster.restart_immediately();
    more_runs(&mut stage, 50).await;
    replace_worker(&mut stage, &senders, false).await;
    more_runs(&mut stage, 50).await;
    let sent = senders.end().await;
    let started = stage.runs().await;
    let mut expected: Vec<String> = sent.keys().map(|id| format!("1|{id}")).collect();
    let mut found = started.clone();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "not one run for each request");
    let twice: Vec<_> = sent.iter().filter(|(_, starts)| **starts > 1).collect();
    assert!(twice.is_empty(), "answered 202 more than once: {twice:?}");
}
