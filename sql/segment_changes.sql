-- Changing and deleting segments, and what the changes of their tables mean for them.
-- Public: update_segment, delete_segment, add_segment_trigger, tick, tick_batch.

-- Brings a segment's rule into force for its table, and returns what it means.
create function actionflow._prepare_segment(segment_id bigint, rule jsonb) returns jsonb
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment actionflow._segment;
    v_bound jsonb;
begin
    select s.id, s.name, s.relation, s.rule, s.checked, s.columns, s.revision, s.created_at, s.updated_at into v_segment
    from actionflow._segment as s
    where s.id = segment_id;
    v_bound := actionflow._bind(rule, v_segment.relation, v_segment.name, '$2', 'actionflow._segment_event');
    update actionflow._segment as s
    set rule = _prepare_segment.rule, checked = v_bound -> 'checked',
        columns = actionflow._column_types(s.relation, array(select jsonb_array_elements_text(v_bound -> 'columns'))),
        revision = nextval('actionflow._segment_revision_seq'), updated_at = now()
    where s.id = segment_id;
    return v_bound;
end
$$;

create function actionflow.update_segment(name text, rule jsonb)
returns table (entered bigint, exited bigint, remained bigint)
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment actionflow._segment := actionflow._segment_named(name);
    v_affected bigint[] := v_segment.id || array(select u.segment_id from actionflow._segments_using(name) as u);
    v_id bigint;
    v_bound jsonb;
    v_bounds jsonb := '{}';
    v_touched text[];
    v_before text[];
    v_exiting text[];
    v_entering text[];
begin
    if rule is null then
        raise exception using errcode = 'null_value_not_allowed', message = 'rule must not be null', hint = 'Give a value for rule.';
    end if;
    perform actionflow._check_can_build();
    -- Two sessions that change segments at once do so one after the other, in one order.
    perform from actionflow._segment as s where s.id = any(v_affected) order by s.id for update;
    foreach v_id in array v_affected loop
        v_bound := actionflow._prepare_segment(v_id, case when v_id = v_segment.id then update_segment.rule
            else (select s.rule from actionflow._segment as s where s.id = v_id) end);
        v_bounds := v_bounds || jsonb_build_object(v_id::text, v_bound);
    end loop;
    -- Also those who only emit events: they decide by the rule that was in force.
    perform actionflow._begin_build(actionflow._segment_tables(v_segment.relation, true));
    foreach v_id in array v_affected loop
        perform actionflow._keep_segment_events(v_id, v_bounds -> v_id::text -> 'events');
        insert into actionflow._segment_difference (segment_id, user_id, is_exit)
        select v_id, d.user_id, d.is_exit
        from actionflow._differences(v_id, v_segment.relation, v_bounds -> v_id::text) as d;
    end loop;
    perform actionflow._keep_writers_out(v_segment.relation, true);
    v_touched := actionflow._take_touched();
    v_before := array(select m.user_id from actionflow._segment_member as m
                      where m.segment_id = v_segment.id and m.user_id = any(v_touched));
    foreach v_id in array v_affected loop
        select coalesce(array_agg(d.user_id) filter (where d.is_exit), '{}'),
            coalesce(array_agg(d.user_id) filter (where not d.is_exit), '{}')
        into v_exiting, v_entering
        from actionflow._segment_difference as d
        where d.segment_id = v_id and d.user_id <> all(v_touched);
        if v_id = v_segment.id then
            entered := cardinality(v_entering);
            exited := cardinality(v_exiting);
        end if;
        delete from actionflow._segment_flip as f where f.segment_id = v_id;
        v_bound := v_bounds -> v_id::text;
        perform actionflow._write_flips(v_id, v_segment.relation, v_bound, actionflow._segments_now());
        perform actionflow._write_event_flips(v_id, v_bound, actionflow._segments_now());
        perform actionflow._cross(v_id, v_exiting, v_entering);
        perform actionflow._decide_segment(v_id, v_touched, false) where cardinality(v_touched) > 0;
    end loop;
    delete from actionflow._segment_difference as d where d.segment_id = any(v_affected);
    select entered + count(*) filter (where t.user_id <> all(v_before)), count(*) filter (where t.user_id = any(v_before))
    into entered, remained
    from actionflow._segment_member as t
    where t.segment_id = v_segment.id and t.user_id = any(v_touched);
    exited := exited + cardinality(v_before) - remained;
    select count(*) - entered into remained from actionflow._segment_member as m where m.segment_id = v_segment.id;
    return next;
