-- Making segments.
-- Public: create_segment, preview_segment.

-- A value of a type as the type writes it in UTC and ISO style; NULL when the text stands for none.
create function actionflow._canonical_value(type_id oid, value text) returns text
language plpgsql volatile strict parallel unsafe
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text text;
begin
    execute format('select format(''%%s'', %L::%s)', value, format_type(type_id, -1)) into v_text;
    return v_text;
exception when others then
    -- Input functions raise whatever their authors chose.
    return null;
end
$$;

create function actionflow._column_types(relation regclass, columns text[]) returns jsonb
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return (
    select coalesce(jsonb_object_agg(a.attname, concat_ws(' ', format_type(a.atttypid, -1), 'collate ' || c.collname)), '{}')
    from pg_attribute as a
    left join pg_collation as c on c.oid = a.attcollation
    where a.attrelid = relation and a.attname = any(columns) and a.attnum > 0 and not a.attisdropped
);

-- The table of a rule: the one given, or the only one that is watched.
create function actionflow._segment_relation(relation regclass) returns regclass
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relations regclass[];
begin
    if relation is not null then
        if not exists (select from actionflow._watched_table as w where w.relation = _segment_relation.relation) then
            raise exception using
                errcode = 'undefined_object',
                message = format('table "%s" is not watched', relation),
                hint = 'Call actionflow.watch_customers first.';
        end if;
        return relation;
    end if;
    select array_agg(w.relation order by w.position) into v_relations from actionflow._watched_table as w;
    if v_relations is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'no table is watched',
            hint = 'Call actionflow.watch_customers first.';
    elsif cardinality(v_relations) > 1 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'several tables are watched',
            detail = format('They are %s.', array_to_string(v_relations, ', ')),
            hint = 'Name one of them as relation.';
    end if;
    return v_relations[1];
end
$$;

-- Of a table whose ids are not unique a customer may come twice.
create function actionflow._conflict_sql(relation regclass) returns text
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return case when exists (
    select from actionflow._watched_table as w
    join pg_attribute as a on a.attrelid = w.relation and a.attname = w.id_column
    join pg_index as i on i.indrelid = w.relation and i.indnkeyatts = 1 and i.indkey[0] = a.attnum
    where w.relation = $1 and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
) then '' else 'on conflict do nothing' end;

-- Live events that are known, whether a segment counts them or not: for rules that no segment has.
create view actionflow._known_event as
select e.user_id, e.name, e.occurred_at, e.event_id, e.properties
from actionflow._segment_event as e
union all
select h.user_id, h.name, h.occurred_at, h.id, h.properties
from actionflow._event as h
where h.mode = 'live' and not exists (
    select from actionflow._segment_event as e
    where e.user_id = h.user_id and e.name = h.name and e.occurred_at = h.occurred_at and e.event_id = h.id);

-- What a rule means for a table; now_sql is an expression for the time, events the relation that has the events.
-- What writes a segment or compares it runs with the segment's id as $1 and the time as $2.
create function actionflow._bind(rule jsonb, relation regclass, name text, now_sql text, events text) returns jsonb
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    select actionflow._bind_rule(rule, relation::oid, name, actionflow._id_sql(relation, w.id_column, ''), now_sql, events)
    from actionflow._watched_table as w
    where w.relation = _bind.relation;
end;

create function actionflow._segment_named(name text) returns actionflow._segment
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment actionflow._segment;
begin
    select s.id, s.name, s.relation, s.rule, s.checked, s.columns, s.revision, s.created_at, s.updated_at into v_segment
    from actionflow._segment as s
    where s.name = _segment_named.name;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('segment %s does not exist', coalesce('"' || name || '"', 'NULL')),
            hint = 'Create it with actionflow.create_segment.';
    end if;
    return v_segment;
end
$$;

-- Segments that name this one in their rules, directly or through others, those that are named first.
create function actionflow._segments_using(name text) returns table (segment_id bigint)
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
    with recursive users (id, name, depth) as (
        select s.id, s.name, 1 from actionflow._segment as s
        where jsonb_path_exists(s.rule, 'strict $.**.segment ? (@ == $name)', jsonb_build_object('name', $1), true)
        union all
        select s.id, s.name, u.depth + 1 from users as u, actionflow._segment as s
        where u.depth < 100
            and jsonb_path_exists(s.rule, 'strict $.**.segment ? (@ == $name)', jsonb_build_object('name', u.name), true)
    )
    select u.id from users as u group by u.id order by max(u.depth), u.id;
