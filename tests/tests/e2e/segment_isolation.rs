//! Transactions at REPEATABLE READ and above: they see an old state of what others have done, and no crossing may be lost
//! for that. Where the server cannot keep them apart it must refuse one of them (40001), and the application tries again.

use actionflow_tests::{Database, Session};

use crate::customers::recording;
use crate::segment_concurrency::assert_exact;
use crate::steps::{Step, interleave};

const LEVELS: [&str; 2] = ["repeatable read", "serializable"];

const TABLE: &str = "
    create table customers (id bigint primary key, plan text, seen timestamptz);
    insert into customers values (1, 'free', null), (2, 'pro', null);
    select actionflow.watch_customers('customers')";

const PAYING: &str = r#"{"all": [{"attribute": "plan", "op": "eq", "value": "pro"},
    {"event": "purchase", "count": {"gte": 1}}]}"#;

const EXPECTED: &str = "select c.id::text from customers as c where c.plan = 'pro'
    and exists (select from actionflow.events as e where e.user_id = c.id::text and e.name = 'purchase')";

/// A first statement, which fixes what the transaction sees.
const LOOK: &str = "select 1";
const EMIT_1: &str = "select actionflow.emit_event('purchase', '1')";
const EMIT_2: &str = "select actionflow.emit_event('purchase', '2')";
const EMIT_9: &str = "select actionflow.emit_event('purchase', '9')";
const UPGRADE_1: &str = "update customers set plan = 'pro' where id = 1";
const DOWNGRADE_2: &str = "update customers set plan = 'free' where id = 2";
const INSERT_9: &str = "insert into customers values (9, 'pro')";
const DELETE_2: &str = "delete from customers where id = 2";
const COMMIT: &str = "commit";

async fn scene() -> Database<'static> {
    let db = recording(TABLE).await;
    create_segment(&db.sql).await;
    db
}

async fn create_segment(sql: &Session) {
    sql.run(&format!(
        "select actionflow.create_segment('paying', '{PAYING}')"
    ))
    .await;
}

/// Runs the steps at each level. Refusals have to be of the kind that goes away when the transaction is tried again.
async fn play(steps: &[Step<'_>]) {
    for level in LEVELS {
        let db = scene().await;
        let errors = interleave(&db, level, steps).await;
        let are_fair = errors.iter().all(|error| error.code == "40001");
        assert!(are_fair, "{level}: {steps:?}: {errors:#?}");
        assert_exact(&db.sql, "paying", EXPECTED, &format!("{level}: {steps:?}")).await;
    }
}

#[tokio::test]
async fn an_update_in_an_old_snapshot_does_not_overlook_an_event() {
    play(&[
        (0, LOOK),
        (1, EMIT_1),
        (1, COMMIT),
        (0, UPGRADE_1),
        (0, COMMIT),
    ])
    .await;
    play(&[
        (0, LOOK),
        (1, LOOK),
        (1, EMIT_1),
        (0, UPGRADE_1),
        (1, COMMIT),
        (0, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn an_event_in_an_old_snapshot_does_not_overlook_an_update() {
    play(&[
        (0, LOOK),
        (1, UPGRADE_1),
        (1, COMMIT),
        (0, EMIT_1),
        (0, COMMIT),
    ])
    .await;
    play(&[
        (0, LOOK),
        (1, UPGRADE_1),
        (0, EMIT_1),
        (1, COMMIT),
        (0, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn a_row_inserted_in_an_old_snapshot_does_not_overlook_an_event() {
    play(&[
        (0, LOOK),
        (1, EMIT_9),
        (1, COMMIT),
        (0, INSERT_9),
        (0, COMMIT),
    ])
    .await;
    play(&[
        (0, LOOK),
        (1, LOOK),
        (1, EMIT_9),
        (0, INSERT_9),
        (1, COMMIT),
        (0, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn an_event_in_an_old_snapshot_does_not_overlook_an_inserted_row() {
    play(&[
        (0, LOOK),
        (1, INSERT_9),
        (1, COMMIT),
        (0, EMIT_9),
        (0, COMMIT),
    ])
    .await;
    play(&[
        (0, LOOK),
        (1, INSERT_9),
        (0, EMIT_9),
        (1, COMMIT),
        (0, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn a_member_who_entered_after_the_snapshot_leaves() {
    play(&[
        (0, LOOK),
        (1, EMIT_2),
        (1, COMMIT),
        (0, DOWNGRADE_2),
        (0, COMMIT),
    ])
    .await;
    play(&[
        (0, LOOK),
        (1, EMIT_2),
        (1, COMMIT),
        (0, DELETE_2),
        (0, COMMIT),
    ])
    .await;
    play(&[
        (0, LOOK),
        (1, EMIT_2),
        (1, COMMIT),
        (0, "truncate customers"),
        (0, COMMIT),
    ])
    .await;
}

#[tokio::test]
async fn a_segment_created_after_the_snapshot_is_exact() {
    for level in LEVELS {
        for change in [UPGRADE_1, INSERT_9, EMIT_2] {
            let db = recording(TABLE).await;
            db.sql.run(EMIT_1).await;
            db.sql.run(EMIT_9).await;
            let session = db.session().await;
            session
                .run(&format!("begin isolation level {level}; {LOOK}"))
                .await;
            create_segment(&db.sql).await;
            let result = match session.try_rows(change).await {
                Ok(_) => session.try_rows(COMMIT).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                assert_eq!(error.code, "40001", "{level}: {change}: {error:#?}");
                session.run("rollback").await;
            }
            let context = format!("{level}: {change}");
            assert_exact(&db.sql, "paying", EXPECTED, &context).await;
            // Nor does the session keep what it has seen in the old snapshot.
            session.run(EMIT_2).await;
            assert_exact(
                &db.sql,
                "paying",
                EXPECTED,
                &format!("{context}, and then an event"),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_member_whom_the_clock_let_in_after_the_snapshot_leaves() {
    for level in LEVELS {
        let db = recording(TABLE).await;
        db.sql
            .run(
                r#"set actionflow.now = '2024-03-10 00:00Z';
                   select actionflow.create_segment('soon', '{"attribute": "seen", "op": "within_next", "value": "1 hour"}');
                   update customers set seen = '2024-03-10 01:30Z'"#,
            )
            .await;
        let session = db.session().await;
        session
            .run(&format!(
                "set actionflow.now = '2024-03-10 00:40Z'; begin isolation level {level}; {LOOK}"
            ))
            .await;
        let tick = "select actionflow.tick('2024-03-10 00:40Z')";
        assert_eq!(db.sql.number(tick).await, 2);
        let result = match session.try_rows("update customers set seen = null").await {
            Ok(_) => session.try_rows(COMMIT).await,
            Err(error) => Err(error),
        };
        let expected = match result {
            Ok(_) => "select '' where false",
            Err(error) => {
                assert_eq!(error.code, "40001", "{level}: {error:#?}");
                session.run("rollback").await;
                "select id::text from customers"
            }
        };
        assert_exact(&db.sql, "soon", expected, level).await;
    }
}
