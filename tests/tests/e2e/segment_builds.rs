//! Segments are made and changed while others write: nobody is overlooked, and the others go on writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use actionflow_tests::{Database, Session};
use tokio::task::JoinHandle;

use crate::customers::recording;
use crate::steps::Meanwhile;

const CUSTOMERS: i64 = 200_000;

const PRO: &str = r#"{"attribute": "plan", "op": "eq", "value": "pro"}"#;
const RECENT: &str = r#"{"all": [{"attribute": "plan", "op": "eq", "value": "pro"},
    {"attribute": "seen", "op": "within_last", "value": "30 days"}]}"#;
const BUYERS: &str = r#"{"all": [{"attribute": "plan", "op": "eq", "value": "pro"},
    {"event": "purchase", "count": {"gte": 1}, "within_last": "30 days"}]}"#;

/// What each rule means, in words that actionflow does not know.
const MEANINGS: &[(&str, &str)] = &[
    (PRO, "plan = 'pro'"),
    (RECENT, "plan = 'pro' and seen > now() - interval '30 days'"),
    (
        BUYERS,
        "plan = 'pro' and exists (select from actionflow.events as e where e.user_id = c.id::text and e.name = 'purchase')",
    ),
];

/// A table of 200,000 customers of whom every tenth is in each segment.
async fn scene() -> Database<'static> {
    let db = recording(
        "create table customers (id bigint primary key, plan text, seen timestamptz);
         select actionflow.watch_customers('customers')",
    )
    .await;
    db.sql
        .run("select actionflow.set_setting('record_all_events', 'false')")
        .await;
    db.sql
        .run(&format!(
            "insert into customers
             select g, case when g % 10 = 0 then 'pro' else 'free' end, now() - interval '1 day'
             from generate_series(1, {CUSTOMERS}) as g;
             analyze customers"
        ))
        .await;
    db
}

/// Sessions that write without a pause.
struct Writers {
    running: Vec<JoinHandle<()>>,
    are_done: Arc<AtomicBool>,
    /// Statements that have ended.
    written: Arc<AtomicU64>,
}

impl Writers {
    async fn start(db: &Database<'_>) -> Self {
        let are_done = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let mut running = Vec::new();
        for number in 0..4 {
            let (are_done, written) = (Arc::clone(&are_done), Arc::clone(&written));
            let session = db.session().await;
            running.push(tokio::spawn(write(session, number, are_done, written)));
        }
        Self {
            running,
            are_done,
            written,
        }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.are_done.store(true, Ordering::Relaxed);
        for writer in self.running {
            writer.await.expect("no statement of a writer fails");
        }
    }
}

