//! What statements on a watched table become.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{scene, text};
    use pgrx::prelude::*;

    const EVENTS: &str = "select string_agg(e.name || ' ' || e.user_id || ' ' || e.properties::text, ', ' order by e.id)
         from actionflow.events as e";

    fn listen(events: &[&str]) {
        for event in events {
            Spi::run(&format!(
                "select actionflow.add_event_trigger('welcome', '{event}')"
            ))
            .expect("trigger");
        }
    }

    #[pg_test]
    fn nothing_is_stored_while_nothing_listens() {
        scene();
        Spi::run("insert into customers values (1, 'a@example.com'); update customers set plan = 'pro'; delete from customers")
            .expect("statements");
        assert_eq!(text(EVENTS), "NULL");
    }

    #[pg_test]
    fn the_setting_that_records_all_stores_without_a_listener() {
        scene();
        Spi::run("select actionflow.set_setting('record_all_events', 'true'); insert into customers values (1)").expect("statements");
        assert_eq!(text(EVENTS), "user-created 1 {}");
        assert_eq!(text("select count(*) from actionflow.runs"), "0");
    }

    #[pg_test]
    fn an_update_names_the_attributes_that_changed_and_only_customers_that_changed() {
        scene();
        listen(&["user-updated"]);
        Spi::run(
            "insert into customers values (1, 'a@example.com', 'Ana', 'free'), (2, 'b@example.com', 'Bob', 'pro');
             update customers set plan = 'pro', email = lower(email);
             update customers set plan = plan;
             update customers set plan = null where id = 2",
        )
        .expect("statements");
        assert_eq!(
            text(EVENTS),
            "user-updated 1 {\"changed_attributes\": [\"plan\"]}, user-updated 2 {\"changed_attributes\": [\"plan\"]}"
        );
    }

    #[pg_test]
    fn a_value_that_is_only_stored_in_another_way_has_not_changed() {
        scene();
        listen(&["user-updated"]);
        Spi::run(
            "alter table customers alter column plan set storage external;
             insert into customers (id, plan) values (1, repeat('x', 10000));
             alter table customers alter column plan set storage extended;
             update customers set plan = repeat('x', 10000)",
        )
        .expect("statements");
        assert_eq!(text(EVENTS), "NULL");
    }

    #[pg_test]
    fn a_changed_primary_key_is_one_customer_gone_and_another_one_come() {
        scene();
        listen(&["user-created", "user-updated", "user-deleted"]);
        Spi::run("insert into customers values (1, 'a@example.com'); update customers set id = 5")
            .expect("statements");
        assert_eq!(
            text(EVENTS),
            "user-created 1 {}, user-deleted 1 {}, user-created 5 {}"
        );
    }

    #[pg_test]
    fn ids_that_move_along_are_matched_by_id_and_not_by_position() {
        scene();
        Spi::run("alter table customers drop constraint customers_pkey").expect("no key");
        listen(&["user-created", "user-updated", "user-deleted"]);
        Spi::run(
            "insert into customers values (1, 'a'), (2, 'b'), (3, 'c'); delete from actionflow._event;
             update customers set id = id + 1",
        )
        .expect("statements");
        assert_eq!(
            text(EVENTS),
            "user-deleted 1 {}, user-updated 2 {\"changed_attributes\": [\"email\"]}, \
             user-updated 3 {\"changed_attributes\": [\"email\"]}, user-created 4 {}"
        );
    }

    #[pg_test]
    fn a_condition_that_turns_true_revokes_once() {
        scene();
        listen(&["user-revoked"]);
        Spi::run(
            "insert into customers (id, is_revoked) values (1, false), (2, null), (3, true);
             update customers set is_revoked = true;
             update customers set is_revoked = true, plan = 'x';
             update customers set is_revoked = false where id = 1;
             update customers set is_revoked = true where id = 1",
        )
        .expect("statements");
        assert_eq!(
            text(EVENTS),
            "user-revoked 1 {}, user-revoked 2 {}, user-revoked 1 {}"
        );
    }

    #[pg_test]
    fn a_deleted_customer_keeps_the_profile_that_it_had() {
        scene();
        listen(&["user-deleted"]);
        Spi::run("insert into customers values (1, 'a@example.com', 'Ana'), (2, null, null); delete from customers where id = 1; truncate customers")
            .expect("statements");
        assert_eq!(
            text(
                "select string_agg(d.profile::text, ', ' order by d.id) from actionflow._delivery as d"
            ),
            "{\"email\": \"a@example.com\", \"first_name\": \"Ana\"}, {}"
        );
    }

    #[pg_test]
    fn a_row_without_an_id_is_nobody() {
        scene();
        Spi::run(
            "create table leads (id text, email text); select actionflow.watch_customers('leads')",
        )
        .expect("table");
        listen(&["user-created", "user-deleted"]);
        Spi::run("insert into leads values (null, 'x'), ('a', 'y'); truncate leads")
            .expect("statements");
        assert_eq!(text(EVENTS), "user-created a {}, user-deleted a {}");
    }

    #[pg_test]
    fn a_bulk_statement_is_written_in_several_flushes_without_loss() {
        scene();
        listen(&["user-created"]);
        Spi::run("insert into customers (id) select g from generate_series(1, 12345) as g")
            .expect("statements");
        assert_eq!(
            text("select count(*) || ' ' || count(distinct user_id) from actionflow.events"),
            "12345 12345"
        );
        assert_eq!(
            text("select count(*) from actionflow.runs where state = 'completed'"),
            "12345"
        );
        assert_eq!(
            text("select count(distinct user_id) from actionflow.deliveries"),
            "12345"
        );
    }

    #[pg_test]
    fn a_rolled_back_statement_leaves_nothing() {
        scene();
        listen(&["user-created"]);
        Spi::run(
            "do $$ begin
                 insert into customers (id) values (1);
                 begin
                     insert into customers (id) values (2);
                     raise exception 'undo';
                 exception when raise_exception then null;
                 end;
             end $$",
        )
        .expect("statements");
        assert_eq!(text(EVENTS), "user-created 1 {}");
        assert_eq!(text("select count(*) from actionflow.deliveries"), "1");
    }
}
