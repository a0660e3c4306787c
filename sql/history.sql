-- Append-only history in rings of partitions, emptied by TRUNCATE.
-- A ring has 16 partitions; which one a row goes to depends on its day alone, so no partition is ever created, attached
-- or dropped: nothing for pg_dump to miss, no lock on the parent, and what is too old goes without a dead row.

-- Which partition of a ring a moment belongs to; core/src/retention.rs has the same rule for rows written from Rust.
create function actionflow._partition(kind text, at timestamptz) returns smallint
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return actionflow._ring_partition(
    (actionflow._setting_value('retention') ->> kind)::int,
    floor(extract(epoch from at))::bigint
);

-- No check constraints on the tables that every start and every delivery writes: Postgres reads each of them anew for
-- every statement, 5 us of the 60 that a start takes. Only engine.rs, cancel_run and completions.sql write states.

create table actionflow._event (
    id bigint not null,
    name text not null,
    user_id text not null,
    properties jsonb not null,
    mode text not null,
    -- The flow and run that emitted it; NULL for events from outside.
    flow_id bigint,
    run_id bigint,
    depth int not null,
    occurred_at timestamptz not null,
    created_at timestamptz not null,
    ring smallint not null
) partition by list (ring);

create index _event_id_idx on actionflow._event (id);

create table actionflow._run_history (
    id bigint not null,
    flow_id bigint not null,
    version int,
    mode text not null,
    user_id text not null,
    flow_invocation_id text not null,
    trigger_id bigint,
    event_id bigint,
    depth int not null,
    state text not null,
    variables jsonb not null,
    error text,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    ring smallint not null
) partition by list (ring);

create index _run_history_id_idx on actionflow._run_history (id);

-- Columns of the last attempt are spelt out, because most deliveries have one attempt only; earlier ones are JSON.
create table actionflow._delivery_history (
    id bigint not null,
    run_id bigint not null,
    flow_id bigint not null,
    endpoint_id bigint not null,
    action text not null,
    user_id text not null,
    mode text not null,
    state text not null,
    is_awaited boolean not null,
    attempts int not null,
    attempted_at timestamptz,
    duration_ms int,
    last_status int,
    last_error text,
    response_prefix text,
    earlier_attempts jsonb,
    created_at timestamptz not null,
    finished_at timestamptz not null,
    ring smallint not null
) partition by list (ring);

create index _delivery_history_id_idx on actionflow._delivery_history (id);
create index _delivery_history_run_idx on actionflow._delivery_history (run_id);

-- Apart from the rest of the history: failures are kept longer, and with all that a replay needs.
create table actionflow._dead_letter (
    id bigint not null,
    run_id bigint not null,
    flow_id bigint not null,
    endpoint_id bigint not null,
    action text not null,
    user_id text not null,
    mode text not null,
    is_awaited boolean not null,
    attempts int not null,
    attempted_at timestamptz,
    duration_ms int,
    last_status int,
    last_error text,
    response_prefix text,
    earlier_attempts jsonb,
    created_at timestamptz not null,
    finished_at timestamptz not null,
    order_key text,
    profile jsonb,
    profile_part text not null,
    enrich_timeout_ms int,
    body_head text not null,
    body_tail text not null,
    ring smallint not null
) partition by list (ring);

create index _dead_letter_id_idx on actionflow._dead_letter (id);
create index _dead_letter_run_idx on actionflow._dead_letter (run_id);

-- Attempts at enrich actions that a transaction waited for, as the worker saw them: they are there whatever became of the
-- transaction. Those of the queue are with their delivery.
create table actionflow._enrich_attempt (
    request_id bigint not null,
    attempt int not null,
    event_id bigint not null,
    run_id bigint not null,
    flow_id bigint not null,
    endpoint_id bigint not null,
    action text not null,
    user_id text not null,
    mode text not null,
    started_at timestamptz not null,
    duration_us bigint not null,
    status int,
    outcome text not null,
    reason text,
    error text,
    is_cached boolean not null,
    finished_at timestamptz not null,
    ring smallint not null
) partition by list (ring);

create index _enrich_attempt_request_idx on actionflow._enrich_attempt (request_id);
create index _enrich_attempt_event_idx on actionflow._enrich_attempt (event_id);

do $$
declare
    v_table text;
begin
    foreach v_table in array array['_event', '_run_history', '_delivery_history', '_dead_letter', '_enrich_attempt'] loop
        for v_ring in 0..15 loop
            execute format('create table actionflow.%I partition of actionflow.%I for values in (%s)',
                v_table || '_' || v_ring, v_table, v_ring);
        end loop;
    end loop;
end
$$;

-- Empties the partitions in which every row is older than the retention, which is looked at again because the retention
-- may have been another one when they were written.
create function actionflow._truncate_expired(parent regclass, kind text, as_of timestamptz) returns int
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_days int := (actionflow._setting_value('retention') ->> kind)::int;
    v_time_column text := case kind when 'events' then 'created_at' else 'finished_at' end;
    v_partition regclass;
    v_is_expired boolean;
    v_count int := 0;
begin
    for v_partition in
        select t.relid from pg_partition_tree(parent) as t
        where t.isleaf and substring(t.relid::text from '\d+$')::int not in (
            -- Where rows of the days that are kept can be.
            select actionflow._ring_partition(v_days, floor(extract(epoch from as_of))::bigint - d.day * 86400)
            from generate_series(0, v_days) as d (day))
    loop
        execute format(
            'select count(*) > 0 and not exists (select from %1$s as n where n.%2$I > $1) from (select from %1$s limit 1) as any_row',
            v_partition, v_time_column)
        into v_is_expired using as_of - make_interval(days => v_days);
        if v_is_expired then
            execute format('truncate %s', v_partition);
            v_count := v_count + 1;
        end if;
    end loop;
    return v_count;
end
$$;
