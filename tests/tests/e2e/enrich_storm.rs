//! Everything that can go wrong with a caller and a worker, all the time and at once: no answer goes astray, no slot is lost.

use std::time::Duration;

use actionflow_tests::{Answer, Cluster, Request, Session};
use rand::Rng as _;

use crate::enrich_stage::{
    Caller, NARROW, Stage, assert_echo, echo, emit, failure, is_echo, wait_for_number,
};

/// More than there are slots.
const CALLERS: usize = 40;

/// A storm is over when each caller has so many answers.
const ANSWERS: usize = 25;

/// Answers that come at any moment from at once to later than some callers wait.
fn sometime(request: &Request) -> Answer {
    let wait = rand::rng().random_range(0..8_000);
    Answer::After(Duration::from_micros(wait), Box::new(echo(request)))
}

/// What happened to a caller's events.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    answered: usize,
    failed: Vec<String>,
    cancelled: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed.extend(other.failed);
        self.cancelled += other.cancelled;
    }
}

/// Asks until it has all its answers, and checks each. Its patience shrinks while it is answered and grows while it is not, so
/// that it gives up at any moment on a machine of any speed.
async fn ask_impatiently(url: String, number: usize) -> Tally {
    let mut tally = Tally::default();
    let session = Session::connect(&url).await;
    let mut user = number * 1_000_000;
    let mut patience = 8;
    while tally.answered < ANSWERS {
        user += 1;
        let wait = rand::rng().random_range(1..=patience);
        let set = format!("set statement_timeout = {wait}");
        // The last one may end this statement too.
        while session.try_rows(&set).await.is_err() {}
        match session.try_rows(&emit("login", user)).await {
            Err(error) => {
                assert_eq!(error.code, "57014", "{error:?}");
                tally.cancelled += 1;
                patience = (patience + 1).min(10_000);
            }
            Ok(rows) => {
                let answer = serde_json::from_str(&rows[0]).expect("an answer is JSON");
                if is_echo(&answer, user) {
                    tally.answered += 1;
                    patience = (patience * 3 / 4).max(4);
                } else {
                    tally.failed.push(failure(&answer));
                }
            }
        }
    }
    tally
}

/// Lets all callers ask while `meanwhile` goes on, and returns what happened to them together.
async fn storm(stage: &Stage<'_>, meanwhile: impl Future<Output = ()>) -> Tally {
    stage.receiver.always("/risk", Answer::By(sometime));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| tokio::spawn(ask_impatiently(stage.db.url(), number)))
        .collect();
    let gather = async {
        let mut tally = Tally::default();
        for caller in callers {
            tally.add(caller.await.expect("no caller gets what is not its own"));
        }
        tally
    };
    let tally = tokio::select! {
        tally = gather => tally,
        () = meanwhile => unreachable!("it goes on until the callers have their answers"),
    };
    assert!(tally.cancelled > CALLERS, "{tally:?}");
    stage.wait_until_idle().await;
    tally
}

#[tokio::test]
async fn callers_who_give_up_at_any_moment_disturb_nobody() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let _workers = (stage.worker().await, stage.db.worker().await);
    let tally = storm(&stage, std::future::pending()).await;
    assert!(tally.failed.is_empty(), "{tally:?}");
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn callers_who_give_up_while_workers_lose_their_connections_disturb_nobody() {
    let cluster = Cluster::start(NARROW);
    let mut stage = Stage::within(&cluster).await;
    let _workers = (
        stage.worker_amid_faults().await,
        stage.worker_amid_faults().await,
    );
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity, pg_sleep(0.1)
        where datname = current_database() and application_name like 'actionflow-worker enrich%' and random() < 0.3";
    let cutting = async {
        loop {
            stage.sql().run(cut).await;
        }
    };
    let tally = storm(&stage, cutting).await;
    let told = ["worker_lost", "no_worker", "internal"];
    let odd: Vec<_> = tally
        .failed
        .iter()
        .filter(|kind| !told.contains(&kind.as_str()))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    stage.receiver.always("/risk", Answer::By(echo));
    stage.wait_until_served().await;
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn a_statement_timeout_of_the_database_is_not_the_workers() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    // As a database has that is meant for short queries.
    let name = stage.db.name().to_owned();
    stage
        .sql()
        .run(&format!(
            "alter database {name} set statement_timeout = '300ms'"
        ))
        .await;
    let _worker = stage.worker().await;
    stage.wait_until_served().await;
    let session = stage.db.session().await;
    session.run("set statement_timeout = 0").await;
    stage.hold_answers();
    let caller = Caller::of(session, &emit("login", 1)).await;
    stage.receiver.wait_for("/risk", 2).await;
    // For longer than the database lets a statement last, and the worker waits for a request.
    let pid = caller.pid;
    let waits = format!(
        "select count(*) from pg_stat_activity
         where pid = {pid} and clock_timestamp() - query_start > interval '1500 ms'"
    );
    wait_for_number(stage.sql(), &waits, 1).await;
    stage.let_go();
    assert_echo(&caller.answer().await, 1);
}
