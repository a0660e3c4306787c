//! Many callers and several workers at once; and every place in which a transaction may ask.

use std::collections::BTreeSet;

use actionflow_tests::{Answer, Cluster};

use crate::enrich_stage::{
    Caller, NARROW, SLOTS, Stage, assert_echo, emit, failure, wait_for_number,
};

/// Sessions that ask at once.
const SESSIONS: usize = 64;

/// Each asks so often.
const ROUNDS: usize = 30;

/// Lets all sessions ask about users of their own, and checks every answer.
async fn ask_from_all_sessions(stage: &Stage<'_>) {
    let mut asking = Vec::new();
    for number in 0..SESSIONS {
        let session = stage.db.session().await;
        asking.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let user = number * ROUNDS + round;
                assert_echo(&session.json(&emit("login", user)).await, user);
            }
        }));
    }
    for asked in asking {
        asked.await.expect("each gets its own answer");
    }
    let users: BTreeSet<String> = stage
        .receiver
        .all()
        .iter()
        .map(|request| request.user_id())
        .collect();
    assert_eq!(users.len(), SESSIONS * ROUNDS);
    assert_eq!(
        stage.receiver.all().len(),
        SESSIONS * ROUNDS,
        "nobody is asked about twice"
    );
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn many_callers_at_once_get_their_own_answers() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    ask_from_all_sessions(&stage).await;
}

#[tokio::test]
async fn many_callers_share_few_slots() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let _worker = stage.worker().await;
    ask_from_all_sessions(&stage).await;
    assert!(stage.receiver.most_in_flight("/risk") <= SLOTS);
    stage.fill_every_slot().await;
}

#[tokio::test]
async fn several_workers_share_the_work() {
    let stage = Stage::new().await;
    let workers = [
        stage.worker().await,
        stage.db.worker().await,
        stage.db.worker().await,
    ];
    stage.wait_for_listeners(3).await;
    ask_from_all_sessions(&stage).await;
    let mut idle = Vec::new();
    for worker in &workers {
        let (_, metrics) = worker.get("/metrics").await.expect("the worker answers");
        let none = "actionflow_enrich_duration_seconds_count 0";
        idle.extend(
            metrics
                .lines()
                .filter(|line| *line == none)
                .map(str::to_owned),
        );
    }
    assert!(idle.len() < 2, "one worker did it all");
}

#[tokio::test]
async fn whoever_finds_no_slot_waits_for_one_within_its_deadline() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let _worker = stage.worker().await;
    stage.hold_answers();
    let callers = stage.logins(0..40).await;
    stage.receiver.wait_for("/risk", SLOTS).await;
    wait_for_number(stage.sql(), SLEEPING, 40).await;
    assert_eq!(stage.receiver.all().len(), SLOTS);
    let busy = stage.sql().json(&emit("hasty", 1)).await;
    assert_eq!(failure(&busy), "busy");
    assert_eq!(stage.in_flight().await, 40);
    // One by one, each that goes makes room for another one.
    for served in 1..=40 - SLOTS {
        stage.receiver.release(1);
        stage.receiver.wait_for("/risk", SLOTS + served).await;
    }
    stage.let_go();
    for (user, caller) in callers.into_iter().enumerate() {
        assert_echo(&caller.answer().await, user);
    }
    stage.wait_until_idle().await;
}

/// Callers who sleep in the extension.
const SLEEPING: &str = "select count(*) from pg_stat_activity where datname = current_database()
    and wait_event_type = 'Extension' and query like '%emit_event%'";

#[tokio::test]
async fn a_waiting_caller_holds_nothing_that_anybody_else_needs() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    stage.hold_answers();
    // In a session that has read the configuration in an earlier transaction, and in a new one.
    let session = stage.db.session().await;
    stage.let_go();
    session.run(&emit("login", 0)).await;
    stage.hold_answers();
    let caller = Caller::of(session, &emit("login", 1)).await;
    let newcomer = stage.call(&emit("login", 2)).await;
    stage.receiver.wait_for("/risk", 3).await;
    wait_for_number(stage.sql(), SLEEPING, 2).await;
    let locks = format!(
        "select l.mode, l.relation::regclass from pg_locks as l
         where l.pid in ({}, {}) and l.locktype not in ('virtualxid', 'transactionid') and l.mode <> 'AccessShareLock'
             and coalesce((select c.relname not like '%_id_seq' from pg_class as c where c.oid = l.relation), true)
         order by 1, 2",
        caller.pid, newcomer.pid
    );
    assert_eq!(stage.sql().rows(&locks).await, [""; 0]);
    // What the worker does meanwhile, and what people change, is not held up.
    stage.sql().run("set lock_timeout = '10s'").await;
    stage.sql().run("select actionflow.maintain()").await;
    stage
        .sql()
        .run("select actionflow.update_endpoint('risk', '{\"timeout_ms\": 4000}')")
        .await;
    stage
        .sql()
        .run("select actionflow.create_flow('new', '{\"actions\": []}')")
        .await;
    stage.sql().run("vacuum").await;
    stage.let_go();
    assert_echo(&caller.answer().await, 1);
    assert_echo(&newcomer.answer().await, 2);
}

