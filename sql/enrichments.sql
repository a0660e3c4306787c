-- Enrich: what the worker needs beside the ring in shared memory, and triggers that ask before a row is inserted.
-- Public: enrich_endpoint, record_enrichments, enrich_before_insert, stop_enrich_before_insert; take_enrichments and answer_enrichments are
-- in extension/src/enrich/serve.rs.
--
-- A request's head: {"id", "endpoint_id", "endpoint_revision", "url", "flow_id", "run_id", "event_id", "action", "user_id", "mode",
-- "cache_key", "cache_seconds"}; its body is the message to send, and its id comes from the sequence of deliveries.

-- An endpoint's settings, with its secrets; NULL when it does not exist.
create function actionflow.enrich_endpoint(endpoint_id bigint) returns text
language sql stable parallel safe security definer
set search_path = pg_catalog, pg_temp
begin atomic
    select actionflow._endpoint_for_worker(e.id)::text
    from actionflow._endpoint as e
    where e.id = enrich_endpoint.endpoint_id and e.deleted_at is null;
end;

-- Records attempts; 410 disables the endpoint, as it does for deliveries.
create function actionflow.record_enrichments(entries jsonb) returns void
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := actionflow._now();
    v_ring smallint := actionflow._partition('deliveries', v_now);
begin
    insert into actionflow._enrich_attempt (
        request_id, attempt, event_id, run_id, flow_id, endpoint_id, action, user_id, mode, started_at, duration_us, status,
        outcome, reason, error, is_cached, finished_at, ring)
    select a.request_id, a.attempt, a.event_id, a.run_id, a.flow_id, a.endpoint_id, a.action, a.user_id, a.mode,
        to_timestamp(a.started_at / 1000000.0), a.duration_us, a.status, a.outcome, a.reason, a.error, a.is_cached, v_now,
        v_ring
    from jsonb_to_recordset(entries) as a (
        request_id bigint, attempt int, event_id bigint, run_id bigint, flow_id bigint, endpoint_id bigint, action text,
        user_id text, mode text, started_at bigint, duration_us bigint, status int, outcome text, reason text, error text,
        is_cached boolean);
    perform actionflow._disable_gone(array(
        select (a.entry ->> 'endpoint_id')::bigint from jsonb_array_elements(entries) as a (entry)
        where a.entry ->> 'status' = '410'));
end
$$;

create view actionflow.enrich_attempts as
select a.request_id, a.attempt, a.event_id, a.run_id, f.name as flow, a.action, e.name as endpoint, a.user_id, a.mode,
    a.started_at, (a.duration_us / 1000.0)::numeric(12, 3) as duration_ms, a.status, a.outcome, a.reason, a.error, a.is_cached
from actionflow._enrich_attempt as a
join actionflow._flow as f on f.id = a.flow_id
join actionflow._endpoint as e on e.id = a.endpoint_id;

-- At most 63 bytes, however long the event's name is.
create function actionflow._row_trigger_name(event text) returns name
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
return 'actionflow_enrich_' || case when octet_length(event) <= 40 then event else left(md5(event), 16) end;

-- Asks before each row of a table is inserted; see docs/enrich.md for the options.
create function actionflow.enrich_before_insert(relation regclass, event text, options jsonb default '{}') returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if relation is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'relation must not be null',
            hint = 'Name the table whose inserts ask first.';
    end if;
    perform actionflow._check_name('event', event);
    perform actionflow._check_row_options(relation, coalesce(options, '{}'));
    execute format(
        'create or replace trigger %I before insert on %s for each row execute function actionflow._enrich_row(%L, %L)',
        actionflow._row_trigger_name(event), relation, event, coalesce(options, '{}'));
end
$$;

create function actionflow.stop_enrich_before_insert(relation regclass, event text) returns void
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select from pg_trigger as t
        where t.tgrelid = relation and t.tgname = actionflow._row_trigger_name(event)) then
        raise exception using
            errcode = 'undefined_object',
            message = format('inserts into %s do not ask by event "%s"', relation, event),
            hint = 'actionflow.enrich_before_insert makes them.';
    end if;
    execute format('drop trigger %I on %s', actionflow._row_trigger_name(event), relation);
end
$$;