end
$$;

create function actionflow.delete_segment(name text, force boolean default false) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment actionflow._segment := actionflow._segment_named(name);
    v_user text;
begin
    perform from actionflow._segment as s where s.id = v_segment.id for update;
    select s.name into v_user
    from actionflow._segments_using(name) as u
    join actionflow._segment as s on s.id = u.segment_id
    limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('segment "%s" is used by segment "%s"', name, v_user),
            hint = 'Change the rule of that one with actionflow.update_segment first.';
    end if;
    select f.name into v_user
    from actionflow._trigger as t
    join actionflow._flow as f on f.id = t.flow_id
    where t.segment_id = v_segment.id and t.mode = 'live' and not f.is_archived
    limit 1;
    if found and force is not true then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('segment "%s" is used by a live trigger of flow "%s"', name, v_user),
            hint = 'Remove or disable the trigger, or call delete_segment with force => true, which removes it.';
    end if;
    delete from actionflow._trigger as t where t.segment_id = v_segment.id;
    delete from actionflow._segment as s where s.id = v_segment.id;
    delete from actionflow._segment_event_use as u where u.segment_id = v_segment.id;
    -- Its members go in the background, a few at a time; transactions under way may still write some.
    insert into actionflow._segment_gone (segment_id, gone_at) values (v_segment.id, now());
end
$$;

create function actionflow.add_segment_trigger(flow text, segment text, crossing text default 'enter') returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._usable_flow_named(flow);
    v_segment actionflow._segment := actionflow._segment_named(segment);
    v_id bigint;
begin
    if crossing is null or crossing not in ('enter', 'exit') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid crossing %s', coalesce(quote_literal(crossing), 'NULL')),
            hint = 'Use one of: enter, exit.';
    end if;
    insert into actionflow._trigger as t (flow_id, kind, mode, segment_id, crossing)
    values (v_flow.id, 'segment', 'live', v_segment.id, add_segment_trigger.crossing)
    returning t.id into v_id;
    return v_id;
end
$$;

create function actionflow.tick_batch(max_checks int default 1000, now timestamptz default null)
returns table (checked bigint, changed bigint)
language plpgsql volatile parallel unsafe security definer
-- Definer, for the worker's role. The index of due moments is walked in its order, whatever statistics say of a table that
-- changes all the time.
set enable_seqscan = off
set jit = off
set enable_sort = off
set search_path = pg_catalog, pg_temp
as $$
declare
    v_result bigint[];
begin
    if max_checks is null or max_checks not between 1 and 100000 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid number of checks %s', coalesce(max_checks::text, 'NULL')),
            hint = 'Use 1 to 100000.';
    end if;
    v_result := actionflow._look_at_due(max_checks, coalesce(tick_batch.now, actionflow._segments_now()));
    checked := v_result[1];
    changed := v_result[2];
    return next;
end
$$;

create function actionflow.tick(now timestamptz default null) returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := coalesce(tick.now, actionflow._segments_now());
    v_changed bigint := 0;
    v_step record;
begin
    loop
        select b.checked, b.changed into v_step from actionflow.tick_batch(5000, v_now) as b;
        v_changed := v_changed + v_step.changed;
        exit when v_step.checked < 5000;
    end loop;
    return v_changed;
end
$$;

