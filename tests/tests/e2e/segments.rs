//! A customer enters a segment, and an endpoint hears of it.

use actionflow_tests::{Cluster, Database};
use serde_json::json;

use crate::scene::{Scene, settle, wait_for_rows};

const PRO: &str = r#"{"attribute": "plan", "op": "eq", "value": "pro"}"#;

/// A scene whose flow `welcome` tells `crm` of a crossing of the segment `pros`.
async fn telling_crm_of(crossing: &str) -> Scene {
    let scene = Scene::with_crm("{}").await;
    scene
        .sql()
        .run(&format!(
            "select actionflow.create_segment('pros', '{PRO}');
             select actionflow.add_segment_trigger('welcome', 'pros', '{crossing}')"
        ))
        .await;
    scene
}

#[tokio::test]
async fn a_customer_who_enters_reaches_the_endpoint() {
    let scene = telling_crm_of("enter").await;
    let _worker = scene.db.worker().await;
    scene
        .sql()
        .run("insert into customers (id, email, plan) values (1, 'a@example.com', 'free'), (2, null, 'free')")
        .await;
    scene
        .sql()
        .run("update customers set plan = 'pro' where id = 1")
        .await;
    let body = scene.receiver.wait_for_one("/crm").await.json();
    assert_eq!(body["type"], "segment-entered");
    assert_eq!(body["data"]["user"]["id"], "1");
    assert_eq!(
        body["data"]["event"]["properties"],
        json!({"segment": "pros"})
    );
    settle(scene.sql()).await;
    assert_eq!(scene.receiver.all().len(), 1);
}

#[tokio::test]
async fn the_example_of_the_documentation_reaches_the_endpoint() {
    let scene = Scene::new().await;
    scene.endpoint("crm", "{}").await;
    scene.flow("ios-news", &["crm"]).await;
    scene
        .sql()
        .run(
            r#"alter table customers add column platform text, add column last_seen timestamptz;
               select actionflow.create_segment('ios-recent', '{"all": [
                   {"attribute": "platform", "op": "eq", "value": "ios"},
                   {"attribute": "last_seen", "op": "after", "value": "2024-03-01"}]}');
               select actionflow.add_segment_trigger('ios-news', 'ios-recent');
               insert into customers (id, platform, last_seen) values (1, 'ios', '2024-02-29'), (2, 'android', '2024-03-05')"#,
        )
        .await;
    let _worker = scene.db.worker().await;
    scene
        .sql()
        .run("update customers set last_seen = '2024-03-02' where id = 1")
        .await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.user_id(), "1");
}

#[tokio::test]
async fn a_crossing_that_is_rolled_back_is_told_to_nobody() {
    let scene = telling_crm_of("enter").await;
    let _worker = scene.db.worker().await;
    scene
        .sql()
        .run("begin; insert into customers (id, plan) values (1, 'pro'); rollback; insert into customers (id, plan) values (2, 'pro')")
        .await;
    assert_eq!(scene.receiver.wait_for_one("/crm").await.user_id(), "2");
    settle(scene.sql()).await;
    assert_eq!(scene.receiver.all().len(), 1);
    assert_eq!(
        scene
            .sql()
            .rows("select user_id from actionflow.segment_members")
            .await,
        ["2"]
    );
}

#[tokio::test]
async fn a_customer_who_is_copied_in_and_deleted_again_enters_and_leaves() {
    let scene = telling_crm_of("exit").await;
    let _worker = scene.db.worker().await;
    scene.db.psql(
        "copy customers (id, email, plan) from stdin;\n1\ta@example.com\tpro\n2\t\\N\tfree\n\\.\n",
    );
    wait_for_rows(
        scene.sql(),
        "select user_id from actionflow.segment_members",
        &["1"],
    )
    .await;
    scene.sql().run("delete from customers").await;
    let body = scene.receiver.wait_for_one("/crm").await.json();
    assert_eq!(body["type"], "segment-exited");
    assert_eq!(body["data"]["user"]["id"], "1");
}

