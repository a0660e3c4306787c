//! probe
use crate::scene::*;
#[tokio::test]
async fn probe() {
    let scene = Scene::new().await;
    let sql = scene.sql();
    scene.endpoint("crm", "{}").await;
    scene.flow("welcome", &["crm"]).await;
    sql.run("select actionflow.set_setting('record_all_events','true')").await;
    for s in [
        "select * from actionflow.start_flow('welcome', null)",
        "select * from actionflow.start_flow(null, '{}')",
        "select * from actionflow.start_flow('welcome', '{\"targetUserIds\":\"1\"}', null)",
        "select actionflow.create_flow(null, '{\"actions\":[]}')",
        "select actionflow.create_flow('x', null)",
        "select actionflow.update_flow('welcome', null)",
        "select actionflow.create_endpoint('x', null)",
        "select actionflow.create_endpoint('x2', 'https://example.com', null)",
        "select actionflow.update_endpoint('crm', null)",
        "select * from actionflow.publish_flow(null)",
        "select actionflow.archive_flow(null)",
        "select actionflow.add_event_trigger('welcome', null)",
        "select actionflow.add_event_trigger('welcome', 'x', null)",
        "select actionflow.emit_event('x', null)",
        "select actionflow.emit_event('x', '1', null)",
        "select actionflow.emit_event('x', '1', '{}', null)",
        "select actionflow.set_setting(null, '1')",
        "select actionflow.set_setting('max_flow_depth', null)",
        "select actionflow.watch_customers(null)",
        "select actionflow.watch_customers('customers', null)",
        "select actionflow.replay_delivery(null)",
        "select actionflow.cancel_run(null)",
        "select actionflow.add_test_user(null)",
        "select actionflow.remove_test_user(null)",
        "select actionflow.grant_app(null)",
        "select actionflow.grant_app('nobody_here')",
        "select actionflow.emit_event('Bad Name!', '1')",
        "select actionflow.emit_event(repeat('x', 5000), '1')",
        "select actionflow.create_endpoint('bad', 'https://example.com', '{\"secret\": \"whsec_AAAA\"}')",
        // odd columns
        "create table odd (id bigint primary key, j json, p point, x xml, email text); select actionflow.watch_customers('odd')",
        "insert into odd values (1, '{\"a\":1}', '(1,2)', '<a/>')",
        "update odd set j = '{\"a\":2}'",
        "update odd set email = 'x'",
        "update odd set p = '(3,4)'",
        "select name, user_id, properties from actionflow.events where id > 2",
        // fk cascade
        "create table companies (id int primary key); create table staff (id bigint primary key, c int references companies on delete cascade on update cascade); select actionflow.watch_customers('staff'); insert into companies values (1); insert into staff values (500, 1), (501, 1); update companies set id = 2; delete from companies",
        "select name, user_id, properties from actionflow.events where user_id in ('500','501') order by id",
        // revoked_when rename
        "create table rv (id bigint primary key, status text, email text); select actionflow.watch_customers('rv', revoked_when => 'status = ''blocked''')",
        "alter table rv rename column status to st",
        "insert into rv values (1, 'x'); update rv set st = 'blocked'",
        "alter table rv drop column st",
        "update rv set email = 'q'",
        "create schema \"My Shop\"; create table \"My Shop\".\"Kun'den\" (\"ID\" text primary key, \"email\" text, \"Na\"\"me\" text); select actionflow.watch_customers('\"My Shop\".\"Kun''den\"', 'ID', array['email', 'Na\"me']); insert into \"My Shop\".\"Kun'den\" values ('q''1', 'e', 'n'); update \"My Shop\".\"Kun'den\" set \"Na\"\"me\" = 'z'; delete from \"My Shop\".\"Kun'den\"",
        "select name, user_id, properties from actionflow.events where user_id like 'q%' order by id",
        "alter table customers alter column id type text",
        "insert into customers (id, email) values ('zz', 'a'); update customers set email = 'b'",
        "select name, user_id, properties from actionflow.events where user_id like 'z%' order by id",
        "alter table customers add column age int; update customers set age = 3",
        "select name, user_id, properties from actionflow.events where user_id like 'z%' order by id",
        "create view cv as select * from customers; select actionflow.watch_customers('cv')",
        "create temp table tt (id int); select actionflow.watch_customers('tt')",
        "create table inh_parent (id bigint primary key, email text); create table inh_child () inherits (inh_parent); select actionflow.watch_customers('inh_parent'); insert into inh_child values (900, 'x'); update inh_parent set email = 'y'; delete from inh_parent",
        "select name, user_id, properties from actionflow.events where user_id = '900' order by id",
    ] {
        let r = sql.try_rows(s).await;
        println!("{}\n    -> {}", s, match r { Ok(r) => format!("{r:?}"), Err(e) => format!("ERR {} {} | {} | {}", e.code, e.message, e.detail, e.hint)});
    }
}