end;

create function actionflow._segment_tables(relation regclass, counts_events boolean) returns oid[]
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
    select array(
        select r.relid from actionflow._watched_relation as r where r.relation = $1
        union all
        select p.relid::oid from pg_partition_tree('actionflow._event') as p where $2);
end;

-- Writers of the table queue behind this lock, so it is asked for in short turns: a transaction that stays open must not
-- make all others wait.
create function actionflow._keep_writers_out(relation regclass, counts_events boolean) returns void
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_timeout text := current_setting('lock_timeout');
    v_tables text := relation::text || case when counts_events then ', actionflow._event' else '' end;
begin
    for v_turn in 1..300 loop
        begin
            perform set_config('lock_timeout', '100ms', true);
            execute format('lock table %s in share row exclusive mode', v_tables);
            perform set_config('lock_timeout', v_timeout, true);
            return;
        exception when lock_not_available then
            perform pg_sleep(0.1);
        end;
    end loop;
    raise exception using
        errcode = 'lock_not_available',
        message = format('transactions that write to table "%s" stay open', relation),
        hint = 'Try again when they have ended; pg_stat_activity shows them.';
end
$$;

create function actionflow._check_can_build() returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('segments cannot be built in a %s transaction', current_setting('transaction_isolation')),
            detail = 'It would not see what others have changed meanwhile.',
            hint = 'Use a transaction at READ COMMITTED.';
    end if;
end
$$;

-- Notes which events a segment counts, and brings along those that are kept already.
create function actionflow._keep_segment_events(segment_id bigint, events jsonb) returns void
language sql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    delete from actionflow._segment_event_use as u where u.segment_id = _keep_segment_events.segment_id;
    insert into actionflow._segment_event_use (segment_id, name, window_us)
    select _keep_segment_events.segment_id, e.name, e.window_us
    from jsonb_to_recordset(events) as e (name text, window_us bigint);
    insert into actionflow._segment_event (user_id, name, occurred_at, event_id, properties)
    select h.user_id, h.name, h.occurred_at, h.id, h.properties
    from actionflow._event as h
    where h.mode = 'live' and h.name in (select e ->> 'name' from jsonb_array_elements(events) as e)
    on conflict do nothing;
end;

-- The members of a new segment.
create function actionflow._write_members(segment_id bigint, relation regclass, bound jsonb, now timestamptz) returns bigint
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_conflict text := actionflow._conflict_sql(relation);
    v_members bigint;
begin
    if bound ->> 'flip' is null then
        execute format(
            'insert into actionflow._segment_member (segment_id, user_id, entered_at)
             select $1, s.user_id, $2 from (select %s from %s where %s) as s (user_id)
             where s.user_id is not null order by s.user_id collate "C" %s',
            bound ->> 'id', relation, bound ->> 'predicate', v_conflict)
        using segment_id, now;
        get diagnostics v_members = row_count;
        return v_members;
    end if;
    -- Members and flips in one walk, and in the order of the indexes, which is most of the speed.
    execute format(
        'with found as materialized (
             select s.user_id, s.is_member, s.check_at
             from (select %1$s, (%3$s) is true, %4$s from %2$s where %3$s or %5$s) as s (user_id, is_member, check_at)
             where s.user_id is not null order by s.user_id collate "C"
         ), flips as (
             insert into actionflow._segment_flip (segment_id, user_id, check_at)
             select $1, f.user_id, f.check_at from found as f where f.check_at is not null %6$s
         )
         insert into actionflow._segment_member (segment_id, user_id, entered_at)
         select $1, f.user_id, $2 from found as f where f.is_member %6$s',
        bound ->> 'id', relation, bound ->> 'predicate', bound ->> 'flip', bound ->> 'flip_filter', v_conflict)
    using segment_id, now;
    get diagnostics v_members = row_count;
    return v_members;
end
$$;