#[tokio::test]
async fn an_application_without_rights_on_actionflow_makes_members_by_writing() {
    let scene = telling_crm_of("enter").await;
    let role = format!("{}_writer", scene.db.name());
    scene
        .sql()
        .run(&format!(
            "create role {role}; grant insert, update, select on customers to {role}; set role {role};
             insert into customers (id, plan) values (1, 'pro'); update customers set plan = 'free'; reset role"
        ))
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select name from actionflow.events where name like 'segment-%' order by id")
            .await,
        ["segment-entered", "segment-exited"]
    );
}

/// Statements, each with the roles that may run it.
const STATEMENTS: &[(&str, &str)] = &[
    ("reader", "select * from actionflow.segments"),
    ("reader", "select * from actionflow.segment_members"),
    ("app reader", "select * from actionflow.bulk_jobs"),
    (
        "app",
        r#"select actionflow.start_flow_for('welcome', '{"segment": "pros"}')"#,
    ),
    ("worker", "select actionflow.tick_batch()"),
    ("worker", "select actionflow.run_bulk_jobs()"),
    ("", "select actionflow.tick()"),
    (
        "",
        "select actionflow.create_segment('x', '{\"attribute\": \"id\", \"op\": \"exists\"}')",
    ),
    (
        "",
        "select actionflow.update_segment('pros', '{\"attribute\": \"id\", \"op\": \"exists\"}')",
    ),
    (
        "",
        "select actionflow.preview_segment('pros', '{\"attribute\": \"id\", \"op\": \"exists\"}')",
    ),
    ("", "select actionflow.delete_segment('pros', true)"),
    (
        "",
        "select actionflow.add_segment_trigger('welcome', 'pros')",
    ),
    (
        "",
        "select actionflow.match_customers('{\"attribute\": \"id\", \"op\": \"exists\"}')",
    ),
    (
        "",
        "select actionflow.count_customers('{\"attribute\": \"id\", \"op\": \"exists\"}')",
    ),
    (
        "",
        "select actionflow.segment_sql('{\"attribute\": \"id\", \"op\": \"exists\"}')",
    ),
    ("", "select actionflow.cancel_bulk_job(1)"),
    ("", "select * from actionflow._segment_member"),
    ("", "select * from actionflow._segment_event"),
    ("", "select * from actionflow._bulk_target"),
    ("", "insert into actionflow._segment_touched values ('1')"),
    ("", "select actionflow._cross(1, '{}', '{1}')"),
    ("", "select actionflow._look_at_due(10, now())"),
];

