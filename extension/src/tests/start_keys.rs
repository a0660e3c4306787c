//! Start keys: how they are looked up.

#[pgrx::pg_schema]
mod tests {
    use crate::pg::settings::by_index;
    use crate::start_keys::{FIND_MANY, FIND_ONE};
    use crate::tests::{alone, run};
    use pgrx::prelude::*;

    fn plan_of(query: &str, arguments: &str) -> String {
        run(&format!("prepare query_of_keys as {query}"));
        let plan = by_index(|| {
            Spi::connect_mut(|client| {
                let lines = client
                    .update(
                        &format!("explain execute query_of_keys({arguments})"),
                        None,
                        &[],
                    )
                    .expect("a plan");
                let lines: Vec<String> = lines
                    .filter_map(|line| line.get::<String>(1).expect("text"))
                    .collect();
                lines.join("\n")
            })
        });
        run("deallocate query_of_keys");
        plan
    }

    // A plan that is kept is often made while the table is nearly empty, and serves when it is not.
    #[pg_test]
    fn keys_are_looked_up_by_all_of_the_index_whatever_the_statistics_say() {
        alone();
        run("set local plan_cache_mode = force_generic_plan");
        for rows in [0, 1000] {
            run(&format!(
                "insert into actionflow._start_key
                 select 1, 'live', 'i', u::text, u, now() from generate_series(1, {rows}) as u"
            ));
            for (query, arguments) in [
                (FIND_ONE, "1, 'live', 'i', 'u'"),
                (FIND_MANY, "1, 'live', '{i}', '{u}'"),
            ] {
                let plan = plan_of(query, arguments);
                let by_index = plan.lines().find(|line| line.contains("Index Cond"));
                let columns = ["flow_id", "mode", "flow_invocation_id", "user_id"];
                assert!(
                    by_index.is_some_and(|line| columns.iter().all(|column| line.contains(column))),
                    "{plan}"
                );
                assert!(!plan.contains("Filter"), "{plan}");
            }
        }
    }
}
