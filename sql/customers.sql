-- Watched customer tables.
-- Public: watch_customers, unwatch_customers, add_test_user, remove_test_user.

create table actionflow._watched_table (
    relation regclass primary key,
    id_column name not null,
    profile name[] not null,
    revoked_when text,
    -- The first one watched holds the profile.
    position bigint generated always as identity,
    watched_at timestamptz not null default pg_catalog.now()
);

create table actionflow._test_user (
    user_id text primary key,
    note text,
    added_at timestamptz not null default pg_catalog.now()
);

create function actionflow.add_test_user(user_id text, note text default null) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if add_test_user.user_id is null or add_test_user.user_id = '' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a test user needs a user_id',
            hint = 'Give the id of a customer, as text.';
    end if;
    insert into actionflow._test_user as t (user_id, note)
    values (add_test_user.user_id, add_test_user.note)
    on conflict on constraint _test_user_pkey do update set note = excluded.note;
end
$$;

create function actionflow.remove_test_user(user_id text) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    delete from actionflow._test_user as t where t.user_id = remove_test_user.user_id;
end;

-- The watched table that a relation belongs to: itself, or the partitioned table above it.
create view actionflow._watched_relation as
select tree.relid::oid as relid, w.relation, w.id_column, w.profile, w.revoked_when, w.position
from actionflow._watched_table as w
join pg_catalog.pg_class as c on c.oid = w.relation,
lateral (
    select p.relid from pg_catalog.pg_partition_tree(w.relation) as p where c.relkind = 'p'
    union all
    select w.relation where c.relkind <> 'p'
) as tree;

create function actionflow._has_customer_triggers(relation oid) returns boolean
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return exists (
    select from pg_trigger as t where t.tgrelid = relation and t.tgname = 'insert_actionflow'
);

-- Statement-level triggers fire only on the table that a statement names, so every partition needs its own.
create function actionflow._create_customer_triggers(relation regclass) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'create trigger insert_actionflow after insert on %s
         referencing new table as actionflow_new
         for each statement execute function actionflow._customers_changed()', relation);
    execute format(
        'create trigger update_actionflow after update on %s
         referencing old table as actionflow_old new table as actionflow_new
         for each statement execute function actionflow._customers_changed()', relation);
    execute format(
        'create trigger delete_actionflow after delete on %s
         referencing old table as actionflow_old
         for each statement execute function actionflow._customers_changed()', relation);
    -- Before, while the rows can still be read: TRUNCATE has no transition table.
    execute format(
        'create trigger truncate_actionflow before truncate on %s
         for each statement execute function actionflow._customers_changed()', relation);
end
$$;

-- For partitions that have come later. Only where the watched table itself has its triggers: while a dump is restored,
-- the dump's own CREATE TRIGGER commands are still to come.
create function actionflow._sync_partition_triggers() returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation regclass;
    v_created boolean := false;
begin
    for v_relation in
        select r.relid::regclass
        from actionflow._watched_relation as r
        where actionflow._has_customer_triggers(r.relation) and not actionflow._has_customer_triggers(r.relid)
    loop
        perform actionflow._create_customer_triggers(v_relation);
        v_created := true;
    end loop;
    if v_created then
        -- Touches no row; the statement's trigger tells every backend that there is a new partition.
        update actionflow._watched_table as w set watched_at = w.watched_at where false;
    end if;
end
$$;

create function actionflow._drop_customer_triggers(relation regclass) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_trigger record;
begin
    for v_trigger in
        select t.tgname, t.tgrelid::regclass as relation
        from pg_trigger as t
        where t.tgfoid = 'actionflow._customers_changed()'::regprocedure
            and t.tgrelid in (
                select r.relid from actionflow._watched_relation as r
                where r.relation = _drop_customer_triggers.relation)
    loop
        execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.relation);
    end loop;
end
$$;

-- Expressions over a row called t. Types that users make are read through their output function: a cast of theirs to
-- text or json would run with the rights of actionflow's owner.
create function actionflow._id_sql(relation regclass, id_column name, prefix text default 't.') returns text
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return (
    -- A cast of boolean to text writes another word than the output function.
    select format(case when a.atttypid < 16384 and a.atttypid <> 'boolean'::regtype then '%2$s%1$I::pg_catalog.text'
        else 'case when %2$s%1$I is not null then pg_catalog.format(''%%s'', %2$s%1$I) end' end, id_column, prefix)
    from pg_attribute as a
    where a.attrelid = relation and a.attname = id_column and not a.attisdropped
);

-- A condition on a row called t: its id is among the texts of the array $1. An id that is no value of the column's type
-- belongs to nobody, and must not fail the others.
create function actionflow._has_id_sql(relation regclass, id_column name) returns text
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return (
    select format(case a.atttypid
        when 'smallint'::regtype then
            't.%1$I = any(array(select u::int2 from unnest($1) as u
                where case when u ~ ''^(0|-?[1-9][0-9]{0,4})$'' then u::numeric between -32768 and 32767 end))'
        when 'integer'::regtype then
            't.%1$I = any(array(select u::int4 from unnest($1) as u
                where case when u ~ ''^(0|-?[1-9][0-9]{0,9})$'' then u::numeric between -2147483648 and 2147483647 end))'
        when 'bigint'::regtype then
            't.%1$I = any(array(select u::int8 from unnest($1) as u
                where case when u ~ ''^(0|-?[1-9][0-9]{0,18})$''
                    then u::numeric between -9223372036854775808 and 9223372036854775807 end))'
        when 'uuid'::regtype then
            't.%1$I = any(array(select u::uuid from unnest($1) as u
                where u ~ ''^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$''))'
        when 'text'::regtype then 't.%1$I = any($1)'
        when 'character varying'::regtype then 't.%1$I = any($1::varchar[])'
        -- Any other type: by its text form, which an index on that expression serves.
        else '%2$s = any($1)' end, id_column, actionflow._id_sql(relation, id_column))
    from pg_attribute as a
    where a.attrelid = relation and a.attname = id_column and not a.attisdropped
);

