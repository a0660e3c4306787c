//! Every mistake has a SQLSTATE, and says what to do.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{error_of, scene, text};
    use pgrx::prelude::*;

    /// Statements with what they must say.
    const MISTAKES: &[(&str, &str)] = &[
        (
            "select actionflow.create_flow('x', '{\"actions\": [], \"steps\": []}')",
            "22023 | invalid flow definition: unknown key \"steps\" | At path $. | Use only: variables, actions.",
        ),
        (
            "select actionflow.create_flow('x', '{\"actions\": [{\"name\": \"a\", \"type\": \"notify\", \"endpoints\": [\"nope\"]}]}')",
            "42704 | endpoint \"nope\" does not exist | At path $.actions[0].endpoints[0]. | Create it with actionflow.create_endpoint.",
        ),
        (
            "select actionflow.create_flow('x', '{\"actions\": [{\"name\": \"a\", \"type\": \"enrich\"}]}')",
            "22023 | invalid flow definition: key \"endpoint\" is missing | At path $.actions[0]. | Add the key \"endpoint\".",
        ),
        (
            "select actionflow.create_flow('welcome', '{\"actions\": []}')",
            "42710 | flow \"welcome\" already exists | Change its draft with actionflow.update_flow.",
        ),
        (
            "select actionflow.create_flow(' x', '{\"actions\": []}')",
            "22023 | invalid flow name ' x' | Use 1 to 100 printable characters without \"/\" and without blanks at either end.",
        ),
        (
            "select actionflow.create_endpoint('e', 'ftp://example.com')",
            "22023 | invalid endpoint options: the URL cannot be used | At path $.url. | Use an absolute http or https URL with a host and without a user name, password or fragment.",
        ),
        (
            "select actionflow.create_endpoint('e', 'http://example.com', '{\"timeout\": 3}')",
            "22023 | invalid endpoint options: unknown key \"timeout\" | At path $. | Use only: url, headers, timeout_ms, success, retry_seconds, max_in_flight, rate_per_second, ordered, test_url, secret, answer_key, format, set, breaker_failures, breaker_seconds.",
        ),
        (
            "select * from actionflow.start_flow('nope', '{\"targetUserIds\": \"1\"}')",
            "42704 | flow \"nope\" does not exist | Create it with actionflow.create_flow.",
        ),
        (
            "select * from actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\"}', 'dry')",
            "22023 | invalid mode \"dry\" | Use one of: live, test.",
        ),
        (
            "select * from actionflow.start_flow('welcome', '{\"targetUserIds\": 1.5}')",
            "22023 | invalid trigger payload: expected a string, got a number | At path $.targetUserIds[0]. | Give a string.",
        ),
        (
            "select actionflow.emit_event('x', '1', '[]')",
            "22023 | the properties of an event must be a JSON object | Give an object such as '{\"amount\": 10}'.",
        ),
        (
            "select actionflow.emit_event('registration', '1')",
            "22023 | event \"registration\" needs \"verification_url\" in its properties | Give the link that the person has to follow, as an absolute http or https URL.",
        ),
        (
            "select actionflow.watch_customers('customers', 'nope')",
            "42703 | column \"nope\" of relation \"public.customers\" does not exist | Name columns of the customer table in id_column and profile.",
        ),
        (
            "select actionflow.watch_customers('pg_stats')",
            "42809 | \"pg_stats\" is not a permanent table | Watch an ordinary or a partitioned table.",
        ),
        (
            "select actionflow.unwatch_customers('pg_class')",
            "42704 | table \"pg_class\" is not watched | Call actionflow.watch_customers first.",
        ),
        (
            "select actionflow.delete_endpoint('crm')",
            "2BP01 | endpoint \"crm\" is used by flow \"welcome\" | Publish the flow without the endpoint, or archive it.",
        ),
        (
            "select actionflow.set_trigger_mode(1, 'off')",
            "22023 | invalid trigger mode 'off' | Use one of: test, live, disabled.",
        ),
        (
            "select actionflow.remove_trigger(t.id) from actionflow.triggers as t",
            "55000 | the api trigger of a flow is always there | Archive the flow to stop it from being started.",
        ),
        (
            "select actionflow.replay_delivery(99)",
            "42704 | delivery 99 does not exist | actionflow.deliveries lists the deliveries.",
        ),
        (
            "select actionflow.cancel_run(99)",
            "42704 | run 99 does not exist | actionflow.runs lists the runs.",
        ),
        (
            "select actionflow.set_setting('max_flow_depth', '100')",
            "22023 | invalid value for setting \"max_flow_depth\" | Give a whole number from 1 to 64.",
        ),
        (
            "select actionflow.add_webhook_trigger(null)",
            "42704 | flow NULL does not exist | Create it with actionflow.create_flow.",
        ),
        (
            "select actionflow.set_setting('nope', null)",
            "42704 | setting \"nope\" does not exist | select name from actionflow.settings; lists them.",
        ),
    ];

    #[pg_test]
    fn mistakes_are_told_with_code_detail_and_hint() {
        scene();
        for (statement, expected) in MISTAKES {
            assert_eq!(error_of(statement), *expected, "{statement}");
        }
    }

    #[pg_test]
    fn what_is_too_large_is_refused_whole() {
        scene();
        let payload = "jsonb_build_object('targetUserIds', '1', 'metadata', jsonb_build_object('x', repeat('y', 1024 * 1024)))";
        assert_eq!(
            error_of(&format!(
                "select * from actionflow.start_flow('welcome', {payload})"
            )),
            "54000 | the payload is larger than 1 MiB | Send a reference to large data instead of the data."
        );
        assert!(error_of("select actionflow.emit_event('x', '1', jsonb_build_object('x', repeat('y', 1024 * 1024)))").starts_with("54000"));
        assert_eq!(text("select count(*) from actionflow.runs"), "0");
    }

    #[pg_test]
    fn a_missing_variable_is_named_and_nothing_is_started() {
        scene();
        Spi::run(
            "select actionflow.create_flow('coupons', '{\"variables\": {\"coupon\": {\"required\": true}}, \"actions\": []}');
             select * from actionflow.publish_flow('coupons')",
        )
        .expect("flow");
        assert_eq!(
            error_of(
                "select * from actionflow.start_flow('coupons', '[{\"targetUserIds\": \"1\", \"variables\": {\"coupon\": 1}}, {\"targetUserIds\": \"2\"}]')"
            ),
            "22023 | required variable \"coupon\" is missing | Flow \"coupons\" declares it as required. | Give it under \"variables\" of the payload."
        );
        assert_eq!(text("select count(*) from actionflow.runs"), "0");
    }

    #[pg_test]
    fn an_event_without_a_required_variable_leaves_a_failed_run_and_the_statement_goes_on() {
        scene();
        Spi::run(
            "select actionflow.create_flow('coupons', '{\"variables\": {\"coupon\": {\"required\": true}}, \"actions\": []}');
             select * from actionflow.publish_flow('coupons');
             select actionflow.add_event_trigger('coupons', 'user-created');
             insert into customers values (1)",
        )
        .expect("statements");
        assert_eq!(
            text("select r.state || ': ' || r.error from actionflow.runs as r"),
            "failed: required variable \"coupon\" is missing"
        );
    }
}