#[tokio::test]
async fn each_role_can_do_with_segments_what_it_is_for() {
    let scene = telling_crm_of("enter").await;
    scene
        .sql()
        .run("insert into customers (id, plan) values (1, 'pro')")
        .await;
    for role in ["app", "reader", "worker", "stranger"] {
        let name = format!("{}_{role}", scene.db.name());
        scene.sql().run(&format!("create role {name}")).await;
        if role != "stranger" {
            let grant = format!("select actionflow.grant_{role}('{name}')");
            scene.sql().run(&grant).await;
        }
        for (allowed, statement) in STATEMENTS {
            let begin = format!("begin; set local role {name}");
            scene.sql().run(&begin).await;
            let result = scene.sql().try_rows(statement).await;
            scene.sql().run("rollback").await;
            let is_allowed = allowed.split(' ').any(|word| word == role);
            match result {
                Ok(_) => assert!(is_allowed, "{role}: {statement}"),
                Err(error) => {
                    assert!(!is_allowed, "{role}: {statement}: {error:#?}");
                    assert_eq!(error.code, "42501", "{role}: {statement}: {error:#?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_restored_copy_keeps_its_segments_and_they_go_on() {
    let scene = telling_crm_of("enter").await;
    scene
        .sql()
        .run(
            r#"alter table customers add column seen timestamptz;
               select actionflow.create_segment('recent', '{"attribute": "seen", "op": "within_last", "value": "30 days"}');
               select actionflow.create_segment('buyers', '{"event": "purchase", "count": {"gte": 2}, "within_last": "30 days"}');
               select actionflow.create_segment('recent-pros', '{"all": [{"segment": "recent"}, {"segment": "pros"}]}');
               insert into customers (id, plan, seen) values (1, 'pro', now()), (2, 'free', now()), (3, 'pro', null);
               select actionflow.emit_event('purchase', '1'), actionflow.emit_event('purchase', '2'),
                   actionflow.emit_event('purchase', '2');
               select actionflow.start_flow_for('welcome', '{"segment": "pros"}')"#,
        )
        .await;
    let copy = Database::bare(Cluster::shared()).await;
    scene.db.dump_into(&copy);
    for kept in [
        "select name, relation, rule, created_at, updated_at from actionflow.segments order by name",
        "select segment, user_id, entered_at from actionflow.segment_members order by segment, user_id",
        "select segment_id, user_id, check_at from actionflow._segment_flip order by segment_id, user_id",
        "select user_id, name, occurred_at from actionflow._segment_event order by event_id",
        "select id, flow, kind, options from actionflow.triggers order by id",
        "select id, state, total from actionflow.bulk_jobs order by id",
    ] {
        let original = scene.sql().rows(kept).await;
        assert!(!original.is_empty(), "nothing to compare: {kept}");
        assert_eq!(copy.sql.rows(kept).await, original, "{kept}");
    }
    let members =
        "select segment, user_id from actionflow.segment_members order by segment, user_id";
    copy.sql
        .run("update customers set plan = 'pro' where id = 2; update customers set plan = 'free' where id = 1;
              select actionflow.emit_event('purchase', '1')")
        .await;
    assert_eq!(
        copy.sql.rows(members).await,
        [
            "buyers|1",
            "buyers|2",
            "pros|2",
            "pros|3",
            "recent|1",
            "recent|2",
            "recent-pros|2"
        ]
    );
    copy.sql
        .run("select actionflow.tick(now() + interval '31 days')")
        .await;
    assert_eq!(copy.sql.rows(members).await, ["pros|2", "pros|3"]);
    copy.sql
        .run(&format!(
            "select actionflow.create_segment('new', '{PRO}'); select actionflow.delete_segment('recent-pros')"
        ))
        .await;
    assert_eq!(
        scene.sql().rows(members).await.len(),
        6,
        "the original has changed"
    );
}

/// The application of a replica applies what others have decided: its rows fire no trigger.
#[tokio::test]
async fn changes_of_a_replication_role_are_not_seen_until_the_segment_is_brought_up_to_date() {
    let scene = telling_crm_of("enter").await;
    scene
        .sql()
        .run(
            "insert into customers (id, plan) values (1, 'pro'), (2, 'free');
             set session_replication_role = replica;
             update customers set plan = case when plan = 'pro' then 'free' else 'pro' end;
             reset session_replication_role",
        )
        .await;
    let members = "select user_id from actionflow.segment_members";
    assert_eq!(scene.sql().rows(members).await, ["1"]);
    let update = format!("select * from actionflow.update_segment('pros', '{PRO}')");
    assert_eq!(scene.sql().rows(&update).await, ["1|1|0"]);
    assert_eq!(scene.sql().rows(members).await, ["2"]);
    // Both crossings are told, as those of an edit are.
    let told =
        "select name, user_id from actionflow.events where name like 'segment-%' order by id";
    assert_eq!(
        scene.sql().rows(told).await,
        ["segment-entered|1", "segment-exited|1", "segment-entered|2"]
    );
}

/// A policy of row-level security hides rows from those who read; what is written is evaluated all the same.
#[tokio::test]
async fn row_level_security_hides_nobody_from_a_segment() {
    let scene = telling_crm_of("enter").await;
    let role = format!("{}_tenant", scene.db.name());
    scene
        .sql()
        .run(&format!(
            "create role {role}; grant all on customers to {role};
             alter table customers enable row level security;
             create policy own on customers to {role} using (id < 10) with check (true);
             insert into customers (id, plan) values (20, 'pro');
             set role {role}; insert into customers (id, plan) values (1, 'pro'), (30, 'pro'); reset role"
        ))
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select user_id from actionflow.segment_members order by user_id::int")
            .await,
        ["1", "20", "30"]
    );
}
