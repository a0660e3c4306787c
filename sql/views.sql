-- What people read. Every view is public; none shows a secret, a header or a message body.
-- Public: flows, triggers, segments, segment_members, test_users, watched_tables, events, runs, deliveries, delivery_attempts, dead_letters,
-- endpoint_health, explain_run; enrich_attempts is in enrichments.sql.

create view actionflow.test_users as
select t.user_id, t.note, t.added_at
from actionflow._test_user as t;

create view actionflow.watched_tables as
select w.relation, w.id_column, w.profile, w.revoked_when, w.watched_at
from actionflow._watched_table as w;

create view actionflow.flows as
select f.name, f.published_version, f.has_draft,
    case when f.is_archived then 'archived' when f.published_version is null then 'draft' else 'published' end as state
from actionflow._flow as f;

create view actionflow.triggers as
select t.id, f.name as flow, t.kind, t.mode,
    case t.kind
        when 'event' then t.options || jsonb_build_object('event', t.event)
        when 'segment' then t.options || jsonb_build_object('segment', s.name, 'crossing', t.crossing)
        else t.options end as options
from actionflow._trigger as t
join actionflow._flow as f on f.id = t.flow_id
left join actionflow._segment as s on s.id = t.segment_id;

create view actionflow.segments as
select s.name, s.relation, s.rule, s.created_at, s.updated_at
from actionflow._segment as s;

create view actionflow.segment_members as
select s.name as segment, m.user_id, m.entered_at
from actionflow._segment_member as m
join actionflow._segment as s on s.id = m.segment_id;

-- Without the link of a transactional e-mail, which gives access to whoever has it.
create view actionflow.events as
select e.id, e.name, e.user_id,
    case when e.name in ('pre-registration', 'registration', 'forgot-password', 'resend-verification')
        then e.properties - 'verification_url' else e.properties end as properties,
    e.mode, f.name as flow, e.run_id, e.occurred_at
from actionflow._event as e
left join actionflow._flow as f on f.id = e.flow_id;

create view actionflow.runs as
select r.id, f.name as flow, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id,
    r.state, r.error, r.event_id, r.started_at, r.finished_at
from (
    select h.id, h.flow_id, h.version, h.mode, h.user_id, h.flow_invocation_id, h.trigger_id,
        h.state, h.error, h.event_id, h.started_at, h.finished_at
    from actionflow._run_history as h
    union all
    select a.id, a.flow_id, a.version, a.mode, a.user_id, a.flow_invocation_id, a.trigger_id,
        'running', null, a.event_id, a.started_at, null
    from actionflow._run as a
) as r
join actionflow._flow as f on f.id = r.flow_id;

-- Every delivery, wherever it is kept.
create view actionflow._any_delivery as
select d.id, d.run_id, d.flow_id, d.action, d.endpoint_id, d.user_id, d.mode,
    case when d.lease_token is null then 'pending' else 'running' end as state,
    d.attempts, case when d.lease_token is null then d.next_attempt_at end as next_attempt_at,
    d.last_status, d.last_error, d.created_at, null::timestamptz as finished_at,
    d.attempted_at, d.duration_ms, d.response_prefix, d.earlier_attempts
from actionflow._delivery as d
union all
select h.id, h.run_id, h.flow_id, h.action, h.endpoint_id, h.user_id, h.mode,
    h.state, h.attempts, null, h.last_status, h.last_error, h.created_at, h.finished_at,
    h.attempted_at, h.duration_ms, h.response_prefix, h.earlier_attempts
from actionflow._delivery_history as h
union all
select l.id, l.run_id, l.flow_id, l.action, l.endpoint_id, l.user_id, l.mode,
    'dead', l.attempts, null, l.last_status, l.last_error, l.created_at, l.finished_at,
    l.attempted_at, l.duration_ms, l.response_prefix, l.earlier_attempts
from actionflow._dead_letter as l;

create view actionflow.deliveries as
select d.id, d.run_id, f.name as flow, d.action, e.name as endpoint, d.user_id, d.mode, d.state,
    d.attempts, d.next_attempt_at, d.last_status, d.last_error, d.created_at, d.finished_at
from actionflow._any_delivery as d
join actionflow._flow as f on f.id = d.flow_id
join actionflow._endpoint as e on e.id = d.endpoint_id;

create view actionflow.delivery_attempts as
select d.id as delivery_id, a.attempt, a.started_at, a.duration_ms, a.status, a.error, a.response_prefix
from actionflow._any_delivery as d
cross join lateral (
    select j.attempt, j.started_at, j.duration_ms, j.status, j.error, j.response_prefix
    from jsonb_to_recordset(coalesce(d.earlier_attempts, '[]')) as j (
        attempt int, started_at timestamptz, duration_ms int, status int, error text, response_prefix text)
    union all
    select d.attempts, d.attempted_at, d.duration_ms, d.last_status, d.last_error, d.response_prefix
    where d.attempted_at is not null
) as a;

create view actionflow.dead_letters as
select d.id, d.run_id, f.name as flow, d.action, e.name as endpoint, d.user_id, d.mode,
    d.attempts, d.last_status, d.last_error, d.created_at, d.finished_at