-- The moments of the next look, for everybody whom a change of attributes by the clock may concern.
create function actionflow._write_flips(segment_id bigint, relation regclass, bound jsonb, now timestamptz) returns void
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if bound ->> 'flip' is null then
        return;
    end if;
    execute format(
        'insert into actionflow._segment_flip (segment_id, user_id, check_at)
         select $1, s.user_id, s.check_at from (select %s, %s from %s where %s) as s (user_id, check_at)
         where s.check_at is not null and s.user_id is not null order by s.user_id collate "C" %s',
        bound ->> 'id', bound ->> 'flip', relation, bound ->> 'flip_filter', actionflow._conflict_sql(relation))
    using segment_id, now;
end
$$;

-- The same for the events that a segment counts, whoever they are of.
create function actionflow._write_event_flips(segment_id bigint, bound jsonb, now timestamptz) returns void
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source text;
begin
    for v_source in select jsonb_array_elements_text(bound -> 'event_flips') loop
        execute format(
            'insert into actionflow._segment_flip as f (segment_id, user_id, check_at)
             select $1, s.user_id, s.check_at from (%s) as s (user_id, check_at) where s.check_at is not null
             on conflict on constraint _segment_flip_pkey do update set check_at = excluded.check_at
             where excluded.check_at < f.check_at', v_source)
        using segment_id, now;
    end loop;
end
$$;

create function actionflow._take_touched() returns text[]
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    with taken as (delete from actionflow._segment_touched as t returning t.user_id)
    select coalesce(array_agg(distinct t.user_id), '{}') from taken as t;
end;

create function actionflow.create_segment(name text, rule jsonb, relation regclass default null) returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation regclass := actionflow._segment_relation(relation);
    v_bound jsonb;
    v_id bigint;
    v_counts_events boolean;
    v_touched text[];
    v_now timestamptz;
    v_members bigint;
begin
    perform actionflow._check_name('segment', name);
    perform actionflow._check_can_build();
    v_bound := actionflow._bind(rule, v_relation, name, '$2', 'actionflow._segment_event');
    insert into actionflow._segment as s (name, relation, rule, checked, columns, revision)
    values (create_segment.name, v_relation, create_segment.rule, v_bound -> 'checked',
        actionflow._column_types(v_relation, array(select jsonb_array_elements_text(v_bound -> 'columns'))),
        nextval('actionflow._segment_revision_seq'))
    on conflict on constraint segment_name_is_unique do nothing
    returning s.id into v_id;
    if v_id is null then
        raise exception using
            errcode = 'duplicate_object',
            message = format('segment "%s" already exists', name),
            hint = 'Change its rule with actionflow.update_segment.';
    end if;
    v_counts_events := jsonb_array_length(v_bound -> 'events') > 0;
    perform actionflow._begin_build(actionflow._segment_tables(v_relation, v_counts_events));
    if v_counts_events then
        perform actionflow._keep_segment_events(v_id, v_bound -> 'events');
    end if;
    v_now := actionflow._segments_now();
    v_members := actionflow._write_members(v_id, v_relation, v_bound, v_now);
    perform actionflow._write_event_flips(v_id, v_bound, v_now);
    perform actionflow._keep_writers_out(v_relation, v_counts_events);
    v_touched := actionflow._take_touched();
    if cardinality(v_touched) > 0 then
        perform actionflow._decide_segment(v_id, v_touched, true);
        select count(*) into v_members from actionflow._segment_member as m where m.segment_id = v_id;
    end if;
    return v_members;
end
$$;

-- Who would enter and exit a segment by a rule.
create function actionflow._differences(segment_id bigint, relation regclass, bound jsonb)
returns table (user_id text, is_exit boolean)
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select coalesce(n.user_id, m.user_id), n.user_id is null
         from (select %s from %s where %s) as n (user_id)
         full join (select m.user_id from actionflow._segment_member as m where m.segment_id = $1) as m on m.user_id = n.user_id
         where n.user_id is null and m.user_id is not null or m.user_id is null and n.user_id is not null',
        bound ->> 'id', relation, bound ->> 'predicate')
    using segment_id, actionflow._segments_now();
end
$$;

create function actionflow.preview_segment(name text, rule jsonb) returns table (user_id text, change text)
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_segment actionflow._segment := actionflow._segment_named(preview_segment.name);
begin
    return query
    select d.user_id, case when d.is_exit then 'exit' else 'enter' end
    from actionflow._differences(v_segment.id, v_segment.relation,
        actionflow._bind(preview_segment.rule, v_segment.relation, preview_segment.name, '$2', 'actionflow._known_event')) as d;
end
$$;
