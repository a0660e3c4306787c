//! Sessions that change the same customers at once: no crossing is lost and none is told twice, whoever commits first.

use actionflow_tests::{Database, Session};

use crate::customers::recording;
use crate::steps::{Step, interleave};

const TABLE: &str = "
    create table customers (id bigint primary key, plan text, seen timestamptz);
    insert into customers values (1, 'free', null), (2, 'pro', null);
    select actionflow.watch_customers('customers')";

/// Two conditions that two sessions fulfil at once, each one of them; a row may come without mattering to it.
const PAYING: &str = r#"{"all": [{"attribute": "plan", "op": "eq", "value": "pro"},
    {"event": "purchase", "count": {"gte": 1}}]}"#;
/// To which every row matters.
const LOYAL: &str = r#"{"event": "purchase", "count": {"gte": 2}}"#;

/// Name, rule, and the same in words that actionflow does not know.
const SEGMENTS: &[(&str, &str, &str)] = &[
    (
        "paying",
        PAYING,
        "select c.id::text from customers as c where c.plan = 'pro'
             and exists (select from actionflow.events as e where e.user_id = c.id::text and e.name = 'purchase')",
    ),
    (
        "loyal",
        LOYAL,
        "select c.id::text from customers as c
         where (select count(*) from actionflow.events as e where e.user_id = c.id::text and e.name = 'purchase') >= 2",
    ),
];

const EMIT_1: &str = "select actionflow.emit_event('purchase', '1')";
const EMIT_9: &str = "select actionflow.emit_event('purchase', '9')";
const UPGRADE_1: &str = "update customers set plan = 'pro' where id = 1";
const INSERT_9: &str = "insert into customers values (9, 'pro')";
const COMMIT: &str = "commit";

async fn scene(segments: &[(&str, &str, &str)]) -> Database<'static> {
    let db = recording(TABLE).await;
    for (name, rule, _) in segments {
        db.sql
            .run(&format!(
                "select actionflow.create_segment('{name}', '{rule}')"
            ))
            .await;
    }
    db
}

/// Members are those of a query that does not ask actionflow, and the events of crossings add up to them.
pub(crate) async fn assert_exact(sql: &Session, segment: &str, expected: &str, context: &str) {
    let mut expected = sql.rows(expected).await;
    expected.sort();
    let members = format!(
        "select user_id from actionflow.segment_members where segment = '{segment}' order by user_id collate \"C\""
    );
    assert_eq!(
        sql.rows(&members).await,
        expected,
        "members of {segment}: {context}"
    );
    let told = format!(
        "select user_id, sum(case name when 'segment-entered' then 1 else -1 end), count(*)
         from actionflow.events
         where name in ('segment-entered', 'segment-exited') and properties ->> 'segment' = '{segment}'
         group by user_id having sum(case name when 'segment-entered' then 1 else -1 end) <> 0
         order by user_id collate \"C\""
    );
    let told: Vec<String> = sql
        .rows(&told)
        .await
        .iter()
        .map(|row| {
            let mut parts = row.split('|');
            let user = parts.next().unwrap_or_default();
            assert_eq!(
                parts.next(),
                Some("1"),
                "crossings of {segment}: {context}: {row}"
            );
            user.to_owned()
        })
        .collect();
    assert_eq!(told, expected, "crossings of {segment}: {context}");
}

/// Runs the steps in new databases, with one segment and with all, and looks whether everything is exact.
async fn play(steps: &[Step<'_>]) {
    for segments in [&SEGMENTS[..1], SEGMENTS] {
        let db = scene(segments).await;
        assert_eq!(
            interleave(&db, "read committed", steps).await,
            [],
            "{steps:?}"
        );
        for (segment, _, expected) in segments {
            assert_exact(&db.sql, segment, expected, &format!("{steps:?}")).await;
        }
    }
}

#[tokio::test]
async fn an_update_and_an_event_at_once_are_both_counted() {
    play(&[(0, UPGRADE_1), (1, EMIT_1), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, EMIT_1), (1, UPGRADE_1), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, UPGRADE_1), (1, EMIT_1), (0, "rollback"), (1, COMMIT)]).await;
    play(&[(0, EMIT_1), (1, UPGRADE_1), (0, "rollback"), (1, COMMIT)]).await;
    let downgrade = "update customers set plan = 'free' where id = 2";
    let emit = "select actionflow.emit_event('purchase', '2')";
    play(&[(0, downgrade), (1, emit), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, emit), (1, downgrade), (0, COMMIT), (1, COMMIT)]).await;
}

