//! Rows ask before they are inserted whatever their table looks like, and whatever becomes of it.

use actionflow_tests::Session;
use serde_json::json;

use crate::asking::{asking, data, enrich, flow_on};
use crate::enrich_rows::{FILL, ask_before, by_ip, with_logins};

#[tokio::test]
async fn a_column_that_goes_later_is_an_error_or_left_out() {
    let options = r#"{"properties": ["ip", "note"], "fill": {"decision": "action", "score": "results.risk.data.score"}}"#;
    let (scene, _worker) = with_logins(options).await;
    by_ip(&scene);
    scene
        .sql()
        .run("alter table logins drop column note, drop column decision")
        .await;
    scene
        .sql()
        .run("insert into logins (user_id, ip) values (42, 'allow')")
        .await;
    assert_eq!(
        scene
            .sql()
            .rows("select user_id, ip, score from logins")
            .await,
        ["42|allow|1.5"]
    );
    let message = scene.receiver.wait_for_one("/risk").await.json();
    assert_eq!(
        message["data"]["event"]["properties"],
        json!({"ip": "allow"})
    );
    scene
        .sql()
        .run("alter table logins rename column user_id to customer")
        .await;
    let error = scene
        .sql()
        .error("insert into logins (customer, ip) values (42, 'allow')")
        .await;
    assert!(error.message.contains("\"user_id\""), "{error:?}");
    assert_eq!(scene.receiver.requests("/risk").len(), 1);
}

