//! `pg_dump | psql` into another database keeps everything, and the copy goes on from there.

use actionflow_tests::{Answer, Cluster, Database};
use serde_json::json;

use crate::scene::{Scene, ids, is_signed_with, settle};

/// Everything that people can see, except what differs by design.
const VIEWS: &[&str] = &[
    "select name, published_version, has_draft, state from actionflow.flows order by name",
    "select id, flow, kind, mode, options from actionflow.triggers order by id",
    "select id, flow, version, mode, user_id, flow_invocation_id, trigger_id, state, started_at, finished_at
     from actionflow.runs order by id",
    "select id, name, user_id, properties, mode, flow, run_id, occurred_at from actionflow.events order by id",
    "select id, run_id, flow, action, endpoint, user_id, mode, state, attempts, next_attempt_at, last_status, last_error,
         created_at, finished_at from actionflow.deliveries order by id",
    "select delivery_id, attempt, started_at, duration_ms, status, error, response_prefix
     from actionflow.delivery_attempts order by delivery_id, attempt",
    "select id from actionflow.dead_letters order by id",
    "select endpoint, state from actionflow.endpoint_health order by endpoint",
    "select name, value from actionflow.settings order by name",
    "select user_id, note from actionflow.test_users order by user_id",
    "select actionflow.flow_definition('welcome', 1), actionflow.flow_definition('welcome')",
    "select id, email from customers order by id",
];

async fn fill(scene: &Scene) -> String {
    let secret = scene
        .endpoint(
            "crm",
            r#"{"retry_seconds": [], "headers": {"x-shop": "north"}}"#,
        )
        .await;
    scene
        .endpoint("later", r#"{"retry_seconds": [600000]}"#)
        .await;
    scene.flow("welcome", &["crm", "later"]).await;
    scene.trigger("welcome", "user-created").await;
    let draft = json!({"actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"], "wait": true}]});
    scene
        .sql()
        .run("select actionflow.set_setting('max_flow_depth', '5')")
        .await;
    scene
        .sql()
        .run("select actionflow.add_test_user('1', 'a colleague')")
        .await;
    scene
        .sql()
        .run("insert into customers (id, email) values (1, 'a@example.com'), (2, 'b@example.com')")
        .await;
    scene
        .receiver
        .script("/crm", [Answer::Status(500), Answer::Status(200)]);
    scene.receiver.always("/later", Answer::Status(503));
    let worker = scene.worker_amid_deaths().await;
    scene.receiver.wait_for("/crm", 2).await;
    scene.receiver.wait_for("/later", 2).await;
    crate::scene::wait_for_rows(
        scene.sql(),
        "select state, count(*) from actionflow.deliveries group by state order by state",
        &["dead|1", "delivered|1", "pending|2"],
    )
    .await;
    worker.stop().await;
    // A run that waits, a delivery that nobody has claimed yet, and a remembered invocation.
    scene
        .sql()
        .run(&format!(
            "select actionflow.update_flow('welcome', '{draft}')"
        ))
        .await;
    scene
        .sql()
        .run(r#"select actionflow.start_flow('welcome', '{"targetUserIds": "1", "flowInvocationId": "inv"}', 'test')"#)
        .await;
    secret
}

#[tokio::test]
async fn a_restored_copy_has_everything_and_delivers() {
    let scene = Scene::new().await;
    let secret = fill(&scene).await;
    let copy = Database::bare(Cluster::shared()).await;
    scene.db.dump_into(&copy);
    for view in VIEWS {
        let original = scene.sql().rows(view).await;
        assert!(!original.is_empty(), "nothing to compare: {view}");
        assert_eq!(copy.sql.rows(view).await, original, "{view}");
    }

    scene.receiver.always("/later", Answer::Status(200));
    let seen = scene.receiver.all().len();
    let _worker = copy.worker().await;
    let waiting = "select id from actionflow.deliveries where mode = 'test'";
    let waiting = copy.sql.text(waiting).await;
    crate::scene::wait_for_rows(
        &copy.sql,
        "select state from actionflow.runs where mode = 'test'",
        &["completed"],
    )
    .await;
    let request = scene.receiver.all().remove(seen);
    assert_eq!(request.id(), waiting);
    assert!(is_signed_with(&request, &secret));
    assert_eq!(request.header("x-shop"), "north");

    let again = r#"select status from actionflow.start_flow('welcome', '{"targetUserIds": "1", "flowInvocationId": "inv"}', 'test')"#;
    assert_eq!(copy.sql.text(again).await, "duplicate");
    let before = ids(&scene.receiver.all());
    copy.sql.run("insert into customers (id) values (3)").await;
    let request = scene.receiver.wait_for("/crm", 4).await.remove(3);
    assert_eq!(request.user_id(), "3");
    assert!(
        !before.contains(request.id()),
        "an id of the original was given out again"
    );
    copy.sql
        .run("select actionflow.replay_dead_letters('crm')")
        .await;
    scene.receiver.wait_for("/crm", 5).await;
    copy.sql.run("select actionflow.cancel_run(run_id) from actionflow.deliveries where state = 'pending' group by run_id").await;
    settle(&copy.sql).await;
}

#[tokio::test]
async fn watched_tables_of_every_shape_are_restored_and_watched() {
    let cluster = Cluster::shared();
    let db = crate::customers::recording(
        r#"create schema "My Shop";
           create table "My Shop".customers (id bigint, country text, email text, primary key (id, country))
               partition by list (country);
           create table customers_de partition of "My Shop".customers for values in ('de');
           create table customers_fr partition of "My Shop".customers for values in ('fr');
           create table companies (id int primary key);
           create table leads (id uuid primary key, company int references companies on delete cascade, state text);
           select actionflow.watch_customers('"My Shop".customers');
           select actionflow.watch_customers('leads', revoked_when => 'state = ''blocked''')"#,
    )
    .await;
    let writes = "insert into \"My Shop\".customers values (1, 'de'), (2, 'fr');
        insert into customers_de values (3, 'de');
        insert into companies values (1);
        insert into leads values ('6f1c9a52-3c1d-4f0e-9f43-0a3f5d1c2b7e', 1);
        update leads set state = 'blocked';
        delete from companies;
        truncate \"My Shop\".customers";
    let events = crate::customers::events_of(&db.sql, writes).await;
    assert_eq!(events.len(), 10, "{events:?}");
    let copy = Database::bare(cluster).await;
    db.dump_into(&copy);
    assert_eq!(crate::customers::events_of(&copy.sql, writes).await, events);
}
