//! What the worker calls, called by hand: whatever is given to it, nothing breaks and nobody gets what is not theirs.

use actionflow_tests::{Cluster, PATIENCE, Session, eventually};
use serde_json::{Value, json};

use crate::enrich_stage::{Caller, NARROW, Stage, emit, failure, wait_for_number};

/// A take that only looks.
const TAKE_NOTHING: &str = "select ticket from actionflow.take_enrichments(1, 0)";

/// A session that does the worker's part.
struct Hand {
    sql: Session,
}

impl Hand {
    async fn on(stage: &Stage<'_>) -> Self {
        let sql = stage.db.session().await;
        sql.run("select actionflow.take_enrichments(0, 0)").await;
        Self { sql }
    }

    async fn leave(&self) {
        self.sql.run("select actionflow.leave_enrichments()").await;
    }

    /// Takes up to so many; waits for the first.
    async fn take(&self, max: usize) -> Vec<i64> {
        let rows = self
            .sql
            .rows(&format!(
                "select ticket from actionflow.take_enrichments({max}, 30000)"
            ))
            .await;
        rows.iter()
            .map(|ticket| ticket.parse().expect("a ticket is a number"))
            .collect()
    }

    /// Takes one and waits for it.
    async fn take_one(&self) -> i64 {
        let tickets = self.take(1).await;
        assert_eq!(tickets.len(), 1);
        tickets[0]
    }
}

/// Hands a reply over and returns the tickets of those who still waited.
async fn answer(sql: &Session, tickets: &str, replies: &str) -> String {
    sql.text(&format!(
        "select actionflow.answer_enrichments({tickets}, {replies})"
    ))
    .await
}

fn block() -> String {
    let reply = json!({"answer": {"action": "block", "data": {"by": "hand"}}});
    format!("array['{reply}']")
}

async fn answer_one(sql: &Session, ticket: i64) -> String {
    answer(sql, &format!("array[{ticket}]::bigint[]"), &block()).await
}

fn is_blocked(answer: &Value) -> bool {
    answer["action"] == "block" && answer["results"]["risk"]["data"] == json!({"by": "hand"})
}