#[tokio::test]
async fn a_table_of_any_shape_is_filled_in() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    scene
        .sql()
        .run(
            r#"create domain score as numeric check (value >= 0);
               create type mood as enum ('good', 'bad');
               create table "Log ins" (
                   gone int, "User" text, gone_too text, points score, doubled numeric generated always as (points * 2) stored,
                   tags text[], at timestamptz, attrs jsonb, mood mood, size int default 3);
               alter table "Log ins" drop column gone, drop column gone_too"#,
        )
        .await;
    let fill = json!({"user_id": "User", "fill": {
        "points": "results.risk.data.points", "tags": "results.risk.data.tags", "at": "results.risk.data.at",
        "attrs": "results", "mood": "results.risk.data.mood"}});
    ask_before(&scene, "\"Log ins\"", &fill.to_string()).await;
    let given = json!({"points": 4.5, "tags": ["a", "b \"c\""], "at": "2026-11-22T03:00:00Z", "mood": "bad"});
    scene.receiver.script("/risk", [data(given)]);
    scene
        .sql()
        .run(r#"insert into "Log ins" ("User") values ('42')"#)
        .await;
    let row = r#"select "User", points, doubled, tags[2], at = '2026-11-22 03:00+00', attrs #>> '{risk,data,mood}', mood, size
        from "Log ins""#;
    assert_eq!(
        scene.sql().rows(row).await,
        ["42|4.5|9.0|b \"c\"|t|bad|bad|3"]
    );
    for (points, code) in [(json!(-1), "23514"), (json!("many"), "22P02")] {
        scene
            .receiver
            .script("/risk", [data(json!({"points": points}))]);
        let error = scene
            .sql()
            .error(r#"insert into "Log ins" ("User") values ('43')"#)
            .await;
        assert_eq!(error.code, code, "{error:?}");
    }
}

#[tokio::test]
async fn rows_of_a_partitioned_table_ask_before_they_lie_in_their_partition() {
    let (scene, _worker) = asking(json!([enrich("risk", json!({}))])).await;
    scene
        .sql()
        .run(
            "create table logins (user_id text, region text, decision text) partition by list (region);
             create table logins_eu (decision text, gone int, region text, user_id text);
             alter table logins_eu drop column gone;
             alter table logins attach partition logins_eu for values in ('eu');
             create table logins_us partition of logins for values in ('us')",
        )
        .await;
    ask_before(
        &scene,
        "logins",
        r#"{"fill": {"decision": "results.risk.data.decision"}}"#,
    )
    .await;
    scene
        .receiver
        .always("/risk", data(json!({"decision": "fine"})));
    scene
        .sql()
        .run("insert into logins (user_id, region) values ('1', 'eu'), ('2', 'us')")
        .await;
    scene
        .sql()
        .run("insert into logins_eu (user_id, region) values ('3', 'eu')")
        .await;
    let rows = "select tableoid::regclass, user_id, region, decision from logins order by user_id";
    assert_eq!(
        scene.sql().rows(rows).await,
        [
            "logins_eu|1|eu|fine",
            "logins_us|2|us|fine",
            "logins_eu|3|eu|fine"
        ]
    );
    scene
        .sql()
        .run("select actionflow.stop_enrich_before_insert('logins', 'login')")
        .await;
    scene
        .sql()
        .run("insert into logins (user_id, region) values ('4', 'eu')")
        .await;
    assert_eq!(scene.receiver.requests("/risk").len(), 3);
}

#[tokio::test]
async fn two_events_of_one_table_ask_both_and_a_long_name_is_a_name() {
    let (scene, _worker) = with_logins("{}").await;
    let long = "ö".repeat(100);
    flow_on(&scene, "long", &long, json!([enrich("risk", json!({}))])).await;
    let add = format!(
        r#"select actionflow.enrich_before_insert('logins', '{long}', '{{"on_block": "skip"}}')"#
    );
    scene.sql().run(&add).await;
    scene.receiver.always("/risk", data(json!({})));
    scene
        .sql()
        .run("insert into logins (user_id) values (1)")
        .await;
    assert_eq!(scene.receiver.requests("/risk").len(), 2);
    scene
        .sql()
        .run(&format!(
            "select actionflow.stop_enrich_before_insert('logins', '{long}')"
        ))
        .await;
    scene
        .sql()
        .run("insert into logins (user_id) values (2)")
        .await;
    assert_eq!(scene.receiver.requests("/risk").len(), 3);
}

/// Makes operators of a role's own in the schema `evil`, which note in `test.ran_as` as whom they run.
async fn shadow_operators(mallory: &Session) {
    let types = [
        "bigint",
        "int",
        "text",
        "boolean",
        "name",
        "oid",
        "timestamptz",
    ];
    for kind in types {
        for (operator, name) in [("=", "eq"), ("<>", "ne"), (">", "gt"), ("<", "lt")] {
            mallory
                .run(&format!(
                    "create function evil.{name}({kind}, {kind}) returns boolean language plpgsql as $$
                     begin
                         perform pg_catalog.set_config('test.ran_as', pg_catalog.concat(pg_catalog.current_setting('test.ran_as', true),
                             ' ', current_user::pg_catalog.text), false);
                         return $1 operator(pg_catalog.{operator}) $2;
                     end $$;
                     create operator evil.{operator} (leftarg = {kind}, rightarg = {kind}, function = evil.{name})"
                ))
                .await;
        }
    }
}

/// Whoever inserts chooses the search path, and what stands there must never run as somebody else.
#[tokio::test]
async fn operators_and_functions_of_whoever_inserts_do_not_run_with_the_extensions_rights() {
    let (scene, _worker) = with_logins(FILL).await;
    by_ip(&scene);
    scene
        .sql()
        .run(
            r#"select actionflow.add_test_user('42'), actionflow.set_setting('record_all_events', 'true');
               select actionflow.create_segment('active', '{"event": "login", "count": {"gte": 1}, "within_last": "30 days"}');
               insert into customers (id) values (42)"#,
        )
        .await;
    flow_on(&scene, "other", "login", json!([enrich("risk", json!({}))])).await;
    scene
        .sql()
        .run("select actionflow.set_trigger_mode(max(t.id), 'test') from actionflow.triggers as t where t.kind = 'event'")
        .await;
    let role = format!("{}_mallory", scene.db.name());
    scene
        .sql()
        .run(&format!(
            "create role {role} login; grant insert on logins to {role};
             create schema evil authorization {role}"
        ))
        .await;
    let mallory = Session::connect(&scene.db.url_as(&role)).await;
    shadow_operators(&mallory).await;
    mallory
        .run("set search_path = evil, public, pg_catalog")
        .await;
    mallory
        .run("insert into public.logins (user_id, ip) values (42, 'allow')")
        .await;
    let ran_as = mallory
        .text("select pg_catalog.current_setting('test.ran_as', true)")
        .await;
    let others: Vec<_> = ran_as
        .split_whitespace()
        .filter(|name| *name != role)
        .collect();
    assert!(others.is_empty(), "a function of {role} ran as {others:?}");
    assert_eq!(
        scene
            .sql()
            .rows("select user_id, decision from logins")
            .await,
        ["42|allow"]
    );
    scene
        .sql()
        .run(&format!("drop owned by {role}; drop role {role}"))
        .await;
}
