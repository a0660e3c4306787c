//! Crossings start flows; segments are edited, previewed and deleted.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{crossings, error_of, members, run, scene, text};
    use pgrx::prelude::*;

    const PRO: &str = "{\"attribute\": \"plan\", \"op\": \"eq\", \"value\": \"pro\"}";
    const RUNS: &str = "select coalesce(string_agg(concat_ws(' ', r.flow, r.mode, r.user_id), ', ' order by r.id), '') from actionflow.runs as r";

    /// The scene of all tests, with the segment `pros` and the flow `welcome` on its crossing.
    fn on(crossing: &str) {
        scene();
        run(&format!(
            "select actionflow.create_segment('pros', '{PRO}');
             select actionflow.add_segment_trigger('welcome', 'pros', '{crossing}')"
        ));
    }

    #[pg_test]
    fn the_example_of_the_documentation_works() {
        scene();
        run("drop table customers cascade");
        run("create table public.users (id bigint primary key, email text, platform text, last_seen timestamptz);
             select actionflow.watch_customers('public.users');
             select actionflow.create_segment('ios-recent', '{\"all\": [
                 {\"attribute\": \"platform\", \"op\": \"eq\", \"value\": \"ios\"},
                 {\"attribute\": \"last_seen\", \"op\": \"after\", \"value\": \"2024-03-01\"}]}');
             select actionflow.add_segment_trigger('welcome', 'ios-recent');
             insert into users values (1, 'a@example.com', 'ios', '2024-03-01'), (2, 'b@example.com', 'android', '2024-03-05'),
                 (3, 'c@example.com', 'ios', '2024-03-01 00:00:01Z');
             update users set last_seen = '2024-03-02' where id = 1");
        assert_eq!(members("ios-recent"), "1 3");
        assert_eq!(text(RUNS), "welcome live 3, welcome live 1");
    }

    #[pg_test]
    fn entering_starts_and_entering_again_starts_again() {
        // T31, T33.
        on("enter");
        run("insert into customers (id, plan) values (1, 'pro'), (2, 'free')");
        assert_eq!(text(RUNS), "welcome live 1");
        run("update customers set email = 'x'; update customers set plan = 'free'");
        assert_eq!(text(RUNS), "welcome live 1");
        run("update customers set plan = 'pro' where id = 1");
        assert_eq!(text(RUNS), "welcome live 1, welcome live 1");
    }

    #[pg_test]
    fn leaving_starts_a_flow_that_waits_for_the_exit() {
        on("exit");
        run("insert into customers (id, plan) values (1, 'pro'), (2, 'pro')");
        assert_eq!(text(RUNS), "");
        run("update customers set plan = 'free' where id = 1; delete from customers where id = 2");
        assert_eq!(text(RUNS), "welcome live 1, welcome live 2");
    }

    #[pg_test]
    fn the_message_says_which_segment_was_crossed() {
        on("enter");
        run("insert into customers (id, plan) values (1, 'pro')");
        assert_eq!(
            text(
                "select (d.body_head || d.body_tail) like '%\"segment-entered\"%'
                     and (d.body_head || d.body_tail) like '%\"segment\":\"pros\"%' from actionflow._delivery as d"
            ),
            "true"
        );
    }

    #[pg_test]
    fn a_trigger_in_test_mode_starts_for_test_users_only_and_a_disabled_one_for_nobody() {
        on("enter");
        let mode = |mode: &str| {
            run(&format!(
                "select actionflow.set_trigger_mode(t.id, '{mode}') from actionflow.triggers as t where t.kind = 'segment'"
            ));
        };
        run("select actionflow.add_test_user('2')");
        mode("test");
        run("insert into customers (id, plan) values (1, 'pro'), (2, 'pro')");
        assert_eq!(text(RUNS), "welcome test 2");
        mode("disabled");
        run("update customers set plan = 'free'; update customers set plan = 'pro'");
        assert_eq!(text(RUNS), "welcome test 2");
        mode("live");
        run("update customers set plan = 'free'; update customers set plan = 'pro' where id = 1");
        assert_eq!(text(RUNS), "welcome test 2, welcome live 1");
    }

    #[pg_test]
    fn a_flow_that_is_not_published_is_not_started() {
        scene();
        run(&format!(
            "select actionflow.create_segment('pros', '{PRO}');
             select actionflow.create_flow('later', '{{\"actions\": []}}');
             select actionflow.add_segment_trigger('later', 'pros');
             insert into customers (id, plan) values (1, 'pro')"
        ));
        assert_eq!(text(RUNS), "");
        // T34: whoever is inside is counted, and started only when that is asked for.
        let publish = |arguments: &str| {
            text(&format!(
                "select concat_ws(' ', p.version, p.existing_members, p.started) from actionflow.publish_flow({arguments}) as p"
            ))
        };
        assert_eq!(publish("'later'"), "1 1 0");
        assert_eq!(publish("'later', start_existing => true"), "2 1 1");
        assert_eq!(text(RUNS), "later live 1");
    }

    #[pg_test]
    fn members_at_creation_are_told_nobody() {
        scene();
        run("insert into customers (id, plan) values (1, 'pro'), (2, 'free')");
        assert_eq!(
            text(&format!(
                "select actionflow.create_segment('pros', '{PRO}')"
            )),
            "1"
        );
        assert_eq!(
            (members("pros"), crossings()),
            ("1".to_owned(), String::new())
        );
    }

    #[pg_test]
    fn an_edited_segment_lets_go_and_takes_in_and_leaves_the_others_alone() {
        // T35.
        scene();
        run(
            "insert into customers (id, plan, email) values (1, 'pro', null), (2, 'pro', 'b'), (3, 'free', 'c'), (4, 'free', null)",
        );
        run(&format!(
            "select actionflow.create_segment('some', '{PRO}');
             select actionflow.add_segment_trigger('welcome', 'some')"
        ));
        let rule = "{\"attribute\": \"email\", \"op\": \"exists\"}";
        assert_eq!(
            text(&format!(
                "select string_agg(p.user_id || ' ' || p.change, ', ' order by p.user_id) from actionflow.preview_segment('some', '{rule}') as p"
            )),
            "1 exit, 3 enter"
        );
        assert_eq!(
            (members("some"), crossings()),
            ("1 2".to_owned(), String::new())
        );
        let update = |rule: &str| {
            text(&format!(
                "select concat_ws(' ', u.entered, u.exited, u.remained) from actionflow.update_segment('some', '{rule}') as u"
            ))
        };
        assert_eq!(update(rule), "1 1 1");
        assert_eq!(members("some"), "2 3");
        assert_eq!(crossings(), "segment-exited some 1, segment-entered some 3");
        assert_eq!(text(RUNS), "welcome live 3");
        assert_eq!(update(rule), "0 0 2");
        assert_eq!(
            text(&format!(
                "select count(*) from actionflow.preview_segment('some', '{rule}')"
            )),
            "0"
        );
        run("update customers set email = null where id = 2");
        assert_eq!(members("some"), "3");
    }

    #[pg_test]
    fn those_who_wait_for_the_clock_are_told_anew_after_an_edit() {
        scene();
        run("alter table customers add column seen timestamptz;
             set local actionflow.now = '2024-03-10T00:00:00Z';
             insert into customers (id, seen) values (1, '2024-03-09T00:00:00Z')");
        let within = |days: i32| {
            format!(
                "{{\"attribute\": \"seen\", \"op\": \"within_last\", \"value\": \"{days} days\"}}"
            )
        };
        run(&format!(
            "select actionflow.create_segment('recent', '{}')",
            within(30)
        ));
        let moment =
            "select (f.check_at at time zone 'UTC')::text from actionflow._segment_flip as f";
        assert_eq!(text(moment), "2024-04-08 00:00:00");
        run(&format!(
            "select actionflow.update_segment('recent', '{}')",
            within(2)
        ));
        assert_eq!(text(moment), "2024-03-11 00:00:00");
        run(&format!(
            "select actionflow.update_segment('recent', '{}')",
            within(60)
        ));
        assert_eq!(text(moment), "2024-05-08 00:00:00");
        run(&format!(
            "select actionflow.update_segment('recent', '{PRO}')"
        ));
        assert_eq!(text("select count(*) from actionflow._segment_flip"), "0");
    }

    #[pg_test]
    fn a_segment_that_a_live_trigger_uses_is_deleted_only_by_force() {
        // T36.
        on("enter");
        run("insert into customers (id, plan) values (1, 'pro')");
        assert_eq!(
            error_of("select actionflow.delete_segment('pros')"),
            "55000 | segment \"pros\" is used by a live trigger of flow \"welcome\" \
             | Remove or disable the trigger, or call delete_segment with force => true, which removes it."
        );
        run("select actionflow.delete_segment('pros', force => true)");
        assert_eq!(
            text("select count(*) from actionflow.triggers as t where t.kind = 'segment'"),
            "0"
        );
        assert_eq!(members("pros"), "");
        run("update customers set plan = 'free'; update customers set plan = 'pro'");
        assert_eq!(text(RUNS), "welcome live 1");
        // What it leaves goes with the next rounds of upkeep, and a new one of its name begins anew.
        run(&format!(
            "select actionflow.create_segment('pros', '{PRO}')"
        ));
        assert_eq!(members("pros"), "1");
        run(
            "select actionflow._expire_segments(now() + interval '2 days');
             select actionflow._expire_segments(now() + interval '2 days')",
        );
        assert_eq!(text("select count(*) from actionflow._segment_member"), "1");
        assert_eq!(text("select count(*) from actionflow._segment_gone"), "0");
    }

    #[pg_test]
    fn a_segment_of_a_disabled_trigger_or_an_archived_flow_may_go() {
        on("enter");
        run(
            "select actionflow.set_trigger_mode(t.id, 'disabled') from actionflow.triggers as t where t.kind = 'segment'",
        );
        assert_eq!(
            error_of("select actionflow.delete_segment('pros')"),
            "no error"
        );
        run(&format!(
            "select actionflow.create_segment('pros', '{PRO}'); select actionflow.add_segment_trigger('welcome', 'pros');
             select actionflow.archive_flow('welcome')"
        ));
        assert_eq!(
            error_of("select actionflow.delete_segment('pros')"),
            "no error"
        );
    }

    #[pg_test]
    fn mistakes_of_segment_triggers_are_told() {
        on("enter");
        let cases = [
            (
                "select actionflow.add_segment_trigger('welcome', 'nope')",
                "42704 | segment \"nope\" does not exist | Create it with actionflow.create_segment.",
            ),
            (
                "select actionflow.add_segment_trigger('nope', 'pros')",
                "42704 | flow \"nope\" does not exist | Create it with actionflow.create_flow.",
            ),
            (
                "select actionflow.add_segment_trigger('welcome', 'pros', 'pass')",
                "22023 | invalid crossing 'pass' | Use one of: enter, exit.",
            ),
            (
                "select actionflow.add_segment_trigger('welcome', 'pros', null)",
                "22023 | invalid crossing NULL | Use one of: enter, exit.",
            ),
        ];
        for (statement, expected) in cases {
            assert_eq!(error_of(statement), expected, "{statement}");
        }
    }

    #[pg_test]
    fn a_crossing_that_a_flow_has_caused_does_not_start_that_flow() {
        // T44: the segment counts runs of the flow that it starts.
        scene();
        run("select actionflow.create_segment('started', '{\"event\": \"action-flow-started\", \"count\": {\"gte\": 1}}');
             select actionflow.add_segment_trigger('welcome', 'started');
             select actionflow.create_flow('other', '{\"actions\": []}'); select actionflow.publish_flow('other');
             select actionflow.add_segment_trigger('other', 'started');
             insert into customers (id) values (1)");
        run("select actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\"}')");
        assert_eq!(members("started"), "1");
        assert_eq!(text(RUNS), "welcome live 1, other live 1");
        assert_eq!(
            text(
                "select string_agg(distinct e.flow, ' ') from actionflow.events as e where e.name = 'segment-entered'"
            ),
            "welcome"
        );
    }

    #[pg_test]
    fn flows_that_start_each_other_by_segments_end_at_the_limit() {
        scene();
        run("select actionflow.set_setting('max_flow_depth', '4')");
        for step in 1..=6 {
            run(&format!(
                "select actionflow.create_flow('f{step}', '{{\"actions\": []}}'); select actionflow.publish_flow('f{step}');
                 select actionflow.create_segment('s{step}', '{{\"event\": \"action-flow-started\", \"count\": {{\"gte\": {step}}}}}');
                 select actionflow.add_segment_trigger('f{step}', 's{step}')"
            ));
        }
        run(
            "insert into customers (id) values (1); select actionflow.start_flow('welcome', '{\"targetUserIds\": \"1\"}')",
        );
        let states = text(
            "select string_agg(r.flow || ' ' || r.state, ', ' order by r.id) from actionflow.runs as r",
        );
        assert!(states.contains("failed"), "{states}");
        assert_eq!(
            text(
                "select max(r.depth) from (select h.depth from actionflow._run_history as h) as r"
            ),
            "5",
            "{states}"
        );
    }
}