create function actionflow._profile_sql(relation regclass, profile name[]) returns text
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return (
    select 'pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(' || coalesce(string_agg(
        format(case when a.atttypid < 16384 then '%1$L, t.%1$I'
            else '%1$L, case when t.%1$I is not null then pg_catalog.format(''%%s'', t.%1$I) end' end, a.attname),
        ', ' order by a.attnum), '') || '))'
    from pg_attribute as a
    where a.attrelid = relation and a.attname = any(profile) and not a.attisdropped
);

create function actionflow._check_customer_columns(relation regclass, columns name[]) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_missing name;
begin
    select c.name into v_missing
    from unnest(columns) as c (name)
    where not exists (
        select from pg_attribute as a
        where a.attrelid = relation and a.attname = c.name and a.attnum > 0 and not a.attisdropped)
    limit 1;
    if found then
        raise exception using
            errcode = 'undefined_column',
            message = format('column "%s" of relation "%s" does not exist', v_missing, relation),
            hint = 'Name columns of the customer table in id_column and profile.';
    end if;
end
$$;

create function actionflow.watch_customers(
    relation regclass,
    id_column name default 'id',
    profile name[] default null,
    revoked_when text default null
) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_profile name[] := profile;
begin
    if not exists (select from pg_class as c
                   where c.oid = relation and c.relkind in ('r', 'p') and c.relpersistence <> 't') then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('"%s" is not a permanent table', relation),
            hint = 'Watch an ordinary or a partitioned table.';
    end if;
    perform actionflow._check_customer_columns(relation, array[id_column] || coalesce(profile, '{}'));
    if v_profile is null then
        select coalesce(array_agg(a.attname order by a.attnum), '{}') into v_profile
        from pg_attribute as a
        where a.attrelid = relation and not a.attisdropped
            and a.attname in ('email', 'name', 'first_name', 'last_name', 'phone', 'locale', 'timezone');
    end if;
    if revoked_when is not null then
        -- Parses and types it: a mistake is found here and not by the next writer.
        execute format('select 1 from %s where (%s) is true limit 0', relation, revoked_when);
    end if;
    if exists (select from actionflow._watched_table as w
               where w.relation = watch_customers.relation and w.id_column <> watch_customers.id_column) then
        -- Its members are known by the old ids.
        perform actionflow._check_no_segment_over(relation);
    end if;
    insert into actionflow._watched_table as w (relation, id_column, profile, revoked_when)
    values (watch_customers.relation, watch_customers.id_column, v_profile, watch_customers.revoked_when)
    on conflict on constraint _watched_table_pkey do update
        set id_column = excluded.id_column, profile = excluded.profile, revoked_when = excluded.revoked_when;
    if not actionflow._has_customer_triggers(relation) then
        perform actionflow._create_customer_triggers(relation);
    end if;
    perform actionflow._sync_partition_triggers();
