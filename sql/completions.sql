-- What the worker calls when it knows what happened to a request.
-- Public: complete_deliveries.

-- Records what happened to attempts. Whoever has lost the lease changes nothing: its id is not in the answer. `answers` has
-- what endpoints have answered to enrich actions.
create function actionflow.complete_deliveries(
    lease_tokens bigint[],
    ids bigint[],
    outcomes text[],
    retry_after_ms bigint[],
    statuses int[],
    errors text[],
    started_at timestamptz[],
    duration_ms int[],
    responses text[],
    answers text[] default null
) returns bigint[]
language plpgsql volatile parallel unsafe security definer
-- Statistics of a table that fills and empties all the time must not talk the planner into scanning it.
set enable_seqscan = off
set jit = off
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held bigint[];
    v_ended_runs bigint[];
    v_answers jsonb;
    v_gone bigint[];
    v_now timestamptz := actionflow._now();
    v_ring smallint;
    v_delivered boolean := 'delivered' = any(outcomes);
    v_dead boolean := 'dead' = any(outcomes);
    v_retried boolean := outcomes && array['retry', 'gone'];
begin
    v_held := '{}';
    if v_delivered then
        v_ring := actionflow._partition('deliveries', v_now);
        with result as (
            select * from unnest(lease_tokens, ids, outcomes, statuses, errors, started_at, duration_ms, responses, answers)
                as r (lease_token, id, outcome, status, error, started_at, duration_ms, response, answer)
            where r.outcome = 'delivered'
        ), ended as (
            delete from actionflow._delivery as d
            using result as r
            where d.id = r.id and d.lease_token = r.lease_token
            returning d.id, d.run_id, d.flow_id, d.endpoint_id, d.action, d.user_id, d.mode, d.attempts, d.earlier_attempts,
                d.created_at, d.is_awaited, r.status, r.error, r.started_at, r.duration_ms, r.response, r.answer
        ), kept as (
            insert into actionflow._delivery_history (
                id, run_id, flow_id, endpoint_id, action, user_id, mode, state, is_awaited, attempts, attempted_at, duration_ms,
                last_status, last_error, response_prefix, earlier_attempts, created_at, finished_at, ring)
            select e.id, e.run_id, e.flow_id, e.endpoint_id, e.action, e.user_id, e.mode, 'delivered', e.is_awaited, e.attempts, e.started_at,
                e.duration_ms, e.status, e.error, e.response, e.earlier_attempts, e.created_at, v_now, v_ring
            from ended as e
        )
        select array_agg(e.id), array_agg(distinct e.run_id) filter (where e.is_awaited),
            jsonb_agg(jsonb_build_object('run_id', e.run_id, 'action', e.action, 'answer', e.answer::jsonb))
                filter (where e.answer is not null)
        into v_held, v_ended_runs, v_answers
        from ended as e;
    end if;
    if v_dead then
        v_ring := actionflow._partition('dead_letters', v_now);
        with result as (
            select * from unnest(lease_tokens, ids, outcomes, statuses, errors, started_at, duration_ms, responses)
                as r (lease_token, id, outcome, status, error, started_at, duration_ms, response)
            where r.outcome = 'dead'
        ), ended as (
            delete from actionflow._delivery as d
            using result as r
            where d.id = r.id and d.lease_token = r.lease_token
            returning d.id, d.run_id, d.flow_id, d.endpoint_id, d.action, d.user_id, d.mode, d.attempts, d.earlier_attempts,
                d.created_at, d.is_awaited, d.order_key, d.profile, d.profile_part, d.enrich_timeout_ms, d.body_head, d.body_tail,
                r.status, r.error, r.started_at, r.duration_ms, r.response
        ), kept as (
            insert into actionflow._dead_letter (
                id, run_id, flow_id, endpoint_id, action, user_id, mode, is_awaited, attempts, attempted_at, duration_ms,
                last_status, last_error, response_prefix, earlier_attempts, created_at, finished_at,
                order_key, profile, profile_part, enrich_timeout_ms, body_head, body_tail, ring)
            select e.id, e.run_id, e.flow_id, e.endpoint_id, e.action, e.user_id, e.mode, e.is_awaited, e.attempts, e.started_at,
                e.duration_ms, e.status, e.error, e.response, e.earlier_attempts, e.created_at, v_now,
                e.order_key, e.profile, e.profile_part, e.enrich_timeout_ms, e.body_head, e.body_tail, v_ring
            from ended as e
        )
        select v_held || array_agg(e.id), v_ended_runs || array_agg(distinct e.run_id) filter (where e.is_awaited)
        into v_held, v_ended_runs
        from ended as e;
    end if;
    if v_retried then
        with result as (
            select * from unnest(lease_tokens, ids, outcomes, retry_after_ms, statuses, errors, started_at, duration_ms, responses)
                as r (lease_token, id, outcome, retry_after_ms, status, error, started_at, duration_ms, response)
            where r.outcome in ('retry', 'gone')
        ), retried as (
            update actionflow._delivery as d
            set lease_token = null,
                next_attempt_at = clock_timestamp() + make_interval(secs => coalesce(r.retry_after_ms, 0) / 1000.0),
                retries = d.retries + 1,
                attempted_at = r.started_at, duration_ms = r.duration_ms,
                last_status = r.status, last_error = r.error, response_prefix = r.response
            from result as r
            where d.id = r.id and d.lease_token = r.lease_token
            returning d.id, d.endpoint_id, r.outcome
        )
        select v_held || array_agg(t.id), coalesce(array_agg(distinct t.endpoint_id) filter (where t.outcome = 'gone'), '{}')
        into v_held, v_gone
        from retried as t;
        perform actionflow._disable_gone(v_gone);
    end if;
    if cardinality(v_ended_runs) > 0 then
        perform actionflow._advance_runs(v_ended_runs, v_answers);
    end if;
    return coalesce(v_held, '{}');
end
$$;
