//! The customer table changes its shape, or the extension goes: the data stays usable or the change is refused.

use crate::customers::{TABLE, events_of, recording};

#[tokio::test]
async fn a_dropped_column_that_is_read_by_name_is_refused() {
    let db = recording(TABLE).await;
    let refusal = db
        .sql
        .error("alter table customers rename column email to mail")
        .await;
    assert!(refusal.message.contains("email"), "{refusal:?}");
    assert!(!refusal.hint.is_empty(), "{refusal:?}");
    db.sql.run("alter table customers drop column plan").await;
    assert_eq!(
        events_of(&db.sql, "insert into customers (id) values (1)").await,
        ["user-created|1"]
    );
    db.sql.run("drop table customers").await;
}

#[tokio::test]
async fn a_renamed_table_is_still_watched() {
    let db = recording(TABLE).await;
    db.sql.run("alter table customers rename to clients").await;
    assert_eq!(
        events_of(&db.sql, "insert into clients (id) values (1)").await,
        ["user-created|1"]
    );
}

#[tokio::test]
async fn customers_can_be_written_after_the_extension_was_dropped() {
    let db = recording(TABLE).await;
    db.sql.run("drop extension actionflow cascade").await;
    db.sql.run("insert into customers (id) values (1); update customers set name = 'x'; truncate customers").await;
    let left = "select count(*) from pg_trigger where tgrelid = 'customers'::regclass and not tgisinternal";
    assert_eq!(db.sql.number(left).await, 0);
    db.sql
        .run("create extension actionflow; select actionflow.watch_customers('customers')")
        .await;
    db.sql
        .run("select actionflow.set_setting('record_all_events', 'true')")
        .await;
    assert_eq!(
        events_of(&db.sql, "insert into customers (id) values (2)").await,
        ["user-created|2"]
    );
}

#[tokio::test]
async fn a_column_that_revoked_when_uses_cannot_go_away() {
    let db = recording(
        "create table customers (id bigint primary key, email text, status text);
         select actionflow.watch_customers('customers', revoked_when => 'status = ''blocked''')",
    )
    .await;
    for change in ["rename column status to state", "drop column status"] {
        let refusal = db
            .sql
            .error(&format!("alter table customers {change}"))
            .await;
        assert!(refusal.message.contains("customers"), "{refusal:?}");
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
        assert_eq!(
            events_of(&db.sql, "insert into customers (id) values (1)").await,
            ["user-created|1"]
        );
        db.sql.run("delete from customers").await;
    }
}

#[tokio::test]
async fn new_columns_and_a_new_id_type_are_taken_up() {
    let db = recording(TABLE).await;
    db.sql.run("insert into customers (id) values (1)").await;
    db.sql.run("alter table customers add column age int").await;
    assert_eq!(
        events_of(&db.sql, "update customers set age = 30").await,
        ["user-updated|1"]
    );
    db.sql
        .run("alter table customers alter column id type text")
        .await;
    assert_eq!(
        events_of(&db.sql, "insert into customers (id) values ('a')").await,
        ["user-created|a"]
    );
    assert_eq!(
        events_of(&db.sql, "update customers set age = 31 where id = '1'").await,
        ["user-updated|1"]
    );
}
