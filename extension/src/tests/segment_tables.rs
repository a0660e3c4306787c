//! Tables of every shape: nested statements, cascades, partitions, types that users make, columns that change.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{alone, crossings, error_of, members, run, text};
    use pgrx::prelude::*;

    const PRO: &str = "{\"attribute\": \"plan\", \"op\": \"eq\", \"value\": \"pro\"}";

    /// A watched table with these columns beside its id, and the segment `pros` over it.
    fn table(columns: &str) {
        run(&format!(
            "create table public.people (id bigint primary key, {columns});
             select actionflow.watch_customers('public.people');
             select actionflow.create_segment('pros', '{PRO}')"
        ));
    }

    #[pg_test]
    fn a_row_trigger_that_changes_the_same_row_again_has_the_last_word() {
        alone();
        table("plan text, note text");
        run("create function public.undo() returns trigger language plpgsql as $$
             begin
                 update people set plan = case new.note when 'up' then 'pro' else 'free' end, note = null
                 where id = new.id and note is not null;
                 return null;
             end $$;
             create trigger undo after insert or update on people for each row execute function public.undo()");
        run("insert into people values (1, 'pro', 'down'), (2, 'free', 'up'), (3, 'pro', null)");
        assert_eq!(members("pros"), "2 3");
        run("update people set plan = 'pro', note = 'down'");
        assert_eq!(members("pros"), "");
        run("update people set note = 'up'");
        assert_eq!(members("pros"), "1 2 3");
        let balance = text(
            "select string_agg(distinct c.balance::text, ' ') from (
                 select sum(case e.name when 'segment-entered' then 1 else -1 end) as balance
                 from actionflow.events as e where e.name in ('segment-entered', 'segment-exited') group by e.user_id) as c",
        );
        assert_eq!(balance, "1");
    }

    #[pg_test]
    fn a_row_trigger_that_deletes_or_inserts_others_is_followed() {
        alone();
        table("plan text, note text");
        run("create function public.follow() returns trigger language plpgsql as $$
             begin
                 if new.note = 'gone' then delete from people where id = new.id;
                 elsif new.note = 'twin' then insert into people values (new.id + 10, 'pro', null);
                 end if;
                 return null;
             end $$;
             create trigger follow after insert or update on people for each row execute function public.follow();
             insert into people values (1, 'pro', 'gone'), (2, 'free', 'twin'), (3, 'pro', null);
             update people set note = 'gone' where id = 3");
        assert_eq!(members("pros"), "12");
    }

    #[pg_test]
    fn a_before_trigger_decides_what_is_written() {
        alone();
        table("plan text");
        run("create function public.lower_plan() returns trigger language plpgsql as $$
             begin
                 if new.plan = 'SKIP' then return null; end if;
                 new.plan := lower(new.plan);
                 return new;
             end $$;
             create trigger lower_plan before insert or update on people for each row execute function public.lower_plan();
             insert into people values (1, 'PRO'), (2, 'SKIP');
             update people set plan = 'SKIP'");
        assert_eq!(members("pros"), "1");
    }

    #[pg_test]
    fn a_cascade_from_another_table_is_seen() {
        alone();
        run("create table public.companies (id int primary key)");
        table("plan text, company int references companies on delete cascade on update cascade");
        run("insert into companies values (1), (2); insert into people values (1, 'pro', 1), (2, 'pro', 2), (3, 'free', 1);
             select actionflow.create_segment('first', '{\"attribute\": \"company\", \"op\": \"eq\", \"value\": 1}')");
        assert_eq!(members("first"), "1 3");
        run("update companies set id = 5 where id = 1");
        assert_eq!(members("first"), "");
        run("delete from companies where id = 5");
        assert_eq!(members("pros"), "2");
        run("truncate companies cascade");
        assert_eq!(members("pros"), "");
    }

    #[pg_test]
    fn a_changed_primary_key_is_another_customer() {
        alone();
        table("plan text");
        run(
            "insert into people values (1, 'pro'), (2, 'free'); update people set id = id + 10;
             update people set id = id - 5, plan = 'pro'",
        );
        assert_eq!(members("pros"), "6 7");
        assert_eq!(
            text("select count(*) from actionflow.events as e where e.name = 'segment-exited'"),
            "2"
        );
    }

    #[pg_test]
    fn the_partitions_of_a_table_are_the_table() {
        alone();
        run("create table public.people (id bigint, plan text, country text, primary key (id, country)) partition by list (country);
             create table public.people_de (country text, plan text, id bigint, extra int, primary key (id, country));
             alter table people_de drop column extra;
             alter table people_de alter column id set not null, alter column country set not null;
             alter table people attach partition people_de for values in ('de');
             create table public.people_fr partition of people for values in ('fr');
             insert into people values (1, 'pro', 'de');
             select actionflow.watch_customers('public.people')");
        run(&format!(
            "select actionflow.create_segment('pros', '{PRO}')"
        ));
        assert_eq!(members("pros"), "1");
        run(
            "insert into people values (2, 'pro', 'fr'), (3, 'free', 'de');
             insert into people_de (id, plan, country) values (4, 'pro', 'de')",
        );
        assert_eq!(members("pros"), "1 2 4");
        run("update people_de set plan = 'free' where id = 4; update people set plan = 'pro' where id = 3;
             update people set country = 'fr' where id = 1");
        assert_eq!(members("pros"), "1 2 3");
        assert_eq!(
            crossings(),
            "segment-entered pros 2, segment-entered pros 4, segment-exited pros 4, segment-entered pros 3"
        );
        run("truncate people_fr; delete from people_de");
        assert_eq!(members("pros"), "");
    }

    #[pg_test]
    fn a_partition_that_comes_later_is_watched_from_then_on() {
        alone();
        run("create table public.people (id bigint, plan text, country text, primary key (id, country)) partition by list (country);
             select actionflow.watch_customers('public.people')");
        run(&format!(
            "select actionflow.create_segment('pros', '{PRO}')"
        ));
        run("create table public.people_it (plan text, id bigint not null, country text not null);
             alter table people attach partition people_it for values in ('it');
             insert into people_it values ('pro', 7, 'it'); insert into people values (8, 'pro', 'it')");
        assert_eq!(members("pros"), "7 8");
        run("update people_it set plan = 'free'");
        assert_eq!(members("pros"), "");
    }

    #[pg_test]
    fn types_that_users_make_are_compared_by_their_own_operators() {
        alone();
        run("create type public.mood as enum ('sad', 'ok', 'glad');
             create domain public.score as int check (value between 0 and 100);
             create domain public.word as text collate \"C\";
             create type public.address as (street text, zip text)");
        table(
            "plan text, feeling public.mood, points public.score, nick public.word, home public.address, spans int4range",
        );
        let condition = |attribute: &str, op: &str, value: &str| {
            format!("{{\"attribute\": \"{attribute}\", \"op\": \"{op}\", \"value\": {value}}}")
        };
        let cases = [
            (condition("feeling", "gte", "\"ok\""), "1 2"),
            (condition("feeling", "in", "[\"sad\", \"glad\"]"), "2 3"),
            (condition("points", "gt", "9"), "2"),
            (condition("nick", "starts_with", "\"A\""), "1"),
            (condition("nick", "lt", "\"a\""), "1"),
            (condition("spans", "eq", "\"[1,3]\""), "3"),
        ];
        for (number, (rule, _)) in cases.iter().enumerate() {
            run(&format!(
                "select actionflow.create_segment('s{number}', '{rule}')"
            ));
        }
        run("insert into people values (1, 'pro', 'ok', 9, 'Ann', row('a', '1'), null), (2, null, 'glad', 10, 'ann', null, '[1,2)'),
                 (3, 'pro', 'sad', null, null, row(null, '2'), '[1,4)');
             update people set home = row('b', '3')");
        for (number, (rule, expected)) in cases.iter().enumerate() {
            assert_eq!(members(&format!("s{number}")), *expected, "{rule}");
        }
        assert_eq!(members("pros"), "1 3");
        assert_eq!(
            error_of(
                "select actionflow.create_segment('x', '{\"attribute\": \"points\", \"op\": \"eq\", \"value\": 101}')"
            ),
            "22023 | invalid segment rule: value 101 does not fit type public.score | At path $.value. \
             | Give a value of the attribute's type, as text if JSON has no such type."
        );
    }

    #[pg_test]
    fn a_column_that_a_segment_reads_may_not_change_under_it() {
        alone();
        table("plan text, other text");
        let used = |change: &str| error_of(&format!("alter table people {change}"));
        let expected =
            "2BP01 | column \"plan\" of table \"public.people\" is used by segment \"pros\"";
        for change in [
            "drop column plan",
            "rename column plan to tier",
            "alter column plan type varchar(10)",
            "alter column plan type text collate \"C\"",
        ] {
            let said = used(change);
            assert!(said.starts_with(expected), "{change}: {said}");
            assert!(
                said.contains("actionflow.update_segment, or delete the segment"),
                "{change}: {said}"
            );
        }
        assert_eq!(used("drop column other"), "no error");
        assert_eq!(used("add column more int"), "no error");
        run("insert into people values (1, 'pro')");
        assert_eq!(members("pros"), "1");
        run("select actionflow.delete_segment('pros')");
        assert_eq!(used("rename column plan to tier"), "no error");
    }

    #[pg_test]
    fn a_type_that_a_rule_has_values_of_keeps_them() {
        alone();
        run("create type public.mood as enum ('sad', 'ok')");
        table("plan text, feeling public.mood");
        run(
            "select actionflow.create_segment('fine', '{\"attribute\": \"feeling\", \"op\": \"eq\", \"value\": \"ok\"}')",
        );
        let said = error_of("alter type public.mood rename value 'ok' to 'fine'");
        assert!(
            said.starts_with(
                "2BP01 | segment \"fine\" uses a value that the type would no longer have"
            ),
            "{said}"
        );
        assert_eq!(
            error_of("alter type public.mood rename value 'sad' to 'down'"),
            "no error"
        );
        run("insert into people values (1, 'free', 'ok')");
        assert_eq!(members("fine"), "1");
    }

    #[pg_test]
    fn a_table_with_segments_stays_watched_and_stays() {
        alone();
        table("plan text");
        assert_eq!(
            error_of("select actionflow.unwatch_customers('people')"),
            "2BP01 | segment \"pros\" is over the table | Delete the segments over the table with actionflow.delete_segment first."
        );
        let said = error_of("drop table people");
        assert!(
            said.starts_with("2BP01") && said.contains("\"pros\""),
            "{said}"
        );
        let said = error_of("drop schema public cascade");
        assert!(
            said.starts_with("2BP01") && said.contains("\"pros\""),
            "{said}"
        );
        run("select actionflow.delete_segment('pros'); drop table people");
        assert_eq!(text("select count(*) from actionflow.watched_tables"), "0");
    }

    #[pg_test]
    fn a_segment_is_over_the_table_that_it_was_made_for() {
        alone();
        run("create table public.people (id bigint primary key, plan text);
             create table public.leads (id bigint primary key, plan text);
             select actionflow.watch_customers('public.people'); select actionflow.watch_customers('public.leads')");
        run(&format!(
            "select actionflow.create_segment('leads', '{PRO}', 'public.leads');
             select actionflow.create_segment('both', '{{\"all\": [{PRO}, {{\"event\": \"buy\"}}]}}', 'public.leads');
             insert into people values (1, 'pro'); insert into leads values (2, 'pro'), (3, 'free');
             select actionflow.emit_event('buy', '1'); select actionflow.emit_event('buy', '2')"
        ));
        assert_eq!(
            (members("leads"), members("both")),
            ("2".to_owned(), "2".to_owned())
        );
        assert_eq!(
            text(&format!(
                "select actionflow.count_customers('{PRO}', 'public.people')"
            )),
            "1"
        );
        run("alter table leads rename to prospects; update prospects set plan = 'pro'");
        assert_eq!(members("leads"), "2 3");
        assert_eq!(
            text("select s.relation from actionflow.segments as s where s.name = 'leads'"),
            "prospects"
        );
    }

    #[pg_test]
    fn a_segment_survives_everything_that_the_writer_sets() {
        alone();
        table("plan text, seen timestamptz, score float8");
        run("select actionflow.create_segment('old', '{\"attribute\": \"seen\", \"op\": \"before\", \"value\": \"2024-03-01\"}');
             select actionflow.create_segment('high', '{\"attribute\": \"score\", \"op\": \"eq\", \"value\": 0.1}');
             set local timezone = 'Asia/Kathmandu'; set local datestyle = 'SQL, DMY'; set local extra_float_digits = -15;
             set local search_path = pg_temp; set local standard_conforming_strings = off;
             insert into public.people values (1, 'pro', '2024-02-29 23:59:59Z', 0.1), (2, 'x', '2024-03-01 00:00Z', 0.1000000001)");
        run("reset search_path");
        assert_eq!(
            (members("old"), members("high"), members("pros")),
            ("1".to_owned(), "1".to_owned(), "1".to_owned())
        );
    }
}