from actionflow._dead_letter as d
join actionflow._flow as f on f.id = d.flow_id
join actionflow._endpoint as e on e.id = d.endpoint_id;

create view actionflow.endpoint_health as
select e.name as endpoint,
    case when e.is_enabled then 'enabled' else 'disabled' end as state,
    e.disabled_reason,
    coalesce(q.pending, 0) as pending, coalesce(q.running, 0) as running, coalesce(q.retrying, 0) as retrying,
    (select count(*) from actionflow._dead_letter as l where l.endpoint_id = e.id) as dead,
    q.oldest_pending_at, q.last_error,
    coalesce(g.breaker, 'closed') as breaker, g.open_until as breaker_open_until,
    coalesce(g.failures, 0) as enrich_failures, coalesce(g.in_flight, 0) as enrich_in_flight,
    coalesce(g.refused, 0) as enrich_refused
from actionflow._endpoint as e
left join actionflow._gates() as g on g.endpoint_id = e.id
left join lateral (
    select count(*) filter (where d.lease_token is null) as pending,
        count(*) filter (where d.lease_token is not null) as running,
        count(*) filter (where d.lease_token is null and d.retries > 0) as retrying,
        min(d.created_at) as oldest_pending_at,
        (array_agg(d.last_error order by d.attempted_at desc nulls last) filter (where d.last_error is not null))[1] as last_error
    from actionflow._delivery as d
    where d.endpoint_id = e.id
) as q on true
where e.deleted_at is null;

create function actionflow.explain_run(run_id bigint) returns setof text
language plpgsql stable parallel safe security definer
-- Definer, so that a reader needs the right to execute it only; it shows what the views show.
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run record;
    v_event record;
    v_delivery record;
    v_attempt record;
begin
    select r.id, r.flow, r.version, r.mode, r.user_id, r.flow_invocation_id, r.trigger_id, r.state, r.error, r.event_id,
        r.started_at, r.finished_at
    into v_run
    from actionflow.runs as r where r.id = explain_run.run_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('run %s does not exist', coalesce(run_id::text, 'NULL')),
            hint = 'actionflow.runs lists the runs; old ones go when their retention ends.';
    end if;
    return next format('run %s of flow "%s", %s, %s, for customer %s', v_run.id, v_run.flow,
        coalesce('version ' || v_run.version, 'the draft'), v_run.mode, v_run.user_id);
    select e.name, e.occurred_at into v_event from actionflow._event as e where e.id = v_run.event_id;
    return next case
        when v_event.name is not null then format('started at %s by event %s "%s" (trigger %s), invocation %s',
            v_run.started_at, v_run.event_id, v_event.name, v_run.trigger_id, v_run.flow_invocation_id)
        when v_run.event_id is not null then format('started at %s by event %s, which is no longer kept (trigger %s), invocation %s',
            v_run.started_at, v_run.event_id, v_run.trigger_id, v_run.flow_invocation_id)
        when v_run.trigger_id is not null then format('started at %s by a webhook (trigger %s), invocation %s',
            v_run.started_at, v_run.trigger_id, v_run.flow_invocation_id)
        else format('started at %s by a call, invocation %s', v_run.started_at, v_run.flow_invocation_id) end;
    for v_attempt in
        select a.action, a.endpoint, a.attempt, a.started_at, a.status, a.outcome, a.reason, a.error, a.duration_ms
        from actionflow.enrich_attempts as a
        where a.event_id = v_run.event_id and a.run_id = explain_run.run_id order by a.request_id, a.attempt
    loop
        return next format('action "%s": asked "%s", attempt %s at %s: %s (%s) after %s ms', v_attempt.action, v_attempt.endpoint,
            v_attempt.attempt, v_attempt.started_at, v_attempt.outcome,
            coalesce(v_attempt.error, v_attempt.reason, 'status ' || v_attempt.status, 'no reason given'), v_attempt.duration_ms);
    end loop;
    for v_delivery in
        select d.id, d.action, d.endpoint, d.state, d.attempts, d.next_attempt_at
        from actionflow.deliveries as d where d.run_id = explain_run.run_id order by d.id
    loop
        return next format('action "%s": delivery %s to "%s" is %s after %s attempt(s)%s', v_delivery.action, v_delivery.id,
            v_delivery.endpoint, v_delivery.state, v_delivery.attempts,
            case when v_delivery.state = 'pending' then format(', next at %s', v_delivery.next_attempt_at) else '' end);
        for v_attempt in
            select a.attempt, a.started_at, a.duration_ms, a.status, a.error
            from actionflow.delivery_attempts as a where a.delivery_id = v_delivery.id order by a.attempt
        loop
            return next format('  attempt %s at %s: %s%s', v_attempt.attempt, v_attempt.started_at,
                coalesce('status ' || v_attempt.status, v_attempt.error, 'no answer recorded'),
                coalesce(format(' after %s ms', v_attempt.duration_ms), ''));
        end loop;
    end loop;
    return next case v_run.state
        when 'running' then 'still running: it waits for a delivery above'
        when 'failed' then format('failed at %s: %s', v_run.finished_at, v_run.error)
        else format('%s at %s', v_run.state, v_run.finished_at) end;
end
$$;
