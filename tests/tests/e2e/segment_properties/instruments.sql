-- What the test keeps beside actionflow: the plain facts for its oracle, and the memberships before each step.

create table public.json_moment (text text collate "C" primary key, at timestamptz);
create table public.event_log (user_id text, name text, at timestamptz, properties jsonb);
create table public.oracle_segment (name text primary key, sql text not null);
create table public.snapshot (segment text, user_id text);
create table public.snapshot_segment (name text);
create table public.seen (event_id bigint not null);
create table public.complaint (what text, segment text);
insert into public.seen values (0);

create function public.at(microseconds bigint) returns timestamptz language sql immutable
as $$ select make_timestamptz(2024, 3, 1, 0, 0, 0, 'UTC') + microseconds * interval '1 microsecond' $$;

create function public.clock() returns timestamptz language sql stable
as $$ select current_setting('actionflow.now')::timestamptz $$;

create function public.set_clock(microseconds bigint) returns void language sql
as $$ select set_config('actionflow.now', to_char(public.at(microseconds) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', false) $$;

create function public.complain(what text, segment text) returns void language sql
as $$ insert into public.complaint values (what, segment) $$;

-- Ticks at the moment that the clock shows, by small steps or in one.
create function public.ticked(max_checks int) returns void language plpgsql as $$
declare
    v_before bigint := (select coalesce(max(e.id), 0) from actionflow.events as e);
    v_step record;
    v_changed bigint := 0;
    v_events bigint;
begin
    if max_checks is null then
        v_changed := actionflow.tick();
    else
        loop
            select b.checked, b.changed into v_step from actionflow.tick_batch(max_checks) as b;
            v_changed := v_changed + v_step.changed;
            exit when v_step.checked < max_checks;
        end loop;
    end if;
    v_events := (select count(*) from actionflow.events as e where e.id > v_before and e.name in ('segment-entered', 'segment-exited'));
    if v_changed <> v_events then
        perform public.complain(format('tick returned %s and made %s events', v_changed, v_events), null);
    end if;
    v_changed := actionflow.tick(public.clock());
    if v_changed <> 0 then
        perform public.complain(format('a second tick at the same moment changed %s', v_changed), null);
    end if;
end
$$;

create function public.members(name text) returns text[] language sql
as $$ select array(select m.user_id from actionflow.segment_members as m where m.segment = name) $$;

create function public.created(name text, rule jsonb, sql text) returns void language plpgsql as $$
declare
    v_count bigint;
begin
    insert into public.oracle_segment values (name, sql);
    v_count := actionflow.create_segment(name, rule);
    if v_count <> cardinality(public.members(name)) then
        perform public.complain(format('create_segment returned %s, there are %s members', v_count, cardinality(public.members(name))), name);
    end if;
end
$$;

create function public.updated(name text, rule jsonb, sql text) returns void language plpgsql as $$
declare
    v_before text[] := public.members(name);
    v_after text[];
    v_preview text[] := array(select p.change || ' ' || p.user_id from actionflow.preview_segment(name, rule) as p order by 1);
    v_difference text[];
    v_counts record;
begin
    update public.oracle_segment as o set sql = updated.sql where o.name = updated.name;
    select u.entered, u.exited, u.remained into v_counts from actionflow.update_segment(name, rule) as u;
    v_after := public.members(name);
    v_difference := array(
        (select 'enter ' || a from (select unnest(v_after) except select unnest(v_before)) as n (a)
         union all select 'exit ' || b from (select unnest(v_before) except select unnest(v_after)) as n (b))
        order by 1);
    if v_preview <> v_difference then
        perform public.complain(format('preview_segment said %s, update_segment did %s', v_preview, v_difference), name);
    end if;
    if v_counts.entered <> (select count(*) from unnest(v_difference) as d where d like 'enter %')
        or v_counts.exited <> (select count(*) from unnest(v_difference) as d where d like 'exit %')
        or v_counts.remained <> cardinality(v_after) - v_counts.entered
    then
        perform public.complain(format('update_segment returned %s and did %s of %s', v_counts, v_difference, v_after), name);
    end if;
end
$$;

create function public.deleted(name text) returns void language plpgsql as $$
begin
    delete from public.oracle_segment as o where o.name = deleted.name;
    perform actionflow.delete_segment(name);
end
$$;

-- Asks for customers by a rule that no segment has.
create function public.asked(rule jsonb, sql text) returns void language plpgsql as $$
declare
    v_oracle text[] := public.oracle(sql);
    v_matching text[] := array(select m from actionflow.match_customers(rule) as m);
begin
    if not (v_matching @> v_oracle and v_oracle @> v_matching) then
        perform public.complain(format('match_customers(%L) is %s, the oracle %s', rule, v_matching, v_oracle), null);
    end if;
    if actionflow.count_customers(rule) <> cardinality(v_matching) then
        perform public.complain(format('count_customers(%L) is not %s', rule, cardinality(v_matching)), null);
    end if;
end
$$;

-- What is wrong after a step; then the next step begins. A step of a single statement crosses nobody twice.
create function public.problems(is_single boolean) returns table (what text, segment text, user_id text) language plpgsql as $$
#variable_conflict use_column
declare
    v_segment record;
    v_members text[];
    v_matching text[];
    v_oracle text[];
begin
    return query select c.what, c.segment, null::text from public.complaint as c;
    for v_segment in
        select s.name, s.rule, o.sql from actionflow.segments as s join public.oracle_segment as o on o.name = s.name
    loop
        v_members := public.members(v_segment.name);
        v_matching := array(select m from actionflow.match_customers(v_segment.rule) as m);
        v_oracle := public.oracle(v_segment.sql);
        return query
            select format('member: %s, matched: %s, oracle: %s', u.u = any(v_members), u.u = any(v_matching), u.u = any(v_oracle)),
                v_segment.name, u.u
            from (select distinct unnest(v_members || v_matching || v_oracle)) as u (u)
            where (u.u = any(v_members)) <> (u.u = any(v_oracle)) or (u.u = any(v_matching)) <> (u.u = any(v_oracle));
    end loop;
    return query
        with kept as (
            select s.name from actionflow.segments as s join public.snapshot_segment as k on k.name = s.name
        ),
        difference as (
            select d.segment, d.user_id, sum(d.change) as change
            from (
                select m.segment, m.user_id, 1 as change from actionflow.segment_members as m
                union all
                select p.segment, p.user_id, -1 from public.snapshot as p
            ) as d
            where d.segment in (select k.name from kept as k)
            group by d.segment, d.user_id
            having sum(d.change) <> 0
        ),
        crossing as (
            select e.properties ->> 'segment' as segment, e.user_id,
                sum(case e.name when 'segment-entered' then 1 else -1 end) as change,
                string_agg(e.name, ', ' order by e.id) as names, count(*) as number
            from actionflow.events as e
            where e.id > (select s.event_id from public.seen as s) and e.name in ('segment-entered', 'segment-exited')
            group by 1, 2
        )
        select format('members changed by %s, events: %s', coalesce(d.change, 0), coalesce(c.names, 'none')), segment, user_id
        from difference as d
        full join crossing as c using (segment, user_id)
        where coalesce(d.change, 0) <> coalesce(c.change, 0) and (is_single or segment in (select k.name from kept as k))
            or is_single and c.number > abs(c.change);
    delete from public.complaint;
    delete from public.snapshot;
    insert into public.snapshot select m.segment, m.user_id from actionflow.segment_members as m;
    delete from public.snapshot_segment;
    insert into public.snapshot_segment select s.name from actionflow.segments as s;
    update public.seen set event_id = (select coalesce(max(e.id), 0) from actionflow.events as e);
end
$$;
