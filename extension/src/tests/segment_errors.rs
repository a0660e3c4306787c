//! Every mistake in a rule, or around a segment, has a SQLSTATE, says where it is and what to do.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::{alone, error_of, run, text};
    use pgrx::prelude::*;

    const PEOPLE: &str = "
        create type public.mood as enum ('sad', 'ok');
        create table public.people (id bigint primary key, plan text, age int, seen timestamptz, tags text[], attrs jsonb,
            feeling public.mood, spot point);
        create table public.others (id bigint primary key);
        select actionflow.watch_customers('public.people');
        select actionflow.create_segment('adults', '{\"attribute\": \"age\", \"op\": \"gte\", \"value\": 18}');
        select actionflow.create_segment('pros', '{\"all\": [{\"segment\": \"adults\"}, {\"attribute\": \"plan\", \"op\": \"eq\", \"value\": \"pro\"}]}')";

    /// Rules with what they are told.
    const RULES: &[(&str, &str)] = &[
        (
            "{\"attribute\": \"nope\", \"op\": \"exists\"}",
            "42703 | attribute \"nope\" does not exist | At path $.attribute. \
             | Name a column of the customer table, or a path into a jsonb column such as \"attrs.tier\".",
        ),
        (
            "{\"all\": [{\"not\": {\"attribute\": \"plan.x\", \"op\": \"exists\"}}]}",
            "42804 | column \"plan\" has type text, so nothing is inside it | At path $.all[0].not.attribute. \
             | Only a jsonb column has paths inside.",
        ),
        (
            "{\"attribute\": \"age\", \"op\": \"contains\", \"value\": \"x\"}",
            "42804 | operator \"contains\" cannot be used on attribute \"age\" of type integer | At path $.op. | Use it on text.",
        ),
        (
            "{\"any\": [{\"attribute\": \"plan\", \"op\": \"within_last\", \"value\": \"1 day\"}]}",
            "42804 | operator \"within_last\" cannot be used on attribute \"plan\" of type text | At path $.any[0].op. \
             | Use it on a date or a time.",
        ),
        (
            "{\"attribute\": \"plan\", \"op\": \"has_any\", \"value\": [\"x\"]}",
            "42804 | operator \"has_any\" cannot be used on attribute \"plan\" of type text | At path $.op. | Use it on an array.",
        ),
        (
            "{\"attribute\": \"spot\", \"op\": \"gt\", \"value\": \"(1,1)\"}",
            "42804 | operator \"gt\" cannot be used on attribute \"spot\" of type point | At path $.op. \
             | Values of this type have no order; use \"eq\" or \"in\".",
        ),
        (
            "{\"attribute\": \"age\", \"op\": \"eq\", \"value\": \"old\"}",
            "22023 | invalid segment rule: value \"old\" does not fit type integer | At path $.value. \
             | Give a value of the attribute's type, as text if JSON has no such type.",
        ),
        (
            "{\"attribute\": \"age\", \"op\": \"in\", \"value\": [1, 99999999999]}",
            "22023 | invalid segment rule: value 99999999999 does not fit type integer | At path $.value. \
             | Give a value of the attribute's type, as text if JSON has no such type.",
        ),
        (
            "{\"attribute\": \"feeling\", \"op\": \"eq\", \"value\": \"glad\"}",
            "22023 | invalid segment rule: value \"glad\" does not fit type public.mood | At path $.value. \
             | Give a value of the attribute's type, as text if JSON has no such type.",
        ),
        (
            "{\"attribute\": \"seen\", \"op\": \"after\", \"value\": \"yesterday\"}",
            "22023 | invalid segment rule: value \"yesterday\" is no date or time | At path $.value. \
             | Give an ISO 8601 date such as \"2024-03-01\", or a date and time; without an offset it is UTC.",
        ),
        (
            "{\"attribute\": \"seen\", \"op\": \"within_last\", \"value\": \"a while\"}",
            "22023 | invalid segment rule: unusable duration \"a while\" | At path $.value. \
             | Give a positive duration of at most 100 years, such as \"30 days\" or \"PT12H\".",
        ),
        (
            "{\"attribute\": \"plan\", \"op\": \"like\", \"value\": \"x\"}",
            "22023 | invalid segment rule: unknown operator \"like\" | At path $.op. \
             | Use one of: eq, ne, in, not_in, lt, lte, gt, gte, between, contains, not_contains, starts_with, ends_with, exists, \
             not_exists, before, after, on, within_last, not_within_last, within_next, has_any, has_all, has_none.",
        ),
        (
            "{\"attribute\": \"plan\", \"op\": \"eq\"}",
            "22023 | invalid segment rule: key \"value\" is missing | At path $. | Add the key \"value\".",
        ),
        (
            "{\"attribute\": \"plan\", \"op\": \"exists\", \"value\": true}",
            "22023 | invalid segment rule: operator \"exists\" takes no value | At path $.value. | Leave \"value\" out.",
        ),
        (
            "{\"attribute\": \"plan\", \"op\": \"eq\", \"value\": {\"a\": 1}}",
            "22023 | invalid segment rule: expected a string, a number or a boolean, got an object | At path $.value. \
             | Give a string, a number or a boolean.",
        ),
        (
            "{\"attribute\": \"age\", \"op\": \"between\", \"value\": [1]}",
            "22023 | invalid segment rule: \"between\" takes a list of two values | At path $.value. | Give the least and the greatest value.",
        ),
        (
            "{\"attribute\": \"plan\", \"op\": \"in\", \"value\": []}",
            "22023 | invalid segment rule: the list is empty | At path $.value. | Give at least one value.",
        ),
        (
            "{\"attribute\": \"plan\", \"op\": \"eq\", \"value\": \"x\", \"when\": 1}",
            "22023 | invalid segment rule: unknown key \"when\" | At path $. | Use only: attribute, op, value.",
        ),
        (
            "{\"all\": [{\"every\": []}]}",
            "22023 | invalid segment rule: unknown key \"every\" | At path $.all[0]. | Use only: all, any, not, attribute, event, segment.",
        ),
        (
            "{}",
            "22023 | invalid segment rule: it holds no condition | At path $. \
             | Give one of the keys: all, any, not, attribute, event, segment.",
        ),
        (
            "{\"all\": []}",
            "22023 | invalid segment rule: the list of rules is empty | At path $.all. | Give at least one rule.",
        ),
        (
            "{\"event\": \"buy\", \"count\": {\"gte\": -1}}",
            "22023 | invalid segment rule: a count cannot be compared with -1 | At path $.count.gte. \
             | Give a whole number from 0 to 1000000000.",
        ),
        (
            "{\"event\": \"buy\", \"sum\": {\"gt\": 1}}",
            "22023 | invalid segment rule: key \"of\" is missing | At path $.sum. | Add the key \"of\".",
        ),
        (
            "{\"event\": \"buy\", \"where\": [{\"attribute\": \"plan\", \"op\": \"exists\"}]}",
            "22023 | invalid segment rule: \"plan\" is no path into the properties of an event | At path $.where[0].attribute. \
             | Name a property as \"properties.name\".",
        ),
        (
            "{\"segment\": \"nope\"}",
            "42704 | segment \"nope\" does not exist | Create it with actionflow.create_segment.",
        ),
        (
            "{\"segment\": \"new\"}",
            "22023 | invalid segment rule: segments would go in a circle: \"new\" uses \"new\" | At path $.segment. \
             | Spell the conditions out in one of them.",
        ),
    ];

    #[pg_test]
    fn mistakes_in_rules_are_told_with_code_path_and_hint() {
        alone();
        run(PEOPLE);
        for (rule, expected) in RULES {
            let said = error_of(&format!(
                "select actionflow.create_segment('new', '{rule}')"
            ));
            assert_eq!(said, *expected, "{rule}");
            // Whoever takes a rule says the same.
            let said = error_of(&format!("select actionflow.count_customers('{rule}')"));
            if !rule.contains("\"new\"") {
                assert_eq!(said, *expected, "{rule}");
            }
        }
        assert_eq!(text("select count(*) from actionflow.segments"), "2");
    }

    #[pg_test]
    fn what_is_too_deep_or_too_many_is_refused_with_the_limit() {
        alone();
        run(PEOPLE);
        let leaf = "{\"attribute\": \"plan\", \"op\": \"exists\"}";
        let create = |rule: &str| {
            error_of(&format!(
                "select actionflow.create_segment('new', '{rule}')"
            ))
        };
        let deep =
            |depth: usize| format!("{}{leaf}{}", "{\"not\": ".repeat(depth), "}".repeat(depth));
        assert_eq!(create(&deep(32)), "no error");
        run("select actionflow.delete_segment('new')");
        let path = format!("At path ${}.", ".not".repeat(33));
        assert_eq!(
            create(&deep(33)),
            format!(
                "54000 | invalid segment rule: the depth of the rule is over the limit of 32 | {path} | Split it into several smaller ones."
            )
        );
        let wide = |count: usize| format!("{{\"any\": [{}]}}", vec![leaf; count].join(", "));
        assert_eq!(
            create(&wide(501)),
            "54000 | invalid segment rule: the number of conditions is over the limit of 500 | At path $.any[500]. \
             | Split it into several smaller ones."
        );
        let list = |count: usize| {
            let values: Vec<String> = (0..count).map(|value| value.to_string()).collect();
            format!(
                "{{\"attribute\": \"age\", \"op\": \"in\", \"value\": [{}]}}",
                values.join(", ")
            )
        };
        assert_eq!(create(&list(1000)), "no error");
        run("select actionflow.delete_segment('new')");
        assert_eq!(
            create(&list(1001)),
            "54000 | invalid segment rule: the number of values is over the limit of 1000 | At path $.value. \
             | Split it into several smaller ones."
        );
        assert!(
            create(&"[".repeat(100_000)).starts_with("22P02")
                || create(&"[".repeat(100_000)).starts_with("54001")
        );
    }

    #[pg_test]
    fn circles_are_refused_however_long() {
        alone();
        run(PEOPLE);
        run("select actionflow.create_segment('third', '{\"not\": {\"segment\": \"pros\"}}')");
        assert_eq!(
            error_of(
                "select actionflow.update_segment('adults', '{\"any\": [{\"segment\": \"third\"}]}')"
            ),
            "22023 | invalid segment rule: segments would go in a circle: \"adults\" uses \"third\" uses \"pros\" uses \"adults\" \
             | At path $.any[0].segment. | Spell the conditions out in one of them."
        );
    }

    #[pg_test]
    fn many_segments_that_name_others_do_not_grow_without_a_limit() {
        alone();
        run(PEOPLE);
        run("select actionflow.create_segment('d0', '{\"all\": [{\"attribute\": \"age\", \"op\": \"gt\", \"value\": 1},
                 {\"attribute\": \"age\", \"op\": \"lt\", \"value\": 9}]}')");
        for step in 1..=7 {
            let before = step - 1;
            run(&format!(
                "select actionflow.create_segment('d{step}', '{{\"any\": [{{\"segment\": \"d{before}\"}}, {{\"not\": {{\"segment\": \"d{before}\"}}}}]}}')"
            ));
        }
        let said = error_of(
            "select actionflow.create_segment('d8', '{\"any\": [{\"segment\": \"d7\"}, {\"segment\": \"d7\"}, {\"not\": {\"segment\": \"d7\"}}]}')",
        );
        assert!(said == "no error" || said.starts_with("54000"), "{said}");
    }

    #[pg_test]
    fn mistakes_around_segments_are_told() {
        alone();
        run(PEOPLE);
        let rule = "{\"attribute\": \"id\", \"op\": \"eq\", \"value\": 1}";
        let cases = [
            (
                format!("select actionflow.create_segment('adults', '{rule}')"),
                "42710 | segment \"adults\" already exists | Change its rule with actionflow.update_segment.",
            ),
            (
                format!("select actionflow.create_segment(' x', '{rule}')"),
                "22023 | invalid segment name ' x' | Use 1 to 100 printable characters without \"/\" and without blanks at either end.",
            ),
            (
                "select actionflow.create_segment('new', null)".to_owned(),
                "22004 | rule must not be null | Give a value for rule.",
            ),
            (
                "select actionflow.update_segment('adults', null)".to_owned(),
                "22004 | rule must not be null | Give a value for rule.",
            ),
            (
                "select actionflow.preview_segment('adults', null)".to_owned(),
                "22004 | rule must not be null | Give a value for rule.",
            ),
            (
                format!("select actionflow.create_segment('new', '{rule}', 'public.others')"),
                "42704 | table \"public.others\" is not watched | Call actionflow.watch_customers first.",
            ),
            (
                format!("select actionflow.match_customers('{rule}', 'public.others')"),
                "42704 | table \"public.others\" is not watched | Call actionflow.watch_customers first.",
            ),
            (
                format!("select actionflow.update_segment('nope', '{rule}')"),
                "42704 | segment \"nope\" does not exist | Create it with actionflow.create_segment.",
            ),
            (
                format!("select actionflow.preview_segment('nope', '{rule}')"),
                "42704 | segment \"nope\" does not exist | Create it with actionflow.create_segment.",
            ),
            (
                "select actionflow.delete_segment('nope')".to_owned(),
                "42704 | segment \"nope\" does not exist | Create it with actionflow.create_segment.",
            ),
            (
                "select actionflow.delete_segment('adults')".to_owned(),
                "55000 | segment \"adults\" is used by segment \"pros\" | Change the rule of that one with actionflow.update_segment first.",
            ),
            (
                "select actionflow.delete_segment('adults', force => true)".to_owned(),
                "55000 | segment \"adults\" is used by segment \"pros\" | Change the rule of that one with actionflow.update_segment first.",
            ),
            (
                "select actionflow.tick_batch(0)".to_owned(),
                "22023 | invalid number of checks 0 | Use 1 to 100000.",
            ),
        ];
        for (statement, expected) in cases {
            assert_eq!(error_of(&statement), expected, "{statement}");
        }
        assert_eq!(text("select count(*) from actionflow.segments"), "2");
    }

    #[pg_test]
    fn where_several_tables_are_watched_a_segment_names_its_own() {
        alone();
        run(PEOPLE);
        let rule = "{\"attribute\": \"id\", \"op\": \"eq\", \"value\": 1}";
        run("select actionflow.watch_customers('public.others')");
        assert_eq!(
            error_of(&format!(
                "select actionflow.create_segment('new', '{rule}')"
            )),
            "22023 | several tables are watched | They are public.people, public.others. | Name one of them as relation."
        );
        assert_eq!(
            error_of(
                "select actionflow.create_segment('new', '{\"segment\": \"adults\"}', 'public.others')"
            ),
            "0A000 | invalid segment rule: segment \"adults\", which is over another table, is not supported yet | At path $.segment. | Leave it out."
        );
    }

    #[pg_test]
    fn without_a_watched_table_there_are_no_segments() {
        let rule = "{\"attribute\": \"id\", \"op\": \"eq\", \"value\": 1}";
        assert_eq!(
            error_of(&format!(
                "select actionflow.create_segment('new', '{rule}')"
            )),
            "55000 | no table is watched | Call actionflow.watch_customers first."
        );
    }
}
