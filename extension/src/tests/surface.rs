//! The public surface as a whole.

#[pgrx::pg_schema]
mod tests {
    use crate::tests::text;
    use pgrx::prelude::*;

    #[pg_test]
    fn every_public_object_has_a_comment() {
        let without = text(
            "select string_agg(o.name, ', ' order by o.name) from (
                 select p.oid::regprocedure::text as name
                 from pg_proc as p
                 where p.pronamespace = 'actionflow'::regnamespace and p.proname !~ '^_'
                     and obj_description(p.oid, 'pg_proc') is null
                 union all
                 select c.oid::regclass::text
                 from pg_class as c
                 where c.relnamespace = 'actionflow'::regnamespace and c.relkind in ('v', 'r') and c.relname !~ '^_'
                     and obj_description(c.oid, 'pg_class') is null
             ) as o",
        );
        assert_eq!(without, "NULL");
    }

    #[pg_test]
    fn the_public_may_execute_nothing_and_read_nothing() {
        let open = text(
            "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc as p
             where p.pronamespace = 'actionflow'::regnamespace
                 and has_function_privilege('pg_monitor', p.oid, 'execute')",
        );
        assert_eq!(open, "NULL");
        let readable = text(
            "select string_agg(c.oid::regclass::text, ', ') from pg_class as c
             where c.relnamespace = 'actionflow'::regnamespace and c.relkind in ('v', 'r', 'p')
                 and has_table_privilege('pg_monitor', c.oid, 'select')",
        );
        assert_eq!(readable, "NULL");
    }

    #[pg_test]
    fn every_definer_function_pins_its_search_path() {
        let unpinned = text(
            "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc as p
             where p.pronamespace = 'actionflow'::regnamespace and p.prosecdef
                 and not coalesce(p.proconfig::text ~ 'search_path=pg_catalog, ?pg_temp', false)",
        );
        assert_eq!(unpinned, "NULL");
    }
}
