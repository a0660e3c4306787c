-- Runs that are under way, and the memory of invocation ids.
-- Public: cancel_run.

create sequence actionflow._event_id_seq;
create sequence actionflow._run_id_seq;
create sequence actionflow._delivery_id_seq;

-- Only runs that wait for something: a run whose actions are all queued at once goes to _run_history when it starts.
create table actionflow._run (
    id bigint primary key,
    flow_id bigint not null,
    version int,
    mode text not null,
    user_id text not null,
    flow_invocation_id text not null,
    trigger_id bigint,
    event_id bigint,
    depth int not null,
    variables jsonb not null,
    started_at timestamptz not null,
    -- What the actions that are still to come need; a draft may change meanwhile, so the definition is kept here.
    definition jsonb not null,
    next_action int not null,
    -- event name and JSON, notificationDetail, metadata, profile: as the start saw them.
    context jsonb not null
);

-- In one index, not in partitions: only so is one start per key certain while two sessions race. Expired keys go in
-- small steps (see maintain), so the table needs no mass DELETE.
create table actionflow._start_key (
    flow_id bigint not null,
    mode text not null,
    flow_invocation_id text not null,
    user_id text not null,
    run_id bigint not null,
    started_at timestamptz not null,
    primary key (flow_id, flow_invocation_id, user_id, mode)
);

create index _start_key_age_idx on actionflow._start_key using brin (started_at) with (pages_per_range = 32);

create function actionflow._finish_run(run_id bigint, state text, error text) returns boolean
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    with finished as (
        delete from actionflow._run as r where r.id = _finish_run.run_id
        returning r.id, r.flow_id, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.event_id, r.depth,
            r.variables, r.started_at
    ), kept as (
        insert into actionflow._run_history (
            id, flow_id, version, mode, user_id, flow_invocation_id, trigger_id, event_id, depth,
            state, variables, error, started_at, finished_at, ring)
        select f.id, f.flow_id, f.version, f.mode, f.user_id, f.flow_invocation_id, f.trigger_id, f.event_id, f.depth,
            _finish_run.state, f.variables, _finish_run.error, f.started_at, actionflow._now(),
            actionflow._partition('runs', actionflow._now())
        from finished as f
        returning id
    )
    select exists (select from kept);
end;

create function actionflow.cancel_run(run_id bigint) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_cancelled bigint;
    v_was_running boolean;
begin
    perform from actionflow._run as r where r.id = cancel_run.run_id for update;
    select count(*) into v_cancelled
    from (
        select actionflow._cancel_deliveries(d.id)
        from actionflow._delivery as d
        where d.run_id = cancel_run.run_id
    ) as c;
    -- On an ordered endpoint a cancelled delivery sets the next one free.
    perform actionflow._wake_worker();
    v_was_running := actionflow._finish_run(run_id, 'cancelled', null);
    if v_was_running then
        return;
    end if;
    update actionflow._run_history as h
    set state = 'cancelled', finished_at = actionflow._now()
    where h.id = cancel_run.run_id and v_cancelled > 0;
    if not found then
        if exists (select from actionflow._run_history as h where h.id = cancel_run.run_id) then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('run %s has ended, and none of its deliveries is waiting', run_id),
                hint = 'What was delivered cannot be taken back.';
        end if;
        raise exception using
            errcode = 'undefined_object',
            message = format('run %s does not exist', coalesce(run_id::text, 'NULL')),
            hint = 'actionflow.runs lists the runs.';
    end if;
end
$$;
