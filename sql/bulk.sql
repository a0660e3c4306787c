-- Bulk jobs: starts for a whole audience, in the background and in chunks; the members that a segment has already.
-- Public: start_flow_for, run_bulk_jobs, cancel_bulk_job, view bulk_jobs.

create table actionflow._bulk_job (
    id bigint generated always as identity primary key,
    flow_id bigint not null references actionflow._flow (id),
    kind text not null constraint kind_is_known check (kind in ('audience')),
    mode text not null constraint mode_is_known check (mode in ('test', 'live')),
    state text not null default 'pending'
        constraint state_is_known check (state in ('pending', 'running', 'completed', 'failed', 'cancelled')),
    -- As it was asked for; of users only their number, since the targets are they.
    audience jsonb not null,
    options jsonb not null,
    -- What the runs are marked with; the caller's own one also tells duplicates.
    invocation_id text not null,
    total bigint not null default 0,
    started bigint not null default 0,
    duplicates bigint not null default 0,
    skipped bigint not null default 0,
    failed bigint not null default 0,
    next_position bigint not null default 1,
    error text,
    created_at timestamptz not null,
    finished_at timestamptz,
    constraint finished_has_finished_at
        check ((state in ('completed', 'failed', 'cancelled')) = (finished_at is not null))
);

-- Only unfinished jobs, so that the worker's look every second costs the same however many there were.
create index _bulk_job_unfinished_idx on actionflow._bulk_job (id) where state in ('pending', 'running');

-- Whom the job has still to look at. No foreign key: checking it would cost more than the insert of a million targets.
create table actionflow._bulk_target (
    job_id bigint not null,
    -- From 1, without a gap.
    position bigint not null,
    user_id text not null,
    primary key (job_id, position)
);

create view actionflow.bulk_jobs as
select j.id, f.name as flow, j.mode, j.state, j.total, j.started, j.duplicates, j.skipped, j.failed,
    j.created_at, j.finished_at, j.error
from actionflow._bulk_job as j
join actionflow._flow as f on f.id = j.flow_id;

-- Only a watched table: whoever may start flows for customers may not ask about anything else.
create function actionflow._audience_relation(relation text) returns regclass
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_relation regclass := to_regclass(relation);
begin
    if v_relation is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('relation "%s" does not exist', relation),
            hint = 'Write it with its schema, such as "public.customers".';
    end if;
    if not exists (select from actionflow._watched_table as w where w.relation = v_relation) then
        raise exception using
            errcode = 'undefined_object',
            message = format('table "%s" is not watched', v_relation),
            hint = 'Call actionflow.watch_customers first.';
    end if;
    return v_relation;
end
$$;

-- The customers of an audience as they are now; it is a segment, a rule or users.
create function actionflow._audience(segment text, rule jsonb, relation text, users text[]) returns setof text
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_segment_id bigint;
begin
    if users is not null then
        return query select u.user_id from unnest(users) as u (user_id);
    elsif segment is not null then
        select s.id into v_segment_id from actionflow._segment as s where s.name = _audience.segment;
        if not found then
            raise exception using
                errcode = 'undefined_object',
                message = format('segment "%s" does not exist', segment),
                hint = 'Create it with actionflow.create_segment.';
        end if;
        return query select m.user_id from actionflow._segment_member as m where m.segment_id = v_segment_id;
    else
        return query
        select m.user_id
        from actionflow.match_customers(
            rule, case when relation is not null then actionflow._audience_relation(relation) end) as m (user_id);
    end if;
end
$$;

-- Definer, so that a role that may start flows needs no right on customers, segments or jobs.
create function actionflow.start_flow_for(flow text, audience jsonb, options jsonb default '{}') returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request record;
    v_id bigint;
    v_total bigint;
begin
    select r.flow_id, r.segment, r.rule, r.relation, r.users, r.max_customers, r.invocation_id into v_request
    from actionflow._bulk_request(flow, audience, options) as r;
    insert into actionflow._bulk_job as j (flow_id, kind, mode, audience, options, invocation_id, created_at)
    values (v_request.flow_id, 'audience', 'live',
        case when v_request.users is null then start_flow_for.audience
            else jsonb_build_object('users', cardinality(v_request.users)) end,
        start_flow_for.options, v_request.invocation_id, actionflow._now())
    returning j.id into v_id;
    insert into actionflow._bulk_target (job_id, position, user_id)
    select v_id, row_number() over (order by c.user_id collate "C"), c.user_id
    from (
        select distinct a.user_id
        from actionflow._audience(v_request.segment, v_request.rule, v_request.relation, v_request.users) as a (user_id)
    ) as c
    -- One more than is allowed tells that there are too many, without writing all of them.
    limit v_request.max_customers + 1;
    get diagnostics v_total = row_count;
    if v_total > v_request.max_customers then
        select count(distinct a.user_id) into v_total
        from actionflow._audience(v_request.segment, v_request.rule, v_request.relation, v_request.users) as a (user_id);
        raise exception using
            errcode = 'program_limit_exceeded',
            message = format('the audience is over the limit of %s customers', v_request.max_customers),
            detail = format('It has %s customers.', v_total),
            hint = 'Narrow it, or raise the option "max_customers" (at most 1000000).';
    end if;
    update actionflow._bulk_job as j set total = v_total where j.id = v_id;
    if v_total = 0 then
        perform actionflow._end_bulk_job(v_id, 'completed', null);
    end if;
    return v_id;
