//! Starts for a whole audience, and for the members that a segment has already.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{error_of, scene, text};
    use pgrx::prelude::*;

    const PRO: &str = "{\"attribute\": \"plan\", \"op\": \"eq\", \"value\": \"pro\"}";
    const JOBS: &str = "select string_agg(concat_ws(' ', j.state, j.total, j.started, j.duplicates, j.skipped, j.failed, j.error), ', '
         order by j.id) from actionflow.bulk_jobs as j";
    const STARTED: &str =
        "select string_agg(r.user_id, ' ' order by r.id) from actionflow.runs as r";

    /// Five customers, of whom 2 and 4 are in the segment.
    fn customers() {
        scene();
        Spi::run(
            "insert into customers (id, plan) select g, case when g % 2 = 0 then 'pro' else 'free' end from generate_series(1, 5) as g",
        )
        .expect("customers");
        Spi::run(&format!(
            "select actionflow.create_segment('pros', '{PRO}')"
        ))
        .expect("segment");
    }

    fn start(audience: &str, options: &str) {
        Spi::run(&format!(
            "select actionflow.start_flow_for('welcome', '{audience}', '{options}')"
        ))
        .expect("job");
    }

    fn chunk(max: i32) -> String {
        text(&format!("select actionflow.run_bulk_jobs({max})"))
    }

    #[pg_test]
    fn a_job_starts_its_audience_in_chunks_and_only_when_it_is_run() {
        scene();
        Spi::run("insert into customers (id) select g from generate_series(1, 5) as g")
            .expect("customers");
        start(
            "{\"users\": [\"5\", \"4\", \"3\", \"2\", \"1\", \"3\"]}",
            "{}",
        );
        assert_eq!(text(JOBS), "pending 5 0 0 0 0");
        assert_eq!(text(STARTED), "NULL");
        assert_eq!(chunk(2), "2");
        assert_eq!(text(JOBS), "running 5 2 0 0 0");
        assert_eq!(text(STARTED), "1 2");
        assert_eq!(chunk(2), "2");
        assert_eq!(chunk(2), "1");
        assert_eq!(text(JOBS), "completed 5 5 0 0 0");
        assert_eq!(chunk(2), "0");
        assert_eq!(text(STARTED), "1 2 3 4 5");
        assert_eq!(text("select count(*) from actionflow._bulk_target"), "0");
        assert_eq!(
            text("select count(distinct r.flow_invocation_id) from actionflow.runs as r"),
            "1"
        );
    }

    #[pg_test]
    fn members_of_a_segment_are_started() {
        customers();
        start("{\"segment\": \"pros\"}", "{}");
        assert_eq!(chunk(1000), "2");
        assert_eq!(text(STARTED), "2 4");
        assert_eq!(text(JOBS), "completed 2 2 0 0 0");
    }

    #[pg_test]
    fn whom_a_rule_matches_is_started() {
        customers();
        start(
            &format!("{{\"rule\": {PRO}, \"relation\": \"public.customers\"}}"),
            "{}",
        );
        start(&format!("{{\"rule\": {{\"not\": {PRO}}}}}"), "{}");
        assert_eq!(chunk(1000), "2");
        assert_eq!(chunk(1000), "3");
        assert_eq!(text(STARTED), "2 4 1 3 5");
    }

    #[pg_test]
    fn the_audience_is_who_is_in_it_when_the_job_is_made_and_the_profile_counts_when_it_runs() {
        customers();
        start("{\"segment\": \"pros\"}", "{}");
        start("{\"users\": [\"1\", \"6\", \"nobody\"]}", "{}");
        Spi::run(
            "update customers set plan = 'free' where id = 4; delete from customers where id = 2;
             insert into customers (id) values (6)",
        )
        .expect("changes");
        chunk(1000);
        chunk(1000);
        assert_eq!(text(JOBS), "completed 2 1 0 1 0, completed 3 2 0 1 0");
        assert_eq!(text(STARTED), "4 1 6");
    }

    #[pg_test]
    fn a_customer_who_was_started_with_the_same_invocation_id_is_a_duplicate() {
        customers();
        Spi::run("select actionflow.start_flow('welcome', '{\"targetUserIds\": \"2\", \"flowInvocationId\": \"spring\"}')")
            .expect("start");
        start(
            "{\"segment\": \"pros\"}",
            "{\"flowInvocationId\": \"spring\", \"metadata\": {\"by\": \"ana\"}}",
        );
        chunk(1000);
        assert_eq!(text(JOBS), "completed 2 1 1 0 0");
        assert_eq!(text(STARTED), "2 4");
        assert_eq!(
            text(
                "select d.body_tail like '%\"by\":\"ana\"%' from actionflow._delivery as d order by d.id desc limit 1"
            ),
            "true"
        );
    }

    #[pg_test]
    fn an_audience_over_the_limit_is_refused_whole() {
        customers();
        assert_eq!(
            error_of(
                "select actionflow.start_flow_for('welcome', '{\"users\": [\"1\", \"2\", \"3\"]}', '{\"max_customers\": 2}')"
            ),
            "54000 | the audience is over the limit of 2 customers | It has 3 customers. \
             | Narrow it, or raise the option \"max_customers\" (at most 1000000)."
        );
        assert_eq!(text(JOBS), "NULL");
        start("{\"segment\": \"pros\"}", "{\"max_customers\": 2}");
    }

    #[pg_test]
    fn an_audience_of_nobody_is_a_job_that_is_over() {
        customers();
        start(
            "{\"rule\": {\"attribute\": \"plan\", \"op\": \"eq\", \"value\": \"none\"}}",
            "{}",
        );
        assert_eq!(text(JOBS), "completed 0 0 0 0 0");
        assert_eq!(chunk(1000), "0");
    }

    #[pg_test]
    fn a_job_of_a_flow_that_is_archived_meanwhile_fails_and_the_next_job_runs() {
        customers();
        Spi::run(
            "select actionflow.create_flow('short', '{\"actions\": []}'); select actionflow.publish_flow('short');
             select actionflow.start_flow_for('short', '{\"users\": [\"1\"]}'); select actionflow.archive_flow('short')",
        )
        .expect("archived");
        start("{\"users\": [\"2\"]}", "{}");
        assert_eq!(chunk(1000), "1");
        assert_eq!(
            text(JOBS),
            "failed 1 0 0 0 0 flow \"short\" is archived, completed 1 1 0 0 0"
        );
        assert_eq!(text("select count(*) from actionflow._bulk_target"), "0");
    }

    #[pg_test]
    fn a_chunk_that_cannot_be_started_is_counted_and_does_not_block_the_job() {
        customers();
        start("{\"users\": [\"1\", \"2\", \"nobody\"]}", "{}");
        chunk(1);
        Spi::run(
            "select actionflow.update_flow('welcome', '{\"variables\": {\"coupon\": {\"required\": true}}, \"actions\": []}');
             select actionflow.publish_flow('welcome')",
        )
        .expect("published");
        assert_eq!(chunk(1000), "2");
        assert_eq!(
            text(JOBS),
            "completed 3 1 0 1 1 required variable \"coupon\" is missing"
        );
        assert_eq!(chunk(1000), "0");
    }

    #[pg_test]
    fn a_job_of_which_nobody_could_be_started_has_failed() {
        customers();
        start("{\"users\": [\"1\"]}", "{}");
        Spi::run(
            "select actionflow.update_flow('welcome', '{\"variables\": {\"coupon\": {\"required\": true}}, \"actions\": []}');
             select actionflow.publish_flow('welcome')",
        )
        .expect("published");
        chunk(1000);
        assert_eq!(
            text(JOBS),
            "failed 1 0 0 0 1 required variable \"coupon\" is missing"
        );
    }

    #[pg_test]
    fn a_cancelled_job_starts_nobody_else() {
        customers();
        start("{\"users\": [\"1\", \"2\", \"3\"]}", "{}");
        chunk(1);
        Spi::run("select actionflow.cancel_bulk_job(j.id) from actionflow.bulk_jobs as j")
            .expect("cancel");
        assert_eq!(chunk(1000), "0");
        assert_eq!(text(JOBS), "cancelled 3 1 0 0 0");
        assert_eq!(text(STARTED), "1");
        assert!(
            error_of("select actionflow.cancel_bulk_job(j.id) from actionflow.bulk_jobs as j")
                .contains("is cancelled already | What it has started goes on")
        );
    }

    #[pg_test]
    fn finished_jobs_go_when_the_retention_of_runs_ends() {
        customers();
        start("{\"users\": [\"1\"]}", "{}");
        start("{\"users\": [\"2\"]}", "{}");
        chunk(1000);
        let expire = |after: &str| {
            text(&format!(
                "select actionflow._expire_bulk_jobs(now() + interval '{after}')"
            ))
        };
        assert_eq!(expire("29 days"), "0");
        assert_eq!(expire("31 days"), "1");
        assert_eq!(text(JOBS), "pending 1 0 0 0 0");
    }

    #[pg_test]
    fn mistakes_of_bulk_jobs_are_told_with_code_detail_and_hint() {
        customers();
        Spi::run("select actionflow.create_flow('draft', '{\"actions\": []}'); create table others (id int)")
            .expect("flow");
        let cases = [
            (
                "select actionflow.start_flow_for('nope', '{\"users\": [\"1\"]}')",
                "42704 | flow \"nope\" does not exist | Create it with actionflow.create_flow.",
            ),
            (
                "select actionflow.start_flow_for('draft', '{\"users\": [\"1\"]}')",
                "55000 | flow \"draft\" has no published version | Publish it with actionflow.publish_flow, or start it in mode 'test'.",
            ),
            (
                "select actionflow.start_flow_for('welcome', '{\"segment\": \"nope\"}')",
                "42704 | segment \"nope\" does not exist | Create it with actionflow.create_segment.",
            ),
            (
                "select actionflow.start_flow_for('welcome', '{\"segment\": \"pros\", \"users\": []}')",
                "22023 | invalid audience: it has more than one kind | At path $. | Give one of: segment, rule, users.",
            ),
            (
                "select actionflow.start_flow_for('welcome', '{\"users\": [\"1\"]}', '{\"mode\": \"test\"}')",
                "22023 | invalid bulk job options: unknown key \"mode\" | At path $. \
                 | Use only: max_customers, variables, notificationDetail, metadata, flowInvocationId.",
            ),
            (
                "select actionflow.start_flow_for('welcome', '{\"rule\": {}, \"relation\": \"others\"}')",
                "42P01 | relation \"others\" does not exist | Write it with its schema, such as \"public.customers\".",
            ),
            (
                "select actionflow.start_flow_for('welcome', '{\"rule\": {}, \"relation\": \"public.others\"}')",
                "42704 | table \"public.others\" is not watched | Call actionflow.watch_customers first.",
            ),
            (
                "select actionflow.start_flow_for('welcome', null)",
                "22004 | audience must not be null | Give a value for audience.",
            ),
            (
                "select actionflow.run_bulk_jobs(0)",
                "22023 | invalid number of customers 0 | Use a number from 1 to 10000.",
            ),
            (
                "select actionflow.cancel_bulk_job(0)",
                "42704 | bulk job 0 does not exist | actionflow.bulk_jobs lists the jobs.",
            ),
        ];
        for (statement, expected) in cases {
            assert_eq!(error_of(statement), expected, "{statement}");
        }
        assert_eq!(text(JOBS), "NULL");
    }

    #[pg_test]
    fn publishing_counts_who_is_inside_and_starts_them_only_when_asked() {
        customers();
        Spi::run(&format!(
            "select actionflow.create_segment('evens', '{{\"attribute\": \"id\", \"op\": \"in\", \"value\": [2, 4]}}');
             select actionflow.create_segment('frees', '{{\"not\": {PRO}}}');
             select actionflow.create_segment('ones', '{{\"attribute\": \"id\", \"op\": \"eq\", \"value\": 1}}');
             select actionflow.add_segment_trigger('welcome', 'pros');
             select actionflow.add_segment_trigger('welcome', 'evens');
             select actionflow.add_segment_trigger('welcome', 'frees', 'exit');
             select actionflow.set_trigger_mode(actionflow.add_segment_trigger('welcome', 'ones'), 'test')"
        ))
        .expect("triggers");
        let publish = |arguments: &str| {
            text(&format!(
                "select concat_ws(' ', p.version, p.existing_members, p.started) from actionflow.publish_flow({arguments}) as p"
            ))
        };
        assert_eq!(publish("'welcome'"), "2 2 0");
        assert_eq!(text(STARTED), "NULL");
        assert_eq!(publish("'welcome', start_existing => true"), "3 2 2");
        assert_eq!(
            text(
                "select string_agg(r.user_id || ' ' || r.version, ', ' order by r.user_id) from actionflow.runs as r"
            ),
            "2 3, 4 3"
        );
        assert_eq!(
            text(
                "select d.body_head like '%\"action-flow-started\"%' from actionflow._delivery as d order by d.id desc limit 1"
            ),
            "true"
        );
    }

    #[pg_test]
    fn existing_members_are_started_without_loss_when_they_are_many() {
        scene();
        Spi::run(
            "insert into customers (id, plan) select g, 'pro' from generate_series(1, 12345) as g",
        )
        .expect("customers");
        Spi::run(&format!(
            "select actionflow.create_segment('pros', '{PRO}'); select actionflow.add_segment_trigger('welcome', 'pros')"
        ))
        .expect("segment");
        assert_eq!(
            text(
                "select p.started from actionflow.publish_flow('welcome', start_existing => true) as p"
            ),
            "12345"
        );
        assert_eq!(
            text("select count(distinct d.user_id) from actionflow.deliveries as d"),
            "12345"
        );
    }

    #[pg_test]
    fn a_role_that_may_start_flows_may_make_a_job_and_not_run_it() {
        customers();
        Spi::run(
            "create role bulk_app; select actionflow.grant_app('bulk_app');
             create role bulk_worker; select actionflow.grant_worker('bulk_worker'); set role bulk_app",
        )
        .expect("roles");
        start("{\"segment\": \"pros\"}", "{}");
        assert_eq!(text(JOBS), "pending 2 0 0 0 0");
        assert!(error_of("select actionflow.run_bulk_jobs()").starts_with("42501"));
        assert!(error_of("select user_id from actionflow._bulk_target").starts_with("42501"));
        Spi::run("set role bulk_worker").expect("role");
        assert_eq!(chunk(1000), "2");
        Spi::run("reset role").expect("role");
    }
}