-- What deleted segments have left, and events that no segment counts any more; a step at a time.
create function actionflow._expire_segments(as_of timestamptz) returns bigint
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_gone bigint[] := array(select g.segment_id from actionflow._segment_gone as g);
    v_name record;
    v_deleted bigint := 0;
    v_count bigint;
begin
    delete from actionflow._segment_member as m
    where (m.segment_id, m.user_id) in (
        select k.segment_id, k.user_id from actionflow._segment_member as k where k.segment_id = any(v_gone) limit 5000);
    get diagnostics v_deleted = row_count;
    delete from actionflow._segment_flip as f
    where (f.segment_id, f.user_id) in (
        select k.segment_id, k.user_id from actionflow._segment_flip as k where k.segment_id = any(v_gone) limit 5000);
    get diagnostics v_count = row_count;
    v_deleted := v_deleted + v_count;
    if v_deleted = 0 then
        -- Whoever knew the segment has ended by then.
        delete from actionflow._segment_gone as g where g.gone_at < as_of - interval '1 day';
    end if;
    for v_name in
        with recursive names (name) as (
            (select e.name from actionflow._segment_event as e order by e.name limit 1)
            union all
            select (select e.name from actionflow._segment_event as e where e.name > n.name order by e.name limit 1)
            from names as n where n.name is not null
        )
        select n.name, coalesce(max(u.window_us), 0) as window_us
        from names as n
        left join actionflow._segment_event_use as u on u.name = n.name
        where n.name is not null
        group by n.name
        having count(*) filter (where u.segment_id is not null and u.window_us is null) = 0
    loop
        delete from actionflow._segment_event as e
        where (e.user_id, e.name, e.occurred_at, e.event_id) in (
            select k.user_id, k.name, k.occurred_at, k.event_id from actionflow._segment_event as k
            -- An hour more than needed, for transactions that began earlier.
            where k.name = v_name.name and k.occurred_at < as_of - interval '1 hour' - make_interval(secs => v_name.window_us / 1e6)
            limit 5000);
        get diagnostics v_count = row_count;
        v_deleted := v_deleted + v_count;
    end loop;
    return v_deleted;
end
$$;

-- A column that a segment reads may not change under it: the next write would fail, or mean something else.
create function actionflow._guard_segments() returns event_trigger
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment record;
    v_now jsonb;
    v_column text;
begin
    for v_segment in
        select s.name, s.relation, s.columns, s.checked
        from actionflow._segment as s
        where exists (select from pg_class as k where k.oid = s.relation)
    loop
        v_now := actionflow._column_types(v_segment.relation, array(select jsonb_object_keys(v_segment.columns)));
        select k.name into v_column
        from jsonb_object_keys(v_segment.columns) as k (name)
        where v_now -> k.name is distinct from v_segment.columns -> k.name
        limit 1;
        if found then
            raise exception using
                errcode = 'dependent_objects_still_exist',
                message = format('column "%s" of table "%s" is used by segment "%s"', v_column, v_segment.relation, v_segment.name),
                detail = format('It has type %s in the segment''s rule.', v_segment.columns ->> v_column),
                hint = 'Change the rule with actionflow.update_segment, or delete the segment, then change the column.';
        end if;
        continue when tg_tag <> 'ALTER TYPE';
        begin
            perform actionflow._bind(v_segment.checked, v_segment.relation, null, '$2', 'actionflow._segment_event');
        exception when invalid_parameter_value or datatype_mismatch then
            raise exception using
                errcode = 'dependent_objects_still_exist',
                message = format('segment "%s" uses a value that the type would no longer have', v_segment.name),
                detail = format('The error is: %s.', sqlerrm),
                hint = 'Change the rule with actionflow.update_segment, or delete the segment, then change the type.';
        end;
    end loop;
end
$$;

create event trigger actionflow_guard_segments on ddl_command_end
    when tag in ('ALTER TABLE', 'ALTER TYPE')
    execute function actionflow._guard_segments();