end
$$;

create function actionflow._end_bulk_job(job_id bigint, state text, error text) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    delete from actionflow._bulk_target as t where t.job_id = _end_bulk_job.job_id;
    update actionflow._bulk_job as j
    set state = _end_bulk_job.state, error = coalesce(_end_bulk_job.error, j.error), finished_at = actionflow._now()
    where j.id = _end_bulk_job.job_id;
end;

-- The next customers of a job that the caller has locked; returns how many it looked at.
create function actionflow._run_bulk_chunk(job_id bigint, max_customers int) returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record;
    v_users text[];
    v_customers text[];
    v_started bigint := 0;
    v_duplicates bigint := 0;
    v_failed bigint := 0;
    v_error text;
begin
    select f.name as flow, f.is_archived, j.options, j.invocation_id, j.next_position into v_job
    from actionflow._bulk_job as j
    join actionflow._flow as f on f.id = j.flow_id
    where j.id = _run_bulk_chunk.job_id;
    if v_job.is_archived then
        perform actionflow._end_bulk_job(job_id, 'failed', format('flow "%s" is archived', v_job.flow));
        return 0;
    end if;
    -- What a chunk starts commits with the end of its targets, so a crash repeats nothing and leaves nobody out.
    with chunk as (
        delete from actionflow._bulk_target as t
        where t.job_id = _run_bulk_chunk.job_id
            and t.position >= v_job.next_position and t.position < v_job.next_position + max_customers
        returning t.position, t.user_id
    )
    select coalesce(array_agg(c.user_id order by c.position), '{}') into v_users from chunk as c;
    v_customers := v_users;
    begin
        select coalesce(array_agg(distinct p.user_id), '{}') into v_customers from actionflow._profiles(v_users) as p;
        select s.started, s.duplicates into v_started, v_duplicates
        from actionflow._start_for_bulk(v_job.flow, v_job.options, v_job.invocation_id, v_customers) as s;
    exception
        -- These pass; the whole chunk is tried again.
        when transaction_rollback or insufficient_resources or operator_intervention or lock_not_available then
            raise;
        when others then
            v_error := sqlerrm;
            v_failed := cardinality(v_customers);
    end;
    update actionflow._bulk_job as j
    set state = 'running',
        started = j.started + v_started,
        duplicates = j.duplicates + v_duplicates,
        skipped = j.skipped + cardinality(v_users) - cardinality(v_customers),
        failed = j.failed + v_failed,
        next_position = j.next_position + max_customers,
        error = coalesce(v_error, j.error)
    where j.id = _run_bulk_chunk.job_id;
    perform actionflow._end_bulk_job(
        j.id, case when j.failed > 0 and j.started + j.duplicates = 0 then 'failed' else 'completed' end, null)
    from actionflow._bulk_job as j
    where j.id = _run_bulk_chunk.job_id and j.next_position > j.total;
    return cardinality(v_users);
end
$$;

create function actionflow.run_bulk_jobs(max_customers int default 1000) returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job_id bigint;
    v_looked_at bigint := 0;
begin
    if max_customers is null or max_customers not between 1 and 10000 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid number of customers %s', coalesce(max_customers::text, 'NULL')),
            hint = 'Use a number from 1 to 10000.';
    end if;
    -- A job that ends without looking at anybody makes way for the next one.
    while v_looked_at = 0 loop
        select j.id into v_job_id
        from actionflow._bulk_job as j
        where j.state in ('pending', 'running')
        order by j.id
        limit 1
        for update skip locked;
        exit when not found;
        v_looked_at := actionflow._run_bulk_chunk(v_job_id, max_customers);
    end loop;
    return v_looked_at;
end
$$;

create function actionflow.cancel_bulk_job(id bigint) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_state text;
begin
    select j.state into v_state from actionflow._bulk_job as j where j.id = cancel_bulk_job.id for update;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('bulk job %s does not exist', coalesce(id::text, 'NULL')),
            hint = 'actionflow.bulk_jobs lists the jobs.';
    end if;
    if v_state not in ('pending', 'running') then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('bulk job %s is %s already', id, v_state),
            hint = 'What it has started goes on; actionflow.cancel_run ends a run.';
    end if;
    perform actionflow._end_bulk_job(id, 'cancelled', null);
end
$$;

create function actionflow._expire_bulk_jobs(as_of timestamptz) returns bigint
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    with expired as (
        delete from actionflow._bulk_job as j
        where j.finished_at < as_of - make_interval(days => (actionflow._setting_value('retention') ->> 'runs')::int)
        returning j.id
    )
    select count(*) from expired;
end;

-- Who is in the segments on whose enter crossing a live trigger of the flow waits.
create function actionflow._existing_members(flow_id bigint) returns setof text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
begin atomic
    select distinct m.user_id
    from actionflow._trigger as t
    join actionflow._segment_member as m on m.segment_id = t.segment_id
    where t.flow_id = _existing_members.flow_id and t.kind = 'segment' and t.crossing = 'enter' and t.mode = 'live';
end;
