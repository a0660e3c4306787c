-- The rows of these tables belong to the user, so pg_dump must take them along.

do $$
declare
    v_relation record;
begin
    for v_relation in
        select c.oid::regclass::text as name
        from pg_class as c
        where c.relnamespace = 'actionflow'::regnamespace and c.relkind in ('r', 'S')
            and c.relname <> '_setting_default'
    loop
        perform pg_extension_config_dump(v_relation.name, '');
    end loop;
end
$$;
