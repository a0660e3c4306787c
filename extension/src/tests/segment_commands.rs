//! Commands in which a customer is changed, or an event of theirs counted, more than once.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{alone, members, run, text};
    use pgrx::prelude::*;

    fn table() {
        alone();
        run(
            "create table public.people (id int primary key, n int); select actionflow.watch_customers('public.people')",
        );
    }

    #[pg_test]
    fn an_event_emitted_inside_the_statement_that_changes_its_customer_is_counted_with_the_change()
    {
        table();
        run(r#"insert into people values (1, 0);
            select actionflow.create_segment('quiet', '{"all": [{"attribute": "n", "op": "eq", "value": 0},
                {"event": "visit", "count": {"eq": 0}}]}')"#);
        assert_eq!(members("quiet"), "1");
        run(
            "update people set n = 1 where id = 1 returning actionflow.emit_event('visit', id::text)",
        );
        assert_eq!(members("quiet"), "");
    }

    #[pg_test]
    fn a_command_with_several_statements_ends_with_what_its_row_triggers_leave() {
        table();
        run(
            r#"select actionflow.create_segment('sevens', '{"attribute": "n", "op": "eq", "value": 7}');
            create function public.change_again() returns trigger language plpgsql as $$
            begin
                if pg_trigger_depth() < 2 then update people set n = 1 where id = new.id; end if;
                return null;
            end $$;
            create trigger change_again after insert or update on people
                for each row execute function public.change_again();
            insert into people values (1, 0);
            insert into people values (1, 7), (2, 7) on conflict (id) do update set n = excluded.n"#,
        );
        assert_eq!(text("select string_agg(n::text, ' ') from people"), "1 1");
        assert_eq!(members("sevens"), "");
    }

    #[pg_test]
    fn a_merge_that_inserts_and_updates_partitions_moves_only_whom_it_changes() {
        alone();
        run(
            r#"create table public.people (id text primary key, n int) partition by hash (id);
            create table public.people_0 partition of people for values with (modulus 1, remainder 0);
            select actionflow.watch_customers('public.people');
            select actionflow.create_segment('ones', '{"attribute": "n", "op": "eq", "value": 1}');
            insert into people values ('a', 1);
            merge into people as p using (values ('z', 1), ('a', 1)) as v (id, n) on p.id = v.id
                when matched then update set n = v.n
                when not matched then insert values (v.id, v.n)"#,
        );
        assert_eq!(members("ones"), "a z");
        assert_eq!(
            text("select count(*) from actionflow.events where name = 'segment-exited'"),
            "0"
        );
    }

    #[pg_test]
    fn a_rule_that_no_segment_has_knows_the_events_that_are_kept() {
        table();
        run("insert into people values (1, 0), (2, 0); select actionflow.emit_event('buy', '1')");
        let rule = r#"{"event": "buy"}"#;
        assert_eq!(
            text(&format!(
                "select string_agg(m, ' ') from actionflow.match_customers('{rule}') as m"
            )),
            "1"
        );
        run(
            r#"select actionflow.create_segment('buyers', '{"attribute": "n", "op": "eq", "value": 0}')"#,
        );
        assert_eq!(
            text(&format!(
                "select string_agg(user_id || ' ' || change, ', ') from actionflow.preview_segment('buyers', '{rule}')"
            )),
            "2 exit"
        );
        assert_eq!(
            text(&format!(
                "select entered || ' ' || exited || ' ' || remained from actionflow.update_segment('buyers', '{rule}')"
            )),
            "0 1 1"
        );
    }
}
