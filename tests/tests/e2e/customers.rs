//! A row of a watched table changes: which events happen, and what is told of them.

use actionflow_tests::{Cluster, Database, Session};
use serde_json::{Value, json};

use crate::scene::{Scene, unix_seconds};

/// Name and customer of every event, in their order.
const EVENTS: &str = "select name, user_id from actionflow.events order by id";

/// A database that stores every event, so that a test reads them without a flow.
pub(crate) async fn recording(customers: &str) -> Database<'static> {
    let db = Database::within(Cluster::shared()).await;
    db.sql
        .run("select actionflow.set_setting('record_all_events', 'true')")
        .await;
    db.sql.run(customers).await;
    db
}

pub(crate) const TABLE: &str =
    "create table customers (id bigint primary key, email text, name text, plan text);
    select actionflow.watch_customers('customers')";

/// Runs `sql` and returns the events that it made, sorted, because one statement's rows have no order.
pub(crate) async fn events_of(sql: &Session, statement: &str) -> Vec<String> {
    let before = sql
        .number("select coalesce(max(id), 0) from actionflow.events")
        .await;
    sql.run(statement).await;
    sql.rows(&format!(
        "select name, user_id from actionflow.events where id > {before} order by name, user_id"
    ))
    .await
}

#[tokio::test]
async fn an_inserted_customer_reaches_the_endpoint_as_documented() {
    let scene = Scene::telling_crm_of("user-created").await;
    let worker = scene.db.worker().await;
    scene
        .sql()
        .run("insert into customers values (42, 'ana@example.com', 'Ana', 'pro')")
        .await;
    let request = scene.receiver.wait_for_one("/crm").await;
    scene.settle().await;

    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("user-agent"), "actionflow/0.1.0");
    assert_eq!(
        request.id(),
        scene
            .sql()
            .text("select id from actionflow.deliveries")
            .await
    );
    let attempted: u64 = request
        .header("webhook-timestamp")
        .parse()
        .expect("seconds since 1970");
    assert!(
        unix_seconds(request.at).abs_diff(attempted) <= 60,
        "{attempted} is not the time of the attempt"
    );

    let body = request.json();
    assert_eq!(body["type"], "user-created");
    let timestamp = body["timestamp"].as_str().expect("timestamp is a string");
    assert_eq!(
        scene
            .sql()
            .text(&format!(
                "select '{timestamp}'::timestamptz between now() - interval '1 minute' and now()"
            ))
            .await,
        "t",
        "{timestamp}"
    );
    assert!(
        timestamp.ends_with('Z') && timestamp.len() == "2026-11-22T03:00:00.000Z".len(),
        "{timestamp}"
    );
    let run = scene.sql().text("select id from actionflow.runs").await;
    let invocation = scene
        .sql()
        .text("select flow_invocation_id from actionflow.runs")
        .await;
    let event = scene
        .sql()
        .text("select id from actionflow.events where name = 'user-created'")
        .await;
    let mut data = body["data"].clone();
    let properties = data["event"]
        .as_object_mut()
        .expect("data.event is an object")
        .remove("properties");
    assert!(properties.is_some_and(|properties| properties.is_object()));
    assert_eq!(
        data,
        json!({
            "mode": "live", "flow": "welcome", "version": 1, "run_id": run, "flow_invocation_id": invocation,
            "action": "tell", "user": {"id": "42", "email": "ana@example.com", "name": "Ana"},
            "variables": data["variables"], "event": {"id": event, "name": "user-created"},
            "notificationDetail": {}, "metadata": {}
        })
    );
    drop(worker);
}

#[tokio::test]
async fn the_profile_is_read_when_the_message_is_sent() {
    let scene = Scene::telling_crm_of("user-created").await;
    scene
        .sql()
        .run("insert into customers values (1, 'old@example.com', 'Ana')")
        .await;
    scene
        .sql()
        .run("update customers set email = 'new@example.com'")
        .await;
    let _worker = scene.db.worker().await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.json()["data"]["user"]["email"], "new@example.com");
}

#[tokio::test]
async fn a_deleted_customer_is_told_with_the_values_that_the_row_had() {
    let scene = Scene::telling_crm_of("user-deleted").await;
    scene
        .sql()
        .run("insert into customers values (1, 'ana@example.com', 'Ana')")
        .await;
    scene.sql().run("delete from customers").await;
    let _worker = scene.db.worker().await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.json()["type"], "user-deleted");
    assert_eq!(
        request.json()["data"]["user"],
        json!({"id": "1", "email": "ana@example.com", "name": "Ana"})
    );
}

#[tokio::test]
async fn an_update_names_the_attributes_that_changed() {
    let db = recording(TABLE).await;
    db.sql.run("insert into customers values (1, 'a@example.com', 'Ana', 'free'), (2, 'b@example.com', 'Bo', 'free')").await;
    db.sql.run("update customers set plan = 'pro', email = case id when 1 then 'new@example.com' else email end").await;
    let named = async |user: &str| {
        let properties: Value = db
            .sql
            .json(&format!(
                "select properties from actionflow.events where name = 'user-updated' and user_id = '{user}'"
            ))
            .await;
        let mut names: Vec<String> = strings(&properties);
        names.sort();
        names
    };
    assert_eq!(named("1").await, ["email", "plan"]);
    assert_eq!(named("2").await, ["plan"]);
}

