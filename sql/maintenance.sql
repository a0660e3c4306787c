-- What the worker calls by the clock.
-- Public: maintain, queue_stats.

-- Housekeeping, for any worker to call every minute; one at a time, the others return at once.
create function actionflow.maintain() returns jsonb
language plpgsql volatile parallel unsafe security definer
-- Truncating waits for readers of that partition: not for long, the next call tries again.
set lock_timeout = '2s'
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := actionflow._now();
    v_truncated int := 0;
    v_keys bigint;
    v_segments bigint;
begin
    if not pg_try_advisory_xact_lock('actionflow._event'::regclass::oid::int, 0) then
        return '{"skipped": true, "more": false}';
    end if;
    begin
        v_truncated := actionflow._truncate_expired('actionflow._event', 'events', v_now)
            + actionflow._truncate_expired('actionflow._run_history', 'runs', v_now)
            + actionflow._truncate_expired('actionflow._delivery_history', 'deliveries', v_now)
            + actionflow._truncate_expired('actionflow._dead_letter', 'dead_letters', v_now)
            + actionflow._truncate_expired('actionflow._enrich_attempt', 'deliveries', v_now);
    exception when lock_not_available then
        v_truncated := 0;
    end;
    with expired as (
        select k.ctid
        from actionflow._start_key as k
        where k.started_at < v_now - (actionflow._setting_value('idempotency_retention') #>> '{}')::interval
        limit 5000
        for update skip locked
    )
    delete from actionflow._start_key as k using expired as e where k.ctid = e.ctid;
    get diagnostics v_keys = row_count;
    v_segments := actionflow._expire_segments(v_now);
    return jsonb_build_object('truncated_partitions', v_truncated, 'expired_start_keys', v_keys,
        'expired_segment_rows', v_segments, 'expired_bulk_jobs', actionflow._expire_bulk_jobs(v_now),
        'more', v_keys = 5000 or v_segments >= 5000);
end
$$;

create function actionflow.queue_stats()
returns table (endpoint text, mode text, pending bigint, running bigint, oldest_due_seconds double precision)
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
begin atomic
    select e.name, d.mode,
        count(*) filter (where d.lease_token is null),
        count(*) filter (where d.lease_token is not null),
        coalesce(extract(epoch from clock_timestamp() - min(d.next_attempt_at) filter (
            where d.lease_token is null and d.next_attempt_at <= clock_timestamp())), 0)::double precision
    from actionflow._delivery as d
    join actionflow._endpoint as e on e.id = d.endpoint_id
    group by e.name, d.mode;
end;
