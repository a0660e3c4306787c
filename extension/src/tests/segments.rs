//! What each operator means on its types, and that members and crossings follow every way to write.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{alone, crossings, members, run, text};
    use pgrx::prelude::*;

    const PEOPLE: &str = "
        create table public.people (
            id bigint primary key, plan text, age int, score numeric, active boolean, uid uuid, seen timestamptz,
            wall timestamp, born date, tags text[], marks int[], attrs jsonb);
        select actionflow.watch_customers('public.people');
        set local actionflow.now = '2024-03-10T00:00:00Z'";

    /// 1 has nothing but an id.
    const ROWS: &str = r#"
        insert into people (id) values (1);
        insert into people values
        (2, 'pro', 20, 1.5, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-03-01T00:00:00Z', '2024-03-01 00:00',
            '2024-03-01', '{a,b}', '{1,2}',
            '{"tier": "gold", "n": 5, "on": true, "list": ["x", "y"], "at": "2024-03-01T12:00:00Z", "nil": null}'),
        (3, 'Free', 30, 'NaN', false, 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-03-02T00:00:00Z', '2024-03-02 00:00',
            '2024-03-02', '{}', '{}', '{"tier": 5, "n": "5", "list": [], "at": "soon"}'),
        (4, 'pro plus', 40, -2, true, null, '2024-04-01T00:00:00Z', '2024-04-01 00:00', '2024-04-01', '{b,null}', '{3}',
            '{"tier": "golden", "n": 50, "list": "x", "at": "2024-04-01"}')"#;

    /// Attribute, operator, value, members.
    const OPERATORS: &[(&str, &str, &str, &str)] = &[
        ("plan", "eq", "\"pro\"", "2"),
        ("plan", "ne", "\"pro\"", "1 3 4"),
        ("plan", "in", "[\"pro\", \"Free\", \"x\"]", "2 3"),
        ("plan", "not_in", "[\"pro\", \"Free\"]", "1 4"),
        ("plan", "contains", "\"pro\"", "2 4"),
        ("plan", "not_contains", "\"pro\"", "1 3"),
        ("plan", "starts_with", "\"pro\"", "2 4"),
        ("plan", "ends_with", "\"plus\"", "4"),
        ("plan", "exists", "", "2 3 4"),
        ("plan", "not_exists", "", "1"),
        ("plan", "gt", "\"pro\"", "4"),
        ("age", "eq", "20", "2"),
        ("age", "eq", "\"20\"", "2"),
        ("age", "ne", "20", "1 3 4"),
        ("age", "in", "[20, 40]", "2 4"),
        ("age", "lt", "30", "2"),
        ("age", "lte", "30", "2 3"),
        ("age", "gt", "30", "4"),
        ("age", "gte", "30", "3 4"),
        ("age", "between", "[20, 30]", "2 3"),
        ("age", "between", "[30, 20]", ""),
        ("score", "gt", "1.4", "2 3"),
        ("score", "eq", "\"NaN\"", "3"),
        ("score", "eq", "1.50", "2"),
        ("score", "lt", "0", "4"),
        ("active", "eq", "true", "2 4"),
        ("active", "ne", "true", "1 3"),
        ("uid", "eq", "\"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\"", "2"),
        ("uid", "not_exists", "", "1 4"),
        ("seen", "before", "\"2024-03-02\"", "2"),
        ("seen", "after", "\"2024-03-01\"", "3 4"),
        ("seen", "on", "\"2024-03-01\"", "2"),
        ("seen", "gte", "\"2024-03-02 01:00+01\"", "3 4"),
        ("seen", "within_last", "\"8 days\"", ""),
        ("seen", "within_last", "\"9 days\"", "3"),
        ("seen", "within_last", "\"P30D\"", "2 3"),
        ("seen", "not_within_last", "\"30 days\"", "1 4"),
        ("seen", "within_next", "\"22 days\"", "4"),
        ("seen", "within_next", "\"21 days\"", ""),
        ("wall", "on", "\"2024-03-02\"", "3"),
        ("wall", "within_last", "\"30 days\"", "2 3"),
        ("born", "after", "\"2024-03-01\"", "3 4"),
        ("born", "before", "\"2024-03-02\"", "2"),
        ("born", "on", "\"2024-04-01\"", "4"),
        ("born", "within_next", "\"22 days\"", "4"),
        ("tags", "has_any", "[\"a\", \"z\"]", "2"),
        ("tags", "has_all", "[\"a\", \"b\"]", "2"),
        ("tags", "has_any", "[\"b\"]", "2 4"),
        ("tags", "has_none", "[\"a\"]", "1 3 4"),
        ("tags", "exists", "", "2 3 4"),
        ("marks", "has_any", "[3, 9]", "4"),
        ("attrs.tier", "eq", "\"gold\"", "2"),
        ("attrs.tier", "ne", "\"gold\"", "1 3 4"),
        ("attrs.tier", "starts_with", "\"gold\"", "2 4"),
        ("attrs.tier", "in", "[\"gold\", 5]", "2 3"),
        ("attrs.n", "eq", "5", "2"),
        ("attrs.n", "gt", "4", "2 4"),
        ("attrs.n", "gte", "\"5\"", "3"),
        ("attrs.on", "eq", "true", "2"),
        ("attrs.nil", "exists", "", ""),
        ("attrs.nil", "not_exists", "", "1 2 3 4"),
        ("attrs.list", "has_any", "[\"x\"]", "2"),
        ("attrs.list", "has_none", "[\"x\"]", "1 3 4"),
        ("attrs.at", "after", "\"2024-03-01\"", "2 4"),
        ("attrs.at", "on", "\"2024-03-01\"", "2"),
        ("attrs.at", "within_last", "\"30 days\"", "2"),
        ("attrs.list.0", "eq", "\"x\"", "2"),
    ];

    fn condition(attribute: &str, op: &str, value: &str) -> String {
        let value = if value.is_empty() {
            String::new()
        } else {
            format!(", \"value\": {value}")
        };
        format!("{{\"attribute\": \"{attribute}\", \"op\": \"{op}\"{value}}}")
    }

    fn create(name: &str, rule: &str) {
        run(&format!(
            "select actionflow.create_segment('{name}', '{rule}')"
        ));
    }

    #[pg_test]
    fn every_operator_means_the_same_row_by_row_and_over_the_whole_table() {
        alone();
        run(PEOPLE);
        for (number, (attribute, op, value, _)) in OPERATORS.iter().enumerate() {
            create(&format!("before{number}"), &condition(attribute, op, value));
        }
        run(ROWS);
        for (number, (attribute, op, value, expected)) in OPERATORS.iter().enumerate() {
            let rule = condition(attribute, op, value);
            assert_eq!(members(&format!("before{number}")), *expected, "{rule}");
            create("after", &rule);
            assert_eq!(members("after"), *expected, "created afterwards: {rule}");
            run("select actionflow.delete_segment('after')");
            let complement = format!(
                "select string_agg(p.id::text, ' ' order by p.id) from people as p
                 where p.id::text not in (select actionflow.match_customers('{{\"not\": {rule}}}'))"
            );
            let expected = if expected.is_empty() {
                "NULL"
            } else {
                expected
            };
            assert_eq!(text(&complement), expected, "not: {rule}");
        }
        run("update people set plan = null, age = null, score = null, active = null, uid = null, seen = null, wall = null,
                 born = null, tags = null, marks = null, attrs = null");
        for (number, (attribute, op, value, expected)) in OPERATORS.iter().enumerate() {
            let expected = if expected.contains('1') {
                "1 2 3 4"
            } else {
                ""
            };
            let rule = condition(attribute, op, value);
            assert_eq!(
                members(&format!("before{number}")),
                expected,
                "of nothing: {rule}"
            );
        }
    }

    #[pg_test]
    fn counts_and_sums_of_events_are_compared_and_filtered() {
        alone();
        run(PEOPLE);
        let cases = [
            ("{\"event\": \"buy\"}", "2 3"),
            ("{\"event\": \"buy\", \"count\": {\"gte\": 2}}", "3"),
            ("{\"event\": \"buy\", \"count\": {\"eq\": 0}}", "1 4"),
            (
                "{\"event\": \"buy\", \"count\": {\"lt\": 2, \"gt\": 0}}",
                "2",
            ),
            ("{\"event\": \"buy\", \"count\": {\"ne\": 1}}", "1 3 4"),
            ("{\"event\": \"buy\", \"within_last\": \"5 days\"}", "3"),
            (
                "{\"event\": \"buy\", \"where\": [{\"attribute\": \"properties.of\", \"op\": \"eq\", \"value\": \"tea\"}]}",
                "2",
            ),
            (
                "{\"event\": \"buy\", \"where\": [{\"attribute\": \"properties.of\", \"op\": \"ne\", \"value\": \"tea\"}]}",
                "3",
            ),
            (
                "{\"event\": \"buy\", \"sum\": {\"of\": \"properties.eur\", \"gt\": 12}}",
                "3",
            ),
            (
                "{\"event\": \"buy\", \"sum\": {\"of\": \"properties.eur\", \"lte\": 10}}",
                "1 2 4",
            ),
            (
                "{\"event\": \"buy\", \"count\": {\"gte\": 1}, \"sum\": {\"of\": \"properties.eur\", \"lte\": 10}}",
                "2",
            ),
            ("{\"not\": {\"event\": \"buy\"}}", "1 4"),
            (
                "{\"all\": [{\"event\": \"buy\"}, {\"attribute\": \"plan\", \"op\": \"eq\", \"value\": \"pro\"}]}",
                "2",
            ),
            (
                "{\"any\": [{\"event\": \"buy\"}, {\"attribute\": \"age\", \"op\": \"gt\", \"value\": 35}]}",
                "2 3 4",
            ),
        ];
        for (number, (rule, _)) in cases.iter().enumerate() {
            create(&format!("before{number}"), rule);
        }
        run(ROWS);
        run("select actionflow.emit_event('buy', '2', '{\"of\": \"tea\", \"eur\": 10}', occurred_at => '2024-03-01T00:00:00Z');
             select actionflow.emit_event('buy', '3', '{\"eur\": 12.5}', occurred_at => '2024-03-06T00:00:00Z');
             select actionflow.emit_event('buy', '3', '{\"eur\": \"many\"}', occurred_at => '2024-03-06T00:00:00Z');
             select actionflow.emit_event('buy', '4', '{\"eur\": 99}', mode => 'test');
             select actionflow.emit_event('sell', '4', '{\"eur\": 99}')");
        for (number, (rule, expected)) in cases.iter().enumerate() {
            assert_eq!(members(&format!("before{number}")), *expected, "{rule}");
            create("after", rule);
            assert_eq!(members("after"), *expected, "created afterwards: {rule}");
            run("select actionflow.delete_segment('after')");
        }
    }

    #[pg_test]
    fn events_of_somebody_without_a_row_count_once_the_row_is_there() {
        alone();
        run(PEOPLE);
        create("buyers", "{\"event\": \"buy\"}");
        run("select actionflow.emit_event('buy', '7')");
        assert_eq!(members("buyers"), "");
        run("insert into people (id) values (7)");
        assert_eq!(members("buyers"), "7");
        assert_eq!(crossings(), "segment-entered buyers 7");
    }

    /// The segment `pros` over an empty table.
    fn pros() {
        alone();
        run(PEOPLE);
        create("pros", &condition("plan", "eq", "\"pro\""));
    }

    #[pg_test]
    fn every_way_to_write_makes_members_and_only_crossings_make_events() {
        let steps = [
            ("insert into people (id, plan) values (1, 'pro'), (2, 'free')", "1", "+1"),
            ("update people set age = 3, plan = plan", "1", ""),
            ("update people set plan = 'pro'", "1 2", "+2"),
            ("insert into people (id, plan) values (1, 'x'), (3, 'x') on conflict (id) do update set plan = excluded.plan", "2", "-1"),
            ("insert into people (id, plan) values (1, 'pro') on conflict do nothing", "2", ""),
            ("merge into people as p using (values (1, 'pro'), (2, 'free'), (4, 'pro')) as n (id, plan) on n.id = p.id
                 when matched then update set plan = n.plan when not matched then insert (id, plan) values (n.id, n.plan)", "1 4", "-2 +1 +4"),
            ("merge into people as p using (values (4)) as n (id) on n.id = p.id when matched then delete", "1", "-4"),
            ("with moved as (delete from people where id = 1 returning id) insert into people (id, plan) select 5, 'pro' from moved", "5", "-1 +5"),
            ("update people set id = 6 where id = 5", "6", "-5 +6"),
            ("delete from people where id = 6", "", "-6"),
            ("insert into people (id, plan) select g, 'pro' from generate_series(7, 9) as g", "7 8 9", "+7 +8 +9"),
            ("truncate people", "", "-7 -8 -9"),
        ];
        pros();
        for (statement, inside, crossed) in steps {
            let before = text("select coalesce(max(e.id), 0) from actionflow.events as e");
            run(statement);
            assert_eq!(members("pros"), inside, "{statement}");
            let events = text(&format!(
                "select coalesce(string_agg(case e.name when 'segment-entered' then '+' else '-' end || e.user_id, ' '
                     order by e.name desc, e.user_id), '')
                 from actionflow.events as e where e.id > {before}"
            ));
            assert_eq!(events, crossed, "{statement}");
        }
    }

    #[pg_test]
    fn a_customer_who_goes_out_and_in_again_has_every_crossing_told() {
        pros();
        run("insert into people (id, plan) values (1, 'pro');
             update people set plan = 'free';
             update people set plan = 'pro'");
        assert_eq!(
            crossings(),
            "segment-entered pros 1, segment-exited pros 1, segment-entered pros 1"
        );
        assert_eq!(members("pros"), "1");
    }

    #[pg_test]
    fn what_a_rolled_back_savepoint_has_done_leaves_nothing() {
        pros();
        run("insert into people (id, plan) values (1, 'pro')");
        run("do $$
             begin
                 begin
                     update people set plan = 'free';
                     insert into people (id, plan) values (2, 'pro');
                     perform actionflow.create_segment('other', '{\"attribute\": \"id\", \"op\": \"eq\", \"value\": 1}');
                     raise exception 'back';
                 exception when raise_exception then null;
                 end;
             end $$");
        assert_eq!(members("pros"), "1");
        assert_eq!(crossings(), "segment-entered pros 1");
        run("update people set plan = 'free'");
        assert_eq!(crossings(), "segment-entered pros 1, segment-exited pros 1");
        assert_eq!(text("select count(*) from actionflow.segments"), "1");
    }

    #[pg_test]
    fn a_segment_may_name_others_and_follows_their_rules() {
        pros();
        create(
            "adults",
            "{\"attribute\": \"age\", \"op\": \"gte\", \"value\": 18}",
        );
        create(
            "adult_pros",
            "{\"all\": [{\"segment\": \"pros\"}, {\"segment\": \"adults\"}]}",
        );
        create("others", "{\"not\": {\"segment\": \"adult_pros\"}}");
        run(ROWS);
        assert_eq!(
            (members("adult_pros"), members("others")),
            ("2".to_owned(), "1 3 4".to_owned())
        );
        run(
            "select actionflow.update_segment('adults', '{\"attribute\": \"age\", \"op\": \"gte\", \"value\": 21}')",
        );
        assert_eq!(
            (members("adult_pros"), members("others")),
            (String::new(), "1 2 3 4".to_owned())
        );
        run("update people set age = 21 where id = 2");
        assert_eq!(
            (members("adult_pros"), members("others")),
            ("2".to_owned(), "1 3 4".to_owned())
        );
    }

    #[pg_test]
    fn a_look_by_the_clock_lets_in_and_out() {
        alone();
        run(PEOPLE);
        create("recent", &condition("seen", "within_last", "\"30 days\""));
        create("buyers", "{\"event\": \"buy\", \"within_last\": \"1 day\"}");
        run("insert into people (id, seen) values (1, '2024-03-09T00:00:00Z'), (2, '2024-03-11T00:00:00Z');
             select actionflow.emit_event('buy', '1')");
        let tick = |now: &str| text(&format!("select actionflow.tick('{now}')"));
        assert_eq!(tick("2024-03-10T00:00:01Z"), "0");
        assert_eq!(
            (members("recent"), members("buyers")),
            ("1".to_owned(), "1".to_owned())
        );
        assert_eq!(tick("2024-03-10T23:59:59.999999Z"), "0");
        assert_eq!(tick("2024-03-11T00:00:00Z"), "2");
        assert_eq!(
            (members("recent"), members("buyers")),
            ("1 2".to_owned(), String::new())
        );
        assert_eq!(tick("2024-04-08T00:00:00Z"), "1");
        assert_eq!(tick("2024-05-01T00:00:00Z"), "1");
        assert_eq!(members("recent"), "");
        assert_eq!(text("select count(*) from actionflow._segment_flip"), "0");
        assert_eq!(
            text("select b.checked from actionflow.tick_batch(10, '2030-01-01') as b"),
            "0"
        );
    }
}