end
$$;

create function actionflow._check_no_segment_over(relation regclass) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment text;
begin
    select s.name into v_segment
    from actionflow._segment as s
    where s.relation = _check_no_segment_over.relation
    limit 1;
    if found then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('segment "%s" is over the table', v_segment),
            hint = 'Delete the segments over the table with actionflow.delete_segment first.';
    end if;
end
$$;

create function actionflow.unwatch_customers(relation regclass) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    perform actionflow._check_no_segment_over(relation);
    perform actionflow._drop_customer_triggers(relation);
    delete from actionflow._watched_table as w where w.relation = unwatch_customers.relation;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('table "%s" is not watched', relation),
            hint = 'Call actionflow.watch_customers first.';
    end if;
end
$$;

-- Definer: whoever creates a partition of a watched table need not have any right on actionflow.
create function actionflow._watch_new_partitions() returns event_trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from actionflow._watched_table) then
        perform actionflow._sync_partition_triggers();
    end if;
end
$$;

create event trigger actionflow_watch_new_partitions on ddl_command_end
    when tag in ('CREATE TABLE', 'ALTER TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    execute function actionflow._watch_new_partitions();

-- A column that actionflow reads by name may not vanish under it: the next write would fail instead.
create function actionflow._guard_customer_columns() returns event_trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_watched record;
begin
    for v_watched in
        select w.relation, c.name
        from actionflow._watched_table as w, unnest(array[w.id_column] || w.profile) as c (name)
        where exists (select from pg_class as k where k.oid = w.relation)
            and not exists (
                select from pg_attribute as a
                where a.attrelid = w.relation and a.attname = c.name and not a.attisdropped)
        limit 1
    loop
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('column "%s" of watched table "%s" is used by actionflow', v_watched.name, v_watched.relation),
            hint = 'Call actionflow.unwatch_customers, change the column, and watch the table again.';
    end loop;
    for v_watched in
        select w.relation, w.revoked_when
        from actionflow._watched_table as w
        where w.revoked_when is not null and exists (select from pg_class as k where k.oid = w.relation)
    loop
        begin
            -- Prepared and not run: this function has more rights than whoever wrote what the condition calls.
            execute format('prepare actionflow_guard as select 1 from %s where (%s) is true',
                v_watched.relation, v_watched.revoked_when);
            deallocate actionflow_guard;
        exception when syntax_error_or_access_rule_violation then
            raise exception using
                errcode = 'dependent_objects_still_exist',
                message = format('the revoked_when condition of watched table "%s" would fail', v_watched.relation),
                detail = format('It says %s; the error is: %s.', v_watched.revoked_when, sqlerrm),
                hint = 'Call actionflow.watch_customers with a condition that works without what you change, then change it.';
        end;
    end loop;
end
$$;

create event trigger actionflow_guard_customer_columns on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function actionflow._guard_customer_columns();

create function actionflow._forget_dropped_tables() returns event_trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Inside DROP EXTENSION the table may be gone already.
    if to_regclass('actionflow._watched_table') is not null then
        perform actionflow._check_no_segment_over(d.objid)
        from pg_event_trigger_dropped_objects() as d
        where d.object_type = 'table' and to_regclass('actionflow._segment') is not null;
        delete from actionflow._watched_table as w
        where w.relation in (select d.objid from pg_event_trigger_dropped_objects() as d where d.object_type = 'table');
    end if;
end
$$;

create event trigger actionflow_forget_dropped_tables on sql_drop
    when tag in ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
    execute function actionflow._forget_dropped_tables();
