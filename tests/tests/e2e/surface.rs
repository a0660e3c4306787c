//! The SQL surface as a list that a reviewer reads: a change of it shows as a change of `tests/golden/schema.txt`.

use std::fs;
use std::path::Path;

use actionflow_tests::Database;

/// Every member of the extension, without oids and without what differs between server versions.
const SNAPSHOT: &str = r#"
    with member as (
        select d.classid, d.objid
        from pg_depend as d
        join pg_extension as e on e.oid = d.refobjid
        where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and e.extname = 'actionflow'
    )
    select line from (
        select 'function ' || p.oid::regprocedure || ' returns ' || pg_get_function_result(p.oid)
            || ' ' || case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end
            || case when p.proisstrict then ' strict' else '' end
            || ' parallel ' || case p.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end
            || case when p.prosecdef then ' definer' else '' end
            || coalesce(' set ' || array_to_string(p.proconfig, '; '), '')
            || ' acl ' || coalesce(array_length(p.proacl, 1), 0) as line
        from pg_proc as p join member as m on m.classid = 'pg_proc'::regclass and m.objid = p.oid
        union all
        select case c.relkind when 'v' then 'view ' when 'S' then 'sequence ' else 'table ' end || c.oid::regclass
            || coalesce(' (' || (
                select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                    || case when a.attnotnull then ' not null' else '' end, ', ' order by a.attnum)
                from pg_attribute as a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and c.relkind <> 'S') || ')', '')
            || case when c.oid = any(e.extconfig) then ' dumped' else '' end
        from pg_class as c
        join member as m on m.classid = 'pg_class'::regclass and m.objid = c.oid
        join pg_extension as e on e.extname = 'actionflow'
        where c.relkind in ('r', 'p', 'v', 'S') and c.relname !~ '_([1-9]|1[0-5])$'
        union all
        select 'index ' || regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE ', '')
        from pg_index as i
        join pg_class as c on c.oid = i.indrelid
        join member as m on m.classid = 'pg_class'::regclass and m.objid = c.oid
        where c.relname !~ '_\d+$'
        union all
        select 'constraint ' || k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid)
        from pg_constraint as k
        join member as m on m.classid = 'pg_class'::regclass and m.objid = k.conrelid
        where k.contype in ('c', 'u', 'f')
        union all
        select 'trigger ' || regexp_replace(pg_get_triggerdef(t.oid), '^CREATE ', '')
        from pg_trigger as t
        join member as m on m.classid = 'pg_class'::regclass and m.objid = t.tgrelid
        where not t.tgisinternal
        union all
        select 'event trigger ' || t.evtname || ' on ' || t.evtevent || ' ' || array_to_string(t.evttags, ', ')
        from pg_event_trigger as t
        join member as m on m.classid = 'pg_event_trigger'::regclass and m.objid = t.oid
    ) as s
    order by line collate "C""#;

#[tokio::test]
async fn the_sql_surface_is_the_golden_one() {
    let database = Database::new().await;
    let session = database.session().await;
    let current = session.rows(SNAPSHOT).await.join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/schema.txt");
    if std::env::var_os("ACTIONFLOW_WRITE_GOLDEN").is_some() {
        fs::write(&path, &current).expect("write the golden file");
    }
    let golden = fs::read_to_string(&path).expect("read the golden file");
    let changed: Vec<String> = lines_only_in(&golden, &current, "-")
        .chain(lines_only_in(&current, &golden, "+"))
        .collect();
    assert!(
        changed.is_empty(),
        "the SQL surface has changed (-: golden, +: now). If that is meant, run this test with \
         ACTIONFLOW_WRITE_GOLDEN=1 and review the difference:\n{}",
        changed.join("\n")
    );
}

fn lines_only_in<'a>(
    text: &'a str,
    other: &'a str,
    sign: &'a str,
) -> impl Iterator<Item = String> + 'a {
    text.lines()
        .filter(|line| !other.lines().any(|known| known == *line))
        .map(move |line| format!("{sign} {line}"))
}
