//! Which tables can be watched: partitioned ones, several, ids of any type; and how watching ends.

use serde_json::json;

use crate::customers::{TABLE, events_of, recording};
use crate::scene::Scene;

#[tokio::test]
async fn a_partitioned_table_makes_the_events_of_an_ordinary_one() {
    let db = recording(
        "create table customers (id bigint, country text, name text, primary key (id, country)) partition by list (country);
         create table customers_de partition of customers for values in ('de');
         create table customers_fr partition of customers for values in ('fr');
         select actionflow.watch_customers('customers')",
    )
    .await;
    let sql = &db.sql;
    assert_eq!(
        events_of(sql, "insert into customers values (1, 'de'), (2, 'fr')").await,
        ["user-created|1", "user-created|2"]
    );
    assert_eq!(
        events_of(sql, "insert into customers_de values (3, 'de')").await,
        ["user-created|3"]
    );
    assert_eq!(
        events_of(sql, "update customers set name = 'x' where id < 3").await,
        ["user-updated|1", "user-updated|2"]
    );
    assert_eq!(
        events_of(sql, "update customers set country = 'fr' where id = 1").await,
        ["user-updated|1"]
    );
    sql.run("create table customers_it partition of customers for values in ('it')")
        .await;
    assert_eq!(
        events_of(sql, "insert into customers_it values (4, 'it')").await,
        ["user-created|4"]
    );
    assert_eq!(
        events_of(sql, "delete from customers_fr where id = 2").await,
        ["user-deleted|2"]
    );
    assert_eq!(
        events_of(sql, "truncate customers").await,
        ["user-deleted|1", "user-deleted|3", "user-deleted|4"]
    );
}

#[tokio::test]
async fn ids_may_be_uuids_or_text() {
    let db = recording(
        "create table people (person uuid primary key, name text);
         create table accounts (code text primary key, name text);
         select actionflow.watch_customers('people', 'person');
         select actionflow.watch_customers('accounts', 'code')",
    )
    .await;
    let id = "6f1c9a52-3c1d-4f0e-9f43-0a3f5d1c2b7e";
    assert_eq!(
        events_of(
            &db.sql,
            &format!("insert into people values ('{}', 'Ana')", id.to_uppercase())
        )
        .await,
        [format!("user-created|{id}")]
    );
    assert_eq!(
        events_of(&db.sql, "insert into accounts values ('Ä/1 \"x\"')").await,
        ["user-created|Ä/1 \"x\""]
    );
}

#[tokio::test]
async fn the_first_watched_table_holds_the_profile() {
    let scene = Scene::telling_crm_of("purchase").await;
    scene
        .sql()
        .run(
            "create table leads (id bigint primary key, email text);
             select actionflow.watch_customers('leads');
             insert into customers (id, email) values (1, 'customer@example.com');
             insert into leads values (1, 'lead@example.com')",
        )
        .await;
    scene
        .sql()
        .run("select actionflow.emit_event('purchase', '1')")
        .await;
    let _worker = scene.db.worker().await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(request.json()["data"]["user"]["id"], "1");
    assert!(!request.json().to_string().contains("lead@example.com"));
}

#[tokio::test]
async fn a_chosen_profile_is_what_is_told() {
    let scene = Scene::telling_crm_of("user-created").await;
    scene
        .sql()
        .run("select actionflow.watch_customers('customers', profile => '{plan}')")
        .await;
    scene
        .sql()
        .run("insert into customers values (1, 'ana@example.com', 'Ana', 'pro')")
        .await;
    let _worker = scene.db.worker().await;
    let request = scene.receiver.wait_for_one("/crm").await;
    assert_eq!(
        request.json()["data"]["user"],
        json!({"id": "1", "plan": "pro"})
    );
}

#[tokio::test]
async fn a_changed_primary_key_is_one_customer_gone_and_another_one_come() {
    let db = recording(TABLE).await;
    db.sql
        .run("insert into customers (id, name) values (1, 'Ana'), (2, 'Bo')")
        .await;
    assert_eq!(
        events_of(&db.sql, "update customers set id = 10 where id = 1").await,
        ["user-created|10", "user-deleted|1"]
    );
    assert_eq!(
        events_of(
            &db.sql,
            "update customers set id = id + 1, name = name || '!' where id in (2, 10)"
        )
        .await,
        [
            "user-created|11",
            "user-created|3",
            "user-deleted|10",
            "user-deleted|2"
        ]
    );
}

#[tokio::test]
async fn an_unwatched_table_makes_no_events() {
    let db = recording(TABLE).await;
    db.sql
        .run("select actionflow.unwatch_customers('customers')")
        .await;
    assert!(
        events_of(&db.sql, "insert into customers (id) values (1)")
            .await
            .is_empty()
    );
    assert_eq!(
        db.sql.number("select count(*) from pg_trigger where tgrelid = 'customers'::regclass and not tgisinternal").await,
        0
    );
    db.sql
        .run("select actionflow.watch_customers('customers')")
        .await;
    assert_eq!(
        events_of(&db.sql, "delete from customers").await,
        ["user-deleted|1"]
    );
}

#[tokio::test]
async fn names_may_need_quotes_and_columns_may_be_of_any_type() {
    let db = recording(
        r#"create schema "My Shop";
           create table "My Shop"."Kun'den" ("ID" text primary key, "Na""me" text, plan json, place point);
           select actionflow.watch_customers('"My Shop"."Kun''den"', 'ID', array['Na"me'])"#,
    )
    .await;
    let table = r#""My Shop"."Kun'den""#;
    let insert = format!(r#"insert into {table} values ('q''1', 'n', '{{"a": 1}}', '(1,2)')"#);
    assert_eq!(events_of(&db.sql, &insert).await, ["user-created|q'1"]);
    for change in [
        r#""Na""me" = 'z'"#,
        r#"plan = '{"a": 2}'"#,
        "place = '(3,4)'",
    ] {
        let update = format!("update {table} set {change}");
        assert_eq!(
            events_of(&db.sql, &update).await,
            ["user-updated|q'1"],
            "{update}"
        );
        assert!(
            events_of(&db.sql, &update).await.is_empty(),
            "again: {update}"
        );
    }
    assert_eq!(
        events_of(&db.sql, &format!("delete from {table}")).await,
        ["user-deleted|q'1"]
    );
}

#[tokio::test]
async fn customers_that_a_foreign_key_changes_or_deletes_are_told() {
    let db = recording(
        "create table companies (id int primary key);
         create table customers (id bigint primary key, company int references companies on update cascade on delete cascade);
         select actionflow.watch_customers('customers');
         insert into companies values (1);
         insert into customers values (1, 1), (2, 1)",
    )
    .await;
    let renumbered = events_of(&db.sql, "update companies set id = 2").await;
    assert_eq!(renumbered, ["user-updated|1", "user-updated|2"]);
    assert_eq!(
        events_of(&db.sql, "delete from companies").await,
        ["user-deleted|1", "user-deleted|2"]
    );
}