#[tokio::test]
async fn an_update_of_another_column_and_an_event_at_once_are_both_counted() {
    let touch = "update customers set seen = now() where id = 1";
    play(&[
        (0, UPGRADE_1),
        (0, touch),
        (1, EMIT_1),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
    play(&[
        (0, touch),
        (1, EMIT_1),
        (0, UPGRADE_1),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
    play(&[
        (0, EMIT_1),
        (1, touch),
        (0, COMMIT),
        (1, UPGRADE_1),
        (1, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn two_events_at_once_are_both_counted() {
    play(&[(0, EMIT_1), (1, EMIT_1), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, EMIT_1), (1, EMIT_1), (0, "rollback"), (1, COMMIT)]).await;
    play(&[
        (0, EMIT_1),
        (1, EMIT_1),
        (2, EMIT_1),
        (0, COMMIT),
        (1, COMMIT),
        (2, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn an_event_that_occurs_while_another_statement_waits_is_counted_by_it() {
    let later = |id: i32| {
        format!(
            "select actionflow.emit_event('purchase', '{id}', occurred_at => clock_timestamp())"
        )
    };
    let (later_1, later_9) = (later(1), later(9));
    play(&[
        (0, UPGRADE_1),
        (1, EMIT_1),
        (0, &later_1),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
    play(&[
        (0, EMIT_9),
        (1, INSERT_9),
        (0, &later_9),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn events_of_a_customer_whose_row_is_being_inserted_are_counted() {
    play(&[(0, INSERT_9), (1, EMIT_9), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, EMIT_9), (1, INSERT_9), (0, COMMIT), (1, COMMIT)]).await;
    play(&[
        (0, EMIT_9),
        (1, EMIT_9),
        (2, INSERT_9),
        (1, COMMIT),
        (0, COMMIT),
        (2, COMMIT),
    ])
    .await;
    play(&[
        (0, INSERT_9),
        (1, EMIT_9),
        (2, EMIT_9),
        (0, COMMIT),
        (1, COMMIT),
        (2, COMMIT),
    ])
    .await;
    play(&[(0, INSERT_9), (1, EMIT_9), (0, "rollback"), (1, COMMIT)]).await;
    play(&[
        (0, EMIT_9),
        (0, INSERT_9),
        (1, EMIT_9),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn events_of_a_customer_who_comes_by_other_ways_than_insert_are_counted() {
    let moved = "update customers set id = 9 where id = 2";
    play(&[(0, moved), (1, EMIT_9), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, EMIT_9), (1, moved), (0, COMMIT), (1, COMMIT)]).await;
    let upserted = "insert into customers values (9, 'pro') on conflict (id) do update set plan = excluded.plan";
    play(&[(0, upserted), (1, EMIT_9), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, EMIT_9), (1, upserted), (0, COMMIT), (1, COMMIT)]).await;
    let many = "insert into customers select g, 'pro' from generate_series(9, 400) as g";
    play(&[(0, many), (1, EMIT_9), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, EMIT_9), (1, many), (0, COMMIT), (1, COMMIT)]).await;
}

/// A row that does not matter to any segment when it comes may do so before its transaction ends.
#[tokio::test]
async fn events_of_a_customer_who_is_changed_again_in_the_transaction_that_inserts_are_counted() {
    let insert = "insert into customers values (9, 'free')";
    let upgrade = "update customers set plan = 'pro' where id = 9";
    for (first, second) in [(0, 1), (1, 0)] {
        play(&[
            (0, insert),
            (1, EMIT_9),
            (0, upgrade),
            (first, COMMIT),
            (second, COMMIT),
        ])
        .await;
        play(&[
            (1, EMIT_9),
            (0, insert),
            (0, upgrade),
            (first, COMMIT),
            (second, COMMIT),
        ])
        .await;
    }
    let back = "update customers set id = 9 where id = 8";
    let insert = "insert into customers values (8, 'pro')";
    play(&[
        (0, insert),
        (1, EMIT_9),
        (0, back),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn a_customer_who_is_deleted_while_an_event_comes_is_no_member() {
    let delete = "delete from customers where id = 2";
    let emit = "select actionflow.emit_event('purchase', '2')";
    play(&[(0, delete), (1, emit), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, emit), (1, delete), (0, COMMIT), (1, COMMIT)]).await;
    play(&[
        (0, emit),
        (1, "truncate customers"),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
    play(&[
        (0, "truncate customers"),
        (1, emit),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
    let again = "insert into customers values (2, 'pro')";
    play(&[(0, delete), (1, emit), (0, again), (0, COMMIT), (1, COMMIT)]).await;
    play(&[(0, emit), (1, delete), (0, COMMIT), (1, again), (1, COMMIT)]).await;
}

#[tokio::test]
async fn customers_who_change_places_between_segments_in_opposite_order_wait_for_nobody() {
    let db = recording(TABLE).await;
    db.sql
        .run(
            r#"select actionflow.create_segment('free', '{"attribute": "plan", "op": "eq", "value": "free"}');
               select actionflow.create_segment('pro', '{"attribute": "plan", "op": "eq", "value": "pro"}');
               insert into customers select g, 'free' from generate_series(11, 14) as g"#,
        )
        .await;
    let change =
        |id: i32, plan: &str| format!("update customers set plan = '{plan}' where id = {id}");
    let (a, b) = (
        [change(1, "pro"), change(11, "pro")],
        [change(2, "free"), change(12, "pro")],
    );
    let (c, d) = (change(13, "pro"), change(14, "pro"));
    let steps = [
        (0, a[0].as_str()),
        (1, b[0].as_str()),
        (0, a[1].as_str()),
        (1, b[1].as_str()),
        (1, &c),
        (0, &d),
        (0, COMMIT),
        (1, COMMIT),
    ];
    assert_eq!(interleave(&db, "read committed", &steps).await, []);
    let members = "select segment || ' ' || user_id from actionflow.segment_members order by 1";
    assert_eq!(
        db.sql.rows(members).await,
        ["free 2", "pro 1", "pro 11", "pro 12", "pro 13", "pro 14"]
    );
}

/// Both do the same in the same order, as two requests of one application do.
#[tokio::test]
async fn sessions_that_emit_for_a_customer_and_then_make_the_row_wait_in_no_circle() {
    let upsert = "insert into customers values (9, 'pro') on conflict (id) do update set plan = excluded.plan";
    play(&[
        (0, EMIT_9),
        (1, EMIT_9),
        (0, upsert),
        (1, upsert),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
}

/// So many rows that one lock stands for all of them.
#[tokio::test]
async fn sessions_that_emit_and_then_insert_many_others_wait_in_no_circle() {
    let many = |from: i32| {
        format!(
            "insert into customers select g, 'pro' from generate_series({from}, {from} + 200) as g"
        )
    };
    play(&[
        (0, EMIT_9),
        (1, "select actionflow.emit_event('purchase', '8')"),
        (0, &many(1000)),
        (1, &many(2000)),
        (0, COMMIT),
        (1, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn sessions_that_change_and_emit_in_the_same_order_of_customers_never_deadlock() {
    let db = std::sync::Arc::new(scene(SEGMENTS).await);
    db.sql
        .run("insert into customers select g, 'free' from generate_series(3, 40) as g")
        .await;
    let mut running = Vec::new();
    for seed in 0..6_u64 {
        let session = db.session().await;
        running.push(tokio::spawn(async move {
            let mut random = seed * 7919 + 1;
            for _ in 0..60 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let id = (random >> 33) % 45 + 1;
                let plan = if (random >> 50).is_multiple_of(2) { "pro" } else { "free" };
                let statement = match (random >> 40) % 5 {
                    0 => format!("insert into customers values ({id}, '{plan}') on conflict (id) do update set plan = excluded.plan"),
                    1 => format!("delete from customers where id = {id}"),
                    2 | 3 => format!("select actionflow.emit_event('purchase', '{id}')"),
                    _ => format!("update customers set plan = '{plan}' where id between {id} and {id} + 2"),
                };
                // Only rows of customers themselves, in an order of the application's own, may make a circle.
                match session.try_rows(&statement).await {
                    Err(error) if error.code == "40P01" && statement.starts_with("update") => {}
                    Err(error) => panic!("{statement}: {error:#?}"),
                    Ok(_) => {}
                }
            }
        }));
    }
    for session in running {
        session.await.expect("no statement fails");
    }
    for (segment, _, expected) in SEGMENTS {
        assert_exact(&db.sql, segment, expected, "after many changes").await;
    }
}
