//! A caller who goes away, in whatever way, gets Postgres's own error and leaves nothing behind.

use actionflow_tests::{Answer, Cluster, PATIENCE, Session, SqlError, eventually};

use crate::enrich_stage::{
    Caller, NARROW, SLOTS, Stage, assert_echo, echo, emit, failure, wait_for_number,
};

/// More than there are slots.
const FAILURES: usize = SLOTS + 4;

/// So many calls that fail in the same way, one after the other; then every slot is as good as new.
async fn slots_survive(fail: impl AsyncFn(&Stage<'_>, usize)) {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let _worker = stage.worker().await;
    stage.hold_answers();
    for n in 0..FAILURES {
        fail(&stage, n).await;
        stage.wait_until_idle().await;
    }
    assert!(!stage.receiver.all().is_empty(), "nobody was ever asked");
    stage.fill_every_slot().await;
    stage.fill_every_slot().await;
}

fn assert_cancelled(error: &SqlError, why: &str) {
    assert_eq!(error.code, "57014", "{error:?}");
    assert_eq!(error.message, format!("canceling statement due to {why}"));
}

async fn cancel(by: &Session, pid: i64) {
    by.run(&format!("select pg_cancel_backend({pid})")).await;
}

#[tokio::test]
async fn a_cancelled_caller_gets_its_own_error_and_frees_its_slot() {
    slots_survive(async |stage, n| {
        let caller = stage.call(&emit("login", n)).await;
        stage.receiver.wait_for("/risk", n + 1).await;
        assert_eq!(stage.in_flight().await, 1);
        cancel(stage.sql(), caller.pid).await;
        let (session, result) = caller.end().await;
        assert_cancelled(&result.expect_err("cancelled"), "user request");
        assert_eq!(session.text("select 1").await, "1");
    })
    .await;
}

#[tokio::test]
async fn a_statement_timeout_ends_a_call_and_frees_its_slot() {
    slots_survive(async |stage, n| {
        let session = stage.db.session().await;
        session.run("set statement_timeout = '200ms'").await;
        let error = session.error(&emit("login", n)).await;
        assert_cancelled(&error, "statement timeout");
    })
    .await;
}

#[tokio::test]
async fn a_terminated_caller_gets_its_own_error_and_frees_its_slot() {
    slots_survive(async |stage, n| {
        let caller = stage.call(&emit("login", n)).await;
        stage.receiver.wait_for("/risk", n + 1).await;
        let pid = caller.pid;
        stage
            .sql()
            .run(&format!("select pg_terminate_backend({pid})"))
            .await;
        let error = caller.error().await;
        assert_eq!(error.code, "57P01", "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_slot() {
    slots_survive(async |stage, n| {
        let session = stage.db.session().await;
        session
            .run("set client_connection_check_interval = '50ms'")
            .await;
        let cut = session.cut();
        let _caller = Caller::of(session, &emit("login", n)).await;
        stage.receiver.wait_for("/risk", n + 1).await;
        cut();
    })
    .await;
}

#[tokio::test]
async fn an_action_whose_failure_is_an_error_frees_its_slot() {
    slots_survive(async |stage, n| {
        stage.receiver.script("/risk", [Answer::Status(500)]);
        let error = stage.sql().error(&emit("strict", n)).await;
        assert_eq!(error.code, "38000", "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn an_action_that_runs_out_of_time_frees_its_slot() {
    slots_survive(async |stage, n| {
        let answer = stage.sql().json(&emit("hasty", n)).await;
        assert_eq!(failure(&answer), "timeout");
    })
    .await;
}

#[tokio::test]
async fn a_savepoint_around_a_cancelled_call_saves_the_transaction() {
    slots_survive(async |stage, n| {
        let session = stage.db.session().await;
        session.run("begin; savepoint before").await;
        let caller = Caller::of(session, &emit("login", n)).await;
        stage.receiver.wait_for("/risk", 2 * n + 1).await;
        cancel(stage.sql(), caller.pid).await;
        let (session, result) = caller.end().await;
        assert_cancelled(&result.expect_err("cancelled"), "user request");
        session.run("rollback to savepoint before").await;
        stage.receiver.script("/risk", [Answer::By(echo)]);
        assert_echo(&session.json(&emit("login", 1000 + n)).await, 1000 + n);
        session.run("commit").await;
        let events = "select count(*) from actionflow.runs";
        assert_eq!(session.number(events).await, n as i64 + 1);
    })
    .await;
}

#[tokio::test]
async fn a_handler_catches_a_cancelled_call_and_asks_again() {
    slots_survive(async |stage, n| {
        let statement = format!(
            "do $$
            begin
                perform actionflow.emit_event('login', '{n}', '{{}}');
                raise exception 'not cancelled';
            exception when query_canceled then
                if actionflow.emit_event('login', '{n}', '{{}}') #>> '{{results,risk,data,user}}' <> '{n}' then
                    raise exception 'not answered';
                end if;
            end $$"
        );
        let caller = stage.call(&statement).await;
        stage.receiver.wait_for("/risk", 2 * n + 1).await;
        stage.receiver.script("/risk", [Answer::By(echo)]);
        cancel(stage.sql(), caller.pid).await;
        assert_eq!(caller.end().await.1, Ok(Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_gives_up_while_it_probes_leaves_the_breaker_to_the_next_one() {
    let mut stage = Stage::new().await;
    stage.db.expect_in_log("terminating connection");
    let _worker = stage.worker().await;
    let options = r#"{"breaker_failures": 1, "breaker_seconds": 0.1}"#;
    stage
        .sql()
        .run(&format!(
            "select actionflow.update_endpoint('risk', '{options}')"
        ))
        .await;
    stage.hold_answers();
    let breaker = "select breaker from actionflow.endpoint_health";
    for end in ["pg_cancel_backend", "pg_terminate_backend"] {
        stage.receiver.script("/risk", [Answer::Status(500)]);
        stage.sql().run(&emit("login", 1)).await;
        assert_eq!(stage.sql().text(breaker).await, "open");
        let asked = stage.receiver.all().len();
        let probe = eventually(PATIENCE, async || {
            // Refused until the breaker's time is over.
            let probe = stage.call(&emit("login", 2)).await;
            let pid = probe.pid;
            let waits = format!(
                "select state <> 'active' from pg_stat_activity where pid = {pid} and query like '%emit_event%'"
            );
            loop {
                if stage.receiver.all().len() > asked {
                    return Ok(probe);
                }
                if stage.sql().rows(&waits).await == ["t"] {
                    return Err(format!("{}", probe.answer().await));
                }
            }
        })
        .await;
        assert_eq!(stage.sql().text(breaker).await, "half_open");
        let pid = probe.pid;
        stage.sql().run(&format!("select {end}({pid})")).await;
        probe.error().await;
        stage.wait_until_idle().await;
        stage.receiver.script("/risk", [Answer::By(echo)]);
        assert_echo(&stage.sql().json(&emit("login", 3)).await, 3);
        assert_eq!(stage.sql().text(breaker).await, "closed");
    }
    stage.let_go();
}

#[tokio::test]
async fn callers_who_wait_for_room_can_be_cancelled_and_terminated() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let _worker = stage.worker().await;
    stage.hold_answers();
    let served = stage.logins(0..SLOTS).await;
    stage.receiver.wait_for("/risk", SLOTS).await;
    let waiting = stage.logins(SLOTS..2 * SLOTS).await;
    wait_until_all_sleep(&stage, 2 * SLOTS).await;
    for (n, caller) in waiting.into_iter().enumerate() {
        let (function, code) = [
            ("pg_cancel_backend", "57014"),
            ("pg_terminate_backend", "57P01"),
        ][n % 2];
        let pid = caller.pid;
        stage.sql().run(&format!("select {function}({pid})")).await;
        let error = caller.error().await;
        assert_eq!(error.code, code, "{error:?}");
    }
    assert_eq!(stage.receiver.all().len(), SLOTS, "nobody else was asked");
    stage.let_go();
    for (user, caller) in served.into_iter().enumerate() {
        assert_echo(&caller.answer().await, user);
    }
    stage.wait_until_idle().await;
    stage.fill_every_slot().await;
}

/// Waits until so many callers sleep in the extension.
async fn wait_until_all_sleep(stage: &Stage<'_>, count: usize) {
    let sleeping = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Extension' and query like '%emit_event%'";
    wait_for_number(stage.sql(), sleeping, count as i64).await;
}