#[tokio::test]
async fn waiting_callers_consume_no_transaction_id() {
    // Its own, because a checkpoint, such as that of a dropped database, makes the next number of each sequence take one.
    let cluster = Cluster::own();
    let stage = Stage::within(&cluster).await;
    let _worker = stage.worker().await;
    stage.hold_answers();
    let callers = stage.logins(0..40).await;
    stage.receiver.wait_for("/risk", 40).await;
    let with_id = "select count(*) from pg_stat_activity where datname = current_database()
        and query like '%emit_event%' and backend_xid is not null";
    let with_id = stage.sql().number(with_id).await;
    stage.let_go();
    for (user, caller) in callers.into_iter().enumerate() {
        assert_echo(&caller.answer().await, user);
    }
    // Each of three sequences takes one with every 33rd number.
    assert!(
        with_id <= 6,
        "{with_id} of 40 waiting callers have a transaction id"
    );
}

#[tokio::test]
async fn a_transaction_of_any_isolation_may_ask_and_go_on() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    stage
        .sql()
        .run("create table notes (id int primary key)")
        .await;
    for (n, level) in ["read committed", "repeatable read", "serializable"]
        .into_iter()
        .enumerate()
    {
        for end in ["commit", "rollback"] {
            let before = stage.receiver.all().len();
            stage
                .sql()
                .run(&format!(
                    "begin isolation level {level}; insert into notes values ({n})"
                ))
                .await;
            assert_echo(&stage.login(n).await, n);
            stage.sql().run("savepoint s").await;
            assert_echo(&stage.login(n + 10).await, n + 10);
            stage.sql().run("rollback to s").await;
            assert_echo(&stage.login(n + 20).await, n + 20);
            stage.sql().run(end).await;
            assert_eq!(stage.receiver.all().len(), before + 3);
            let kept = stage
                .sql()
                .number("select count(*) from actionflow.runs")
                .await;
            let notes = stage.sql().number("select count(*) from notes").await;
            let expected = if end == "commit" { (2, 1) } else { (0, 0) };
            assert_eq!((kept, notes), expected, "{level}, {end}");
            stage.sql().run("delete from notes; delete from actionflow._run; delete from actionflow._run_history").await;
        }
    }
}

#[tokio::test]
async fn functions_triggers_and_handlers_may_ask() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    let sql = stage.sql();
    sql.run(
        "create table logins (id int primary key, answer jsonb);
         create function ask(id int) returns jsonb language plpgsql as
             $$ begin return actionflow.emit_event('login', id::text, jsonb_build_object('n', id * 7)); end $$;
         create function fill() returns trigger language plpgsql as
             $$ begin new.answer := ask(new.id); return new; end $$;
         create trigger fill before insert on logins for each row execute function fill();
         create function tell() returns trigger language plpgsql as
             $$ begin perform ask(new.id + 1000); return null; end $$;
         create constraint trigger tell after insert on logins deferrable initially deferred
             for each row execute function tell()",
    )
    .await;
    assert_echo(&sql.json("select ask(1)").await, 1);
    sql.run("insert into logins select generate_series(2, 6)")
        .await;
    assert_eq!(
        stage.receiver.all().len(),
        11,
        "five rows ask at once, and again at the end"
    );
    for user in 2..=6 {
        let answer = sql
            .json(&format!("select answer from logins where id = {user}"))
            .await;
        assert_echo(&answer, user);
    }
    // Two questions of one statement.
    let both = sql
        .text("select ask(7) #>> '{results,risk,data,user}', ask(8) #>> '{results,risk,data,user}'")
        .await;
    assert_eq!(both, "7|8");

    stage.receiver.script("/risk", [Answer::Status(500)]);
    sql.run(
        "do $$
        begin
            perform actionflow.emit_event('strict', '9');
            raise exception 'no error';
        exception when external_routine_exception then
            insert into logins values (10);
        end $$",
    )
    .await;
    assert_echo(
        &sql.json("select answer from logins where id = 10").await,
        10,
    );
    assert_eq!(
        sql.number("select count(*) from actionflow.runs where user_id = '9'")
            .await,
        0
    );
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn a_read_only_transaction_is_refused() {
    let stage = Stage::new().await;
    let _worker = stage.worker().await;
    let session = stage.db.session().await;
    session.run("set default_transaction_read_only = on").await;
    let error = session.error(&emit("login", 1)).await;
    assert_eq!(error.code, "25006", "{error:?}");
    stage.wait_until_idle().await;
}
