//! `#[pg_test]`s by area: what needs a real Postgres and neither a commit nor a second session.

mod bulk;
mod catalog;
mod customers;
mod enrich;
mod errors;
mod jsonb;
mod queue;
mod segment_commands;
mod segment_errors;
mod segment_tables;
mod segment_triggers;
mod segments;
mod start_keys;
mod surface;
mod webhook_records;
mod webhooks;

use pgrx::prelude::*;

/// Waits for other tests that make objects of the same names: without that they would wait for each other in a circle.
pub(crate) fn alone() {
    run("alter sequence actionflow._delivery_id_seq restart");
}

/// One endpoint, one published flow that notifies it, and a watched table; the first delivery has id 1.
pub(crate) fn scene() {
    alone();
    Spi::run(
        "create table public.customers (id bigint primary key, email text, first_name text, plan text, is_revoked boolean);
         select actionflow.create_endpoint('crm', 'http://127.0.0.1:9/hook');
         select actionflow.create_flow('welcome', '{\"actions\": [{\"name\": \"tell\", \"type\": \"notify\", \"endpoints\": [\"crm\"]}]}');
         select * from actionflow.publish_flow('welcome');
         select actionflow.watch_customers('public.customers', revoked_when => 'is_revoked');",
    )
    .expect("scene");
}

/// One value as text, or `NULL`.
pub(crate) fn text(query: &str) -> String {
    Spi::get_one::<String>(&format!("select ({query})::text"))
        .expect("query")
        .unwrap_or_else(|| "NULL".to_owned())
}

/// Runs statements whose results do not matter.
pub(crate) fn run(statements: &str) {
    Spi::run(statements).expect("statements");
}

/// The ids of a segment's members, in their order.
pub(crate) fn members(segment: &str) -> String {
    text(&format!(
        "select coalesce(string_agg(m.user_id, ' ' order by m.user_id collate \"C\"), '')
         from actionflow.segment_members as m where m.segment = '{segment}'"
    ))
}

/// Every crossing that was told, in its order: event, segment and customer.
pub(crate) fn crossings() -> String {
    text(
        "select coalesce(string_agg(concat_ws(' ', e.name, e.properties ->> 'segment', e.user_id), ', ' order by e.id), '')
         from actionflow.events as e where e.name in ('segment-entered', 'segment-exited')",
    )
}

/// SQLSTATE, message, detail and hint of a statement that must fail.
pub(crate) fn error_of(statement: &str) -> String {
    Spi::run(&format!(
        "create or replace function pg_temp.error_of() returns text language plpgsql as $error_of$
         declare v_detail text; v_hint text; v_message text;
         begin
             execute {};
             return 'no error';
         exception when others then
             get stacked diagnostics v_message = message_text, v_detail = pg_exception_detail, v_hint = pg_exception_hint;
             return concat_ws(' | ', sqlstate, v_message, nullif(v_detail, ''), nullif(v_hint, ''));
         end $error_of$",
        quoted(statement)
    ))
    .expect("helper");
    text("pg_temp.error_of()")
}

fn quoted(literal: &str) -> String {
    format!("$statement${literal}$statement$")
}
