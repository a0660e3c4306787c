-- The delivery queue: undelivered deliveries only; whatever ends moves to the history (history.sql).
-- Public: replay_delivery, replay_dead_letters. For the worker: claims.sql and completions.sql.
--
-- States of a row here: pending (lease_token is null) and running (leased until next_attempt_at). A claim moves
-- next_attempt_at to the end of the lease, so one index serves due deliveries, leases that ran out and retries.

create table actionflow._delivery (
    id bigint primary key,
    run_id bigint not null,
    flow_id bigint not null,
    endpoint_id bigint not null,
    next_attempt_at timestamptz not null,
    created_at timestamptz not null,
    lease_token bigint,
    attempts int not null default 0,
    -- Position in the endpoint's retry schedule; a replay sets it back, attempts go on counting.
    retries int not null default 0,
    -- The run's next action starts only when this one has ended.
    is_awaited boolean not null,
    -- What of the customer's profile is read when it is sent: all, email, or none because `profile` has it already.
    profile_part text not null,
    mode text not null,
    action text not null,
    user_id text not null,
    -- The customer, on ordered endpoints only.
    order_key text,
    profile jsonb,
    -- How long an attempt of an enrich action may take; NULL: notify.
    enrich_timeout_ms int,
    -- The JSON message around the customer, who is read when it is sent.
    body_head text not null,
    body_tail text not null,
    attempted_at timestamptz,
    duration_ms int,
    last_status int,
    last_error text,
    response_prefix text,
    earlier_attempts jsonb
) with (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 1
);

create index _delivery_due_idx on actionflow._delivery (endpoint_id, next_attempt_at, id);
-- Finds an earlier delivery to the same customer; empty unless an endpoint is ordered.
create index _delivery_order_idx on actionflow._delivery (endpoint_id, order_key, id) where order_key is not null;

-- The attempt that a row records, as an element of earlier_attempts.
create function actionflow._attempt_json(
    attempt int, started_at timestamptz, duration_ms int, status int, error text, response_prefix text
) returns jsonb
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
    'attempt', attempt, 'started_at', started_at, 'duration_ms', duration_ms,
    'status', status, 'error', error, 'response_prefix', response_prefix);

create function actionflow._cancel_deliveries(delivery_id bigint) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    with cancelled as (
        delete from actionflow._delivery as d where d.id = delivery_id
        returning d.id, d.run_id, d.flow_id, d.endpoint_id, d.action, d.user_id, d.mode, d.is_awaited, d.attempts, d.attempted_at,
            d.duration_ms, d.last_status, d.last_error, d.response_prefix, d.earlier_attempts, d.created_at
    )
    insert into actionflow._delivery_history (
        id, run_id, flow_id, endpoint_id, action, user_id, mode, state, is_awaited, attempts, attempted_at,
        duration_ms, last_status, last_error, response_prefix, earlier_attempts, created_at, finished_at, ring)
    select c.id, c.run_id, c.flow_id, c.endpoint_id, c.action, c.user_id, c.mode, 'cancelled', c.is_awaited, c.attempts, c.attempted_at,
        c.duration_ms, c.last_status, c.last_error, c.response_prefix, c.earlier_attempts, c.created_at,
        actionflow._now(), actionflow._partition('deliveries', actionflow._now())
    from cancelled as c;
end;

create function actionflow._replay_dead_letters(ids bigint[]) returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    with dead as (
        delete from actionflow._dead_letter as d
        using actionflow._endpoint as e
        where d.id = any(ids) and e.id = d.endpoint_id and e.deleted_at is null
        returning d.id, d.run_id, d.flow_id, d.endpoint_id, d.action, d.user_id, d.mode, d.attempts, d.attempted_at,
            d.duration_ms, d.last_status, d.last_error, d.response_prefix, d.earlier_attempts, d.created_at,
            d.order_key, d.profile, d.profile_part, d.enrich_timeout_ms, d.body_head, d.body_tail
    )
    insert into actionflow._delivery (
        id, run_id, flow_id, endpoint_id, next_attempt_at, created_at, attempts, is_awaited, profile_part, mode,
        action, user_id, order_key, profile, enrich_timeout_ms, body_head, body_tail,
        attempted_at, duration_ms, last_status, last_error, response_prefix, earlier_attempts)
    -- Nobody waits for it any more: its run failed when it died.
    select d.id, d.run_id, d.flow_id, d.endpoint_id, clock_timestamp(), d.created_at, d.attempts, false, d.profile_part, d.mode,
        d.action, d.user_id, d.order_key, d.profile, d.enrich_timeout_ms, d.body_head, d.body_tail,
        d.attempted_at, d.duration_ms, d.last_status, d.last_error, d.response_prefix, d.earlier_attempts
    from dead as d;
    get diagnostics v_count = row_count;
    if v_count > 0 then
        perform actionflow._wake_worker();
    end if;
    return v_count;
end
$$;

create function actionflow.replay_delivery(id bigint) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if actionflow._replay_dead_letters(array[id]) > 0 then
        return;
    end if;
    if exists (select from actionflow._dead_letter as d where d.id = replay_delivery.id) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('the endpoint of delivery %s has been deleted', id),
            hint = 'A dead letter of a deleted endpoint is kept for reading only.';
    end if;
    if exists (select from actionflow._delivery as d where d.id = replay_delivery.id)
        or exists (select from actionflow._delivery_history as h where h.id = replay_delivery.id) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('delivery %s is not dead', id),
            hint = 'Only dead deliveries can be replayed; actionflow.dead_letters lists them.';
    end if;
    raise exception using
        errcode = 'undefined_object',
        message = format('delivery %s does not exist', coalesce(id::text, 'NULL')),
        hint = 'actionflow.deliveries lists the deliveries.';
end
$$;

create function actionflow.replay_dead_letters(endpoint text default null) returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_endpoint_id bigint := case when endpoint is not null then actionflow._endpoint_named(endpoint) end;
begin
    return actionflow._replay_dead_letters(array(
        select d.id from actionflow._dead_letter as d
        where v_endpoint_id is null or d.endpoint_id = v_endpoint_id));
end
$$;