#[tokio::test]
async fn a_ticket_serves_its_own_caller_once() {
    let stage = Stage::new().await;
    let hand = Hand::on(&stage).await;
    let caller = stage.call(&emit("login", 1)).await;
    let ticket = hand.take_one().await;
    let sql = stage.sql();
    for wrong in [
        0,
        -1,
        i64::MAX,
        i64::MIN,
        ticket + 1,
        ticket - 1,
        -ticket,
        ticket ^ (1 << 62),
        ticket + (1 << 32),
        ticket - (1 << 32),
        ticket | 0xffff_ffff,
        ticket % (1 << 32),
    ] {
        assert_eq!(answer_one(sql, wrong).await, "{}", "{wrong}");
    }
    let twice = format!("array[{ticket}, {ticket}]");
    let replies = format!("{0} || {0}", block());
    assert_eq!(answer(sql, &twice, &replies).await, format!("{{{ticket}}}"));
    assert!(is_blocked(&caller.answer().await));
    assert_eq!(answer_one(sql, ticket).await, "{}", "an old ticket");

    // The slot may be the same; the ticket is not.
    let caller = stage.call(&emit("login", 2)).await;
    let next = hand.take_one().await;
    assert_ne!(next, ticket);
    assert_eq!(answer_one(sql, ticket).await, "{}", "an old ticket");
    assert_eq!(answer_one(sql, next).await, format!("{{{next}}}"));
    assert!(is_blocked(&caller.answer().await));
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn a_ticket_of_another_database_changes_nothing_there() {
    let stage = Stage::new().await;
    let other = Stage::new().await;
    let hand = Hand::on(&stage).await;
    let caller = stage.call(&emit("login", 1)).await;
    let ticket = hand.take_one().await;
    assert_eq!(answer_one(other.sql(), ticket).await, "{}");
    assert_eq!(stage.in_flight().await, 1);
    assert_eq!(other.in_flight().await, 0);
    assert_eq!(
        answer_one(stage.sql(), ticket).await,
        format!("{{{ticket}}}")
    );
    assert!(is_blocked(&caller.answer().await));
}

#[tokio::test]
async fn what_is_no_reply_is_a_failure_for_the_caller_and_for_nobody_else() {
    let stage = Stage::new().await;
    let hand = Hand::on(&stage).await;
    let null = "array[null]::text[]";
    for reply in [
        "array['']",
        "array['not JSON']",
        "array['[]']",
        "array['{}']",
        r#"array['{"answer": {"action": "explode"}}']"#,
        r#"array['{"answer": {"data": []}}']"#,
        r#"array['{"failure": {"kind": "unheard of", "message": ""}}']"#,
        null,
    ] {
        let caller = stage.call(&emit("login", 1)).await;
        let ticket = hand.take_one().await;
        let reached = answer(stage.sql(), &format!("array[{ticket}]"), reply).await;
        assert_eq!(reached, format!("{{{ticket}}}"), "{reply}");
        assert_eq!(failure(&caller.answer().await), "internal", "{reply}");
    }
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn tickets_and_replies_that_do_not_fit_each_other_break_nothing() {
    let stage = Stage::new().await;
    let hand = Hand::on(&stage).await;
    let callers = stage.logins(0..3).await;
    let mut tickets = Vec::new();
    while tickets.len() < 3 {
        tickets.extend(hand.take(10).await);
    }
    let sql = stage.sql();
    let [a, b, c] = tickets[..] else {
        panic!("{tickets:?}")
    };
    assert_eq!(answer(sql, "null", "null").await, "");
    assert_eq!(answer(sql, "'{}'", &block()).await, "{}");
    assert_eq!(answer(sql, &format!("array[{a}, {b}]"), "'{}'").await, "{}");
    for odd in [
        format!("array[null, {a}, null]"),
        format!("array[[{a}, {b}], [{c}, 0]]"),
        format!("'[5:6]={{{a},{b}}}'"),
    ] {
        let statement =
            format!("select actionflow.answer_enrichments({odd}::bigint[], '{{}}'::text[])");
        match sql.try_rows(&statement).await {
            Ok(rows) => assert_eq!(rows, ["{}"], "{odd}"),
            // Refused as data, which tells the worker that it need not try again; never as a defect.
            Err(error) => assert!(error.code.starts_with("22"), "{odd}: {error:?}"),
        }
    }
    // The ones that have a partner are handed over.
    let reached = answer(sql, &format!("array[{a}, {b}, {c}]"), &block()).await;
    assert_eq!(reached, format!("{{{a}}}"));
    let replies = format!("{0} || {0} || {0}", block());
    let reached = answer(sql, &format!("array[{b}, {c}]"), &replies).await;
    assert_eq!(reached, format!("{{{b},{c}}}"));
    for caller in callers {
        assert!(is_blocked(&caller.answer().await));
    }
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn no_more_is_taken_than_was_asked_for_and_nothing_is_waited_for_that_is_not() {
    let stage = Stage::new().await;
    let hand = Hand::on(&stage).await;
    for call in [
        "0, 30000",
        "-1, 30000",
        "10, 0",
        "10, -1",
        "-2147483648, -2147483648",
        "null, 0",
        "1, null",
    ] {
        let rows = hand
            .sql
            .rows(&format!(
                "select * from actionflow.take_enrichments({call})"
            ))
            .await;
        assert_eq!(rows, [""; 0], "{call}");
    }
    let callers = stage.logins(0..3).await;
    wait_until_posted(&stage, 3).await;
    assert!(hand.take(0).await.is_empty());
    let mut tickets = hand.take(1).await;
    assert_eq!(tickets.len(), 1);
    while tickets.len() < 3 {
        tickets.extend(hand.take(2).await);
    }
    for ticket in tickets {
        answer_one(stage.sql(), ticket).await;
    }
    for caller in callers {
        assert!(is_blocked(&caller.answer().await));
    }
}

#[tokio::test]
async fn a_request_is_told_how_long_its_caller_waits_and_what_it_is_about() {
    let stage = Stage::new().await;
    let hand = Hand::on(&stage).await;
    let caller = stage.call(&emit("login", 42)).await;
    let taken = "select ticket, remaining_ms between 1 and 30000, head::jsonb ->> 'user_id', head::jsonb ->> 'action',
        body::jsonb #>> '{data,user,id}', body::jsonb #> '{data,event,properties}' from actionflow.take_enrichments(1, 30000)";
    let row = hand.sql.text(taken).await;
    let (ticket, rest) = row.split_once('|').expect("columns");
    assert_eq!(rest, r#"t|42|risk|42|{"n": 294}"#);
    answer_one(stage.sql(), ticket.parse().expect("a number")).await;
    assert!(is_blocked(&caller.answer().await));
}

#[tokio::test]
async fn a_take_that_waits_long_can_be_cancelled_and_the_next_one_takes() {
    let stage = Stage::new().await;
    let session = stage.db.session().await;
    let waiting = Caller::of(
        session,
        "select * from actionflow.take_enrichments(10, 2147483647)",
    )
    .await;
    wait_until_asleep(&stage, waiting.pid).await;
    let pid = waiting.pid;
    stage
        .sql()
        .run(&format!("select pg_cancel_backend({pid})"))
        .await;
    let (sql, result) = waiting.end().await;
    assert_eq!(result.expect_err("cancelled").code, "57014");
    // It is still a worker's connection, and what is posted now waits for its next call.
    let hand = Hand { sql };
    let caller = stage.call(&emit("login", 1)).await;
    let ticket = hand.take_one().await;
    // What a transaction takes stays taken when it is rolled back.
    answer_one(stage.sql(), ticket).await;
    assert!(is_blocked(&caller.answer().await));
    let caller = stage.call(&emit("login", 2)).await;
    hand.sql.run("begin").await;
    let ticket = hand.take_one().await;
    hand.sql.run("rollback").await;
    assert_eq!(
        answer_one(stage.sql(), ticket).await,
        format!("{{{ticket}}}")
    );
    assert!(is_blocked(&caller.answer().await));
}

/// Waits until so many callers wait for somebody to take their requests.
async fn wait_until_posted(stage: &Stage<'_>, count: i64) {
    let asleep = "select count(*) from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Extension' and query like '%emit_event%'";
    wait_for_number(stage.sql(), asleep, count).await;
}

async fn wait_until_asleep(stage: &Stage<'_>, pid: i64) {
    let waits = format!(
        "select count(*) from pg_stat_activity where pid = {pid} and wait_event_type = 'Extension'"
    );
    wait_for_number(stage.sql(), &waits, 1).await;
}

#[tokio::test]
async fn when_a_session_that_has_taken_ends_its_callers_are_told_and_the_others_are_not() {
    let stage = Stage::new().await;
    let (going, staying) = (Hand::on(&stage).await, Hand::on(&stage).await);
    let lost = stage.call(&emit("login", 1)).await;
    let taken = going.take_one().await;
    let kept = stage.call(&emit("login", 2)).await;
    let ticket = staying.take_one().await;
    drop(going);
    assert_eq!(lost.prompt_failure().await, "worker_lost");
    assert_eq!(answer_one(stage.sql(), taken).await, "{}");
    assert_eq!(
        answer_one(stage.sql(), ticket).await,
        format!("{{{ticket}}}")
    );
    assert!(is_blocked(&kept.answer().await));

    // And with the last one, those who are in the queue.
    let queued = stage.logins(0..3).await;
    wait_until_posted(&stage, 3).await;
    drop(staying);
    for caller in queued {
        assert_eq!(caller.prompt_failure().await, "worker_lost");
    }
    let late = stage.call(&emit("login", 1)).await;
    assert_eq!(late.prompt_failure().await, "no_worker");
}

#[tokio::test]
async fn a_connection_that_has_left_answers_what_it_has_taken_and_is_given_nothing_until_it_takes_again()
 {
    let stage = Stage::new().await;
    let (going, staying) = (Hand::on(&stage).await, Hand::on(&stage).await);
    let taken = stage.call(&emit("login", 1)).await;
    let ticket = going.take_one().await;
    going.leave().await;
    let queued = stage.call(&emit("login", 2)).await;
    let second = staying.take_one().await;
    staying.leave().await;
    let late = stage.call(&emit("login", 3)).await;
    assert_eq!(late.prompt_failure().await, "no_worker");
    for (ticket, caller) in [(ticket, taken), (second, queued)] {
        assert_eq!(
            answer_one(stage.sql(), ticket).await,
            format!("{{{ticket}}}")
        );
        assert!(is_blocked(&caller.answer().await));
    }

    // The last one that leaves takes the hope of those in the queue with it.
    assert_eq!(going.sql.rows(TAKE_NOTHING).await, [""; 0]);
    let queued = stage.logins(0..3).await;
    wait_until_posted(&stage, 3).await;
    going.leave().await;
    for caller in queued {
        assert_eq!(caller.prompt_failure().await, "worker_lost");
    }
    // Whoever has not taken anything has nothing to leave.
    stage
        .sql()
        .run("select actionflow.leave_enrichments()")
        .await;
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn a_session_that_takes_may_ask_and_is_not_its_own_worker() {
    let stage = Stage::new().await;
    let hand = Hand::on(&stage).await;
    let answer = hand.sql.json(&emit("hasty", 1)).await;
    assert_eq!(failure(&answer), "busy");
    let other = Hand::on(&stage).await;
    let caller = Caller::of(hand.sql, &emit("login", 2)).await;
    let ticket = other.take_one().await;
    answer_one(stage.sql(), ticket).await;
    assert!(is_blocked(&caller.answer().await));
    stage.wait_until_idle().await;
}

#[tokio::test]
async fn sixty_four_connections_take_and_the_next_one_is_refused_until_one_has_gone() {
    let cluster = Cluster::start(NARROW);
    let stage = Stage::within(&cluster).await;
    let mut hands = Vec::new();
    for _ in 0..64 {
        hands.push(Hand::on(&stage).await);
    }
    let last = stage.db.session().await;
    let take = "select * from actionflow.take_enrichments(1, 0)";
    let error = last.error(take).await;
    assert_eq!(error.code, "53300", "{error:?}");
    // Those who take already go on.
    let caller = stage.call(&emit("login", 1)).await;
    let ticket = hands[63].take_one().await;
    answer_one(stage.sql(), ticket).await;
    assert!(is_blocked(&caller.answer().await));
    hands.pop();
    eventually(PATIENCE, async || {
        last.try_rows(take).await.map_err(|error| error.message)
    })
    .await;
    let error = stage.db.session().await.error(take).await;
    assert_eq!(error.code, "53300");
    drop(hands);
    drop(last);
    let _worker = stage.worker().await;
    stage.wait_until_served().await;
    stage.fill_every_slot().await;
}