/// The texts in the arrays of an object's values: wherever the names of attributes are listed.
fn strings(properties: &Value) -> Vec<String> {
    let values = properties
        .as_object()
        .expect("properties are an object")
        .values();
    values
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_no_event() {
    let db = recording(TABLE).await;
    db.sql.run("insert into customers values (1, 'a@example.com', 'Ana', 'free'), (2, null, 'Bo', 'pro')").await;
    assert!(
        events_of(&db.sql, "update customers set plan = plan, email = email")
            .await
            .is_empty()
    );
    assert_eq!(
        events_of(&db.sql, "update customers set plan = 'pro'").await,
        ["user-updated|1"]
    );
    assert_eq!(
        events_of(&db.sql, "update customers set email = null").await,
        ["user-updated|1"]
    );
}

#[tokio::test]
async fn every_way_to_write_rows_makes_one_event_for_each_row() {
    let db = recording(TABLE).await;
    let sql = &db.sql;
    assert_eq!(
        events_of(
            sql,
            "insert into customers (id) select generate_series(1, 3)"
        )
        .await,
        ["user-created|1", "user-created|2", "user-created|3"]
    );
    db.psql("copy customers (id, name) from stdin;\n4\tDan\n5\tEve\n\\.\n");
    assert_eq!(
        sql.rows(EVENTS).await[3..],
        ["user-created|4", "user-created|5"]
    );
    assert_eq!(
        events_of(
            sql,
            "insert into customers (id, name) values (5, 'Eva'), (6, 'Flo')
             on conflict (id) do update set name = excluded.name"
        )
        .await,
        ["user-created|6", "user-updated|5"]
    );
    assert!(
        events_of(
            sql,
            "insert into customers (id) values (6) on conflict do nothing"
        )
        .await
        .is_empty()
    );
    assert_eq!(
        events_of(
            sql,
            "merge into customers as c using (values (1, 'Al'), (2, null), (7, 'Gus')) as new (id, name) on c.id = new.id
             when matched and new.name is null then delete
             when matched then update set name = new.name
             when not matched then insert (id, name) values (new.id, new.name)"
        )
        .await,
        ["user-created|7", "user-deleted|2", "user-updated|1"]
    );
    assert_eq!(
        events_of(
            sql,
            "with gone as (delete from customers where id = 1 returning id), new as (insert into customers (id) values (8))
             update customers set name = 'x' where id = 3"
        )
        .await,
        ["user-created|8", "user-deleted|1", "user-updated|3"]
    );
    assert_eq!(
        events_of(sql, "truncate customers").await,
        [
            "user-deleted|3",
            "user-deleted|4",
            "user-deleted|5",
            "user-deleted|6",
            "user-deleted|7",
            "user-deleted|8"
        ]
    );
}

#[tokio::test]
async fn a_row_change_and_its_events_commit_together_or_not_at_all() {
    let db = recording(TABLE).await;
    let other = db.session().await;
    db.sql.run("begin; insert into customers (id) values (1); savepoint s; insert into customers (id) values (2); rollback to s").await;
    assert!(
        other.rows(EVENTS).await.is_empty(),
        "an event was seen before its row"
    );
    db.sql.run("commit").await;
    assert_eq!(other.rows(EVENTS).await, ["user-created|1"]);
    db.sql
        .run("begin; insert into customers (id) values (3); rollback")
        .await;
    assert_eq!(other.rows(EVENTS).await, ["user-created|1"]);
}

#[tokio::test]
async fn a_customer_is_revoked_when_the_condition_turns_true() {
    let db = recording(
        "create table customers (id bigint primary key, status text);
         select actionflow.watch_customers('customers', revoked_when => 'status = ''blocked''')",
    )
    .await;
    db.sql
        .run("insert into customers values (1, 'active'), (2, null), (3, 'active')")
        .await;
    let revoked = async |statement: &str| {
        let events = events_of(&db.sql, statement).await;
        events
            .into_iter()
            .filter(|event| event.starts_with("user-revoked"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        revoked("update customers set status = 'blocked' where id < 3").await,
        ["user-revoked|1", "user-revoked|2"]
    );
    assert!(
        revoked("update customers set status = 'blocked' where id < 3")
            .await
            .is_empty()
    );
    assert!(
        revoked("update customers set status = 'active' where id = 1")
            .await
            .is_empty()
    );
    assert_eq!(
        revoked("update customers set status = 'blocked'").await,
        ["user-revoked|1", "user-revoked|3"]
    );
}

#[tokio::test]
async fn an_event_is_stored_only_when_something_can_use_it() {
    let scene = Scene::telling_crm_of("user-deleted").await;
    let sql = scene.sql();
    sql.run("insert into customers (id) values (1), (2); update customers set plan = 'pro'")
        .await;
    assert!(
        sql.rows(EVENTS).await.is_empty(),
        "nothing listens to these"
    );
    sql.run("delete from customers where id = 1").await;
    let stored = sql
        .rows("select name, user_id from actionflow.events where name like 'user-%'")
        .await;
    assert_eq!(stored, ["user-deleted|1"]);
    sql.run("select actionflow.set_setting('record_all_events', 'true'); update customers set plan = 'free'").await;
    let stored = sql
        .rows("select name, user_id from actionflow.events where name = 'user-updated'")
        .await;
    assert_eq!(stored, ["user-updated|2"]);
}