/// Each writer has rows of its own, so that none waits for another.
async fn write(session: Session, number: i64, is_done: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let mut round = 0;
    while !is_done.load(Ordering::Relaxed) {
        round += 1;
        let id = (round * 37 % 1000) * 4 + number + 1;
        let new = CUSTOMERS + round * 4 + number;
        let plan = if round % 3 == 0 { "free" } else { "pro" };
        let statement = match round % 5 {
            0 => format!(
                "insert into customers values ({new}, '{plan}', now()) on conflict (id) do nothing"
            ),
            1 => format!("select actionflow.emit_event('purchase', '{id}')"),
            2 => format!("delete from customers where id = {new} - 12"),
            _ => format!("update customers set plan = '{plan}' where id = {id}"),
        };
        session.run(&statement).await;
        written.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whom a query and the segment see differently.
async fn differences(sql: &Session, segment: &str, meaning: &str) -> Vec<String> {
    sql.rows(&format!(
        "select coalesce(m.user_id, c.id::text), case when m.user_id is null then 'missing' else 'surplus' end
         from (select c.id from customers as c where {meaning}) as c
         full join (select user_id from actionflow.segment_members where segment = '{segment}') as m
             on m.user_id = c.id::text
         where m.user_id is null or c.id is null
         limit 5"
    ))
    .await
}

async fn create_amid_writers(rule: &str, meaning: &str) {
    let db = scene().await;
    // The segment's events are those since it was made, and those that were kept before.
    let writers = Writers::start(&db).await;
    while writers.written() < 4 {
        tokio::task::yield_now().await;
    }
    db.sql
        .run(&format!(
            "select actionflow.create_segment('made', '{rule}')"
        ))
        .await;
    let right_after = differences_at_rest(&db, writers, "made", meaning).await;
    assert_eq!(right_after, Vec::<String>::new(), "{rule}");
}

async fn differences_at_rest(
    db: &Database<'_>,
    writers: Writers,
    segment: &str,
    meaning: &str,
) -> Vec<String> {
    writers.stop().await;
    differences(&db.sql, segment, meaning).await
}

#[tokio::test]
async fn a_segment_made_amid_writers_is_exact_and_they_go_on() {
    for (rule, meaning) in MEANINGS {
        create_amid_writers(rule, meaning).await;
    }
}

#[tokio::test]
async fn a_segment_changed_amid_writers_is_exact_and_holds_nobody_up() {
    let db = scene().await;
    db.sql
        .run(&format!(
            "select actionflow.create_segment('changing', '{PRO}')"
        ))
        .await;
    for (rule, meaning) in [MEANINGS[1], MEANINGS[2], MEANINGS[0]] {
        let writers = Writers::start(&db).await;
        db.sql
            .run(&format!(
                "select * from actionflow.update_segment('changing', '{rule}')"
            ))
            .await;
        let differences = differences_at_rest(&db, writers, "changing", meaning).await;
        assert_eq!(differences, Vec::<String>::new(), "{rule}");
    }
    let told = "select count(*) from (
        select user_id from actionflow.events where name in ('segment-entered', 'segment-exited')
        group by user_id having abs(sum(case name when 'segment-entered' then 1 else -1 end)) > 1) as wrong";
    assert_eq!(db.sql.number(told).await, 0);
}

/// A rule that everybody crosses.
#[tokio::test]
async fn a_change_by_which_everybody_crosses_is_exact_amid_writers() {
    let db = scene().await;
    db.sql
        .run(&format!(
            "select actionflow.create_segment('changing', '{PRO}')"
        ))
        .await;
    let writers = Writers::start(&db).await;
    let counts = db
        .sql
        .text(&format!(
            "select entered + remained > 170000, exited > 10000 from actionflow.update_segment('changing', '{{\"not\": {PRO}}}')"
        ))
        .await;
    let differences = differences_at_rest(&db, writers, "changing", "plan <> 'pro'").await;
    assert_eq!(counts, "t|t");
    assert_eq!(differences, Vec::<String>::new());
}

#[tokio::test]
async fn an_open_transaction_is_waited_for_and_others_go_on() {
    let db = scene().await;
    for (number, make) in [
        format!("select actionflow.create_segment('made', '{PRO}')"),
        format!("select * from actionflow.update_segment('made', '{RECENT}')"),
    ]
    .iter()
    .enumerate()
    {
        let (old, young) = (db.session().await, db.session().await);
        old.run("begin; update customers set plan = 'pro' where id = 1")
            .await;
        let young_pid = young.number("select pg_backend_pid()").await;
        let building = Meanwhile::start(db.session().await, make).await;
        building.wait_until_blocked(&db.sql).await;
        // Who comes after it has been announced keeps it waiting too, and again holds up nobody else.
        young
            .run("begin; update customers set plan = 'pro' where id = 2")
            .await;
        for turn in 0..2 {
            for id in 3..200 {
                db.sql
                    .run(&format!(
                        "update customers set plan = 'pro' where id = {id}"
                    ))
                    .await;
            }
            assert!(!building.is_finished(), "turn {turn}");
            if turn == 0 {
                old.run("update customers set seen = now() where id = 1; commit")
                    .await;
                building.wait_until_blocked_by(&db.sql, young_pid).await;
            }
        }
        young.run("commit").await;
        building.finish().await;
        let meaning = MEANINGS[number].1;
        assert_eq!(
            differences(&db.sql, "made", meaning).await,
            Vec::<String>::new()
        );
    }
}

#[tokio::test]
async fn an_event_that_waits_for_a_new_segment_is_counted_by_it() {
    let db = recording(
        "create table customers (id bigint primary key, plan text, seen timestamptz);
         insert into customers values (1, 'pro', now());
         select actionflow.watch_customers('customers')",
    )
    .await;
    let (builder, emitter) = (db.session().await, db.session().await);
    // The session knows the segments as they are before.
    emitter
        .run("select actionflow.emit_event('other', '1')")
        .await;
    builder
        .run(&format!(
            "begin; select actionflow.create_segment('buyers', '{BUYERS}')"
        ))
        .await;
    let emitting = Meanwhile::start(emitter, "select actionflow.emit_event('purchase', '1')").await;
    emitting.wait_until_blocked(&db.sql).await;
    builder.run("commit").await;
    let (emitter, _) = emitting.finish().await;
    assert_eq!(
        db.sql
            .rows("select user_id from actionflow.segment_members")
            .await,
        ["1"]
    );
    emitter
        .run("insert into customers values (2, 'pro', now()); select actionflow.emit_event('purchase', '2')")
        .await;
    assert_eq!(
        db.sql
            .rows("select user_id from actionflow.segment_members order by 1")
            .await,
        ["1", "2"]
    );
}

#[tokio::test]
async fn an_update_that_waits_for_a_new_segment_is_seen_by_it() {
    let db = recording(
        "create table customers (id bigint primary key, plan text, seen timestamptz);
         insert into customers values (1, 'free', now()), (2, 'free', now());
         select actionflow.watch_customers('customers')",
    )
    .await;
    let through = db.session().await;
    through
        .run(
            "create function pg_temp.upgrade(bigint) returns void language plpgsql as
                 'begin update customers set plan = ''pro'' where id = $1; end'",
        )
        .await;
    through.run("select pg_temp.upgrade(99)").await;
    let builder = db.session().await;
    builder
        .run(&format!(
            "begin; select actionflow.create_segment('made', '{PRO}')"
        ))
        .await;
    let updates = [
        Meanwhile::start(
            db.session().await,
            "update customers set plan = 'pro' where id = 1",
        )
        .await,
        Meanwhile::start(through, "select pg_temp.upgrade(2)").await,
    ];
    for update in &updates {
        update.wait_until_blocked(&db.sql).await;
    }
    builder.run("commit").await;
    for update in updates {
        update.finish().await;
    }
    assert_eq!(
        differences(&db.sql, "made", "plan = 'pro'").await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn segments_made_by_two_sessions_at_once_are_both_exact() {
    let db = scene().await;
    let writers = Writers::start(&db).await;
    let mut building = Vec::new();
    for (number, (rule, _)) in MEANINGS.iter().enumerate() {
        let make = format!("select actionflow.create_segment('made{number}', '{rule}')");
        building.push(Meanwhile::start(db.session().await, &make).await);
    }
    for segment in building {
        segment.finish().await;
    }
    writers.stop().await;
    for (number, (_, meaning)) in MEANINGS.iter().enumerate() {
        let differences = differences(&db.sql, &format!("made{number}"), meaning).await;
        assert_eq!(differences, Vec::<String>::new(), "{meaning}");
    }
}

#[tokio::test]
async fn a_segment_cannot_be_made_in_an_old_snapshot() {
    let db = recording(
        "create table customers (id int); select actionflow.watch_customers('customers')",
    )
    .await;
    let refusal = db
        .sql
        .error(r#"begin isolation level repeatable read; select actionflow.create_segment('x', '{"attribute": "id", "op": "eq", "value": 1}')"#)
        .await;
    assert_eq!(refusal.code, "55000", "{refusal:#?}");
    assert!(refusal.hint.contains("READ COMMITTED"), "{refusal:#?}");
}
