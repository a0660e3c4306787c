//! The server itself: it dies, it restarts, it is a standby, it has not loaded the library, it serves two databases.

use actionflow_tests::{Answer, Cluster, Database, PATIENCE, Session, eventually, send_signal};
use serde_json::json;

use crate::enrich_stage::{NARROW, SLOTS, Stage, assert_echo, emit, failure, is_echo};
use crate::scene::{CUSTOMERS, notify, publish, settle};

/// Opens the session anew, as soon as the server accepts one.
async fn reconnect(db: &mut Database<'_>) {
    let url = db.url();
    db.sql = eventually(PATIENCE, async || {
        Session::try_connect(&url)
            .await
            .map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_callers_process_that_is_killed_takes_nothing_with_it() {
    let cluster = Cluster::start(NARROW);
    let mut stage = Stage::within(&cluster).await;
    stage.db.expect_in_log("");
    stage.db.expect_in_log("terminated by signal 9");
    let _worker = stage.worker_amid_faults().await;
    for _ in 0..2 {
        let before = stage.receiver.all().len();
        stage.hold_answers();
        let callers = stage.logins(0..SLOTS).await;
        stage.receiver.wait_for("/risk", before + SLOTS).await;
        send_signal("KILL", &callers[3].pid.to_string());
        for caller in callers {
            // The server ends all sessions when one of its processes dies.
            let error = caller.error().await;
            assert!(["57P02", ""].contains(&error.code.as_str()), "{error:?}");
        }
        stage.let_go();
        reconnect(&mut stage.db).await;
        assert_eq!(stage.in_flight().await, 0);
        stage.wait_until_served().await;
        stage.fill_every_slot().await;
    }
}

#[tokio::test]
async fn a_server_that_restarts_at_once_serves_again() {
    let cluster = Cluster::start(NARROW);
    let mut stage = Stage::within(&cluster).await;
    stage.db.expect_in_log("");
    let worker = stage.worker_amid_faults().await;
    for _ in 0..2 {
        let before = stage.receiver.all().len();
        stage.hold_answers();
        let callers = stage.logins(0..SLOTS).await;
        stage.receiver.wait_for("/risk", before + SLOTS).await;
        cluster.restart_immediately();
        for caller in callers {
            caller.error().await;
        }
        stage.let_go();
        reconnect(&mut stage.db).await;
        stage.wait_until_served().await;
        stage.fill_every_slot().await;
    }
    assert!(worker.stop().await.status.success());
}

#[tokio::test]
async fn two_databases_never_mix() {
    const CALLERS: usize = 8;
    let cluster = Cluster::start(NARROW);
    let (one, two) = (Stage::within(&cluster).await, Stage::within(&cluster).await);
    let _worker_of_one = one.worker().await;
    let caller = two.call(&emit("login", 1)).await;
    assert_eq!(
        caller.prompt_failure().await,
        "no_worker",
        "the worker of another database does not count"
    );

    let _worker_of_two = two.worker().await;
    one.hold_answers();
    let held = one.logins(0..CALLERS).await;
    one.receiver.wait_for("/risk", CALLERS).await;
    assert_eq!(
        (one.in_flight().await, two.in_flight().await),
        (CALLERS as i64, 0)
    );
    for user in 0..50 {
        assert_echo(&two.login(user).await, user);
    }
    assert_eq!(one.receiver.all().len(), CALLERS);
    one.let_go();
    for (user, caller) in held.into_iter().enumerate() {
        assert_echo(&caller.answer().await, user);
    }

    // All at once, with users who have the same names and another answer.
    for (mark, stage) in [("one", &one), ("two", &two)] {
        let answer = json!({"data": {"at": mark}});
        stage.receiver.always("/risk", Answer::json(&answer));
    }
    let mut callers = Vec::new();
    for _ in 0..20 {
        callers.push(("one", one.call(&emit("login", 1)).await));
        callers.push(("two", two.call(&emit("login", 1)).await));
    }
    for (mark, caller) in callers {
        let answer = caller.answer().await;
        assert_eq!(answer["results"]["risk"]["data"]["at"], mark);
    }
}

#[tokio::test]
async fn a_full_ring_is_shared_by_all_databases_and_waited_for() {
    let cluster = Cluster::start(NARROW);
    let (one, two) = (Stage::within(&cluster).await, Stage::within(&cluster).await);
    let (_worker_of_one, _worker_of_two) = (one.worker().await, two.worker().await);
    one.hold_answers();
    let held = one.logins(0..SLOTS).await;
    one.receiver.wait_for("/risk", SLOTS).await;
    let busy = two.sql().json(&emit("hasty", 1)).await;
    assert_eq!(failure(&busy), "busy");
    let patient = two.call(&emit("login", 2)).await;
    one.let_go();
    assert_echo(&patient.answer().await, 2);
    for (user, caller) in held.into_iter().enumerate() {
        assert_echo(&caller.answer().await, user);
    }
}

#[tokio::test]
async fn without_preloading_only_what_needs_it_is_refused() {
    let cluster = Cluster::start(&[]);
    let stage = Stage::within(&cluster).await;
    let sql = stage.sql();
    sql.run(CUSTOMERS).await;
    publish(sql, "welcome", &notify("tell", &["risk"])).await;
    sql.run("select actionflow.add_event_trigger('welcome', 'user-created')")
        .await;
    let mut worker = stage.db.worker().await;
    for event in ["login", "strict"] {
        let error = sql.error(&emit(event, 1)).await;
        assert_eq!(error.code, "55000", "{error:?}");
        assert!(error.hint.contains("shared_preload_libraries"), "{error:?}");
    }
    for call in [
        "select * from actionflow.take_enrichments(1, 0)",
        "select actionflow.answer_enrichments('{}', '{}')",
    ] {
        assert_eq!(sql.error(call).await.code, "55000");
    }
    assert_eq!(stage.in_flight().await, 0);
    // What asks nobody is recorded, and told by the worker.
    sql.run("select actionflow.emit_event('other', '1')").await;
    sql.run("insert into customers (id) values (1)").await;
    stage.receiver.wait_for("/risk", 1).await;
    settle(sql).await;
    assert_eq!(sql.number("select count(*) from actionflow.runs").await, 1);
    let told = |log: &str| log.matches("shared_preload_libraries").count();
    eventually(PATIENCE, async || match told(&worker.log()) {
        1 => Ok(()),
        times => Err(format!("said {times} times")),
    })
    .await;
    worker.ask_to_stop();
    assert!(worker.wait().await.status.success());
}

#[tokio::test]
async fn a_standby_refuses_events_and_asks_when_it_is_promoted() {
    let primary = Cluster::start(NARROW);
    let stage = Stage::within(&primary).await;
    let standby = primary.standby();
    let mut copy = stage.db.on(&standby).await;
    copy.expect_in_log("");
    for event in ["login", "strict", "other"] {
        let error = copy.sql.error(&emit(event, 1)).await;
        assert_eq!(error.code, "25006", "{error:?}");
    }
    let worker = copy
        .worker_builder()
        .expect_in_log("")
        .start_unready()
        .await;
    primary.stop();
    standby.promote();
    worker.wait_until_ready().await;
    eventually(PATIENCE, async || {
        let answer = copy.sql.json(&emit("login", 1)).await;
        match is_echo(&answer, 1) {
            true => Ok(()),
            false => Err(answer.to_string()),
        }
    })
    .await;
}
