-- What the worker calls to take deliveries out of the queue: claim, fetch, renew, release.
-- Public: claim_deliveries, claimed_deliveries, renew_leases, release_deliveries.
--
-- All of it is definer's work, so that the worker's role needs no right on any table; grants.sql gives the functions.

-- How many more deliveries an endpoint may have in flight now, when a worker has slots for `wanted`; takes what it grants
-- out of the token bucket.
create function actionflow._endpoint_allowance(
    endpoint_id bigint, max_in_flight int, rate_per_second double precision, wanted int, lease interval, as_of timestamptz
) returns int
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_allowance int;
    v_in_flight bigint;
    v_tokens double precision;
    v_refilled_at timestamptz;
begin
    if max_in_flight is not null or rate_per_second is not null then
        -- The lock makes limits exact between workers; whoever finds it taken leaves the endpoint to the other one.
        select b.tokens, b.refilled_at into v_tokens, v_refilled_at
        from actionflow._endpoint_bucket as b
        where b.endpoint_id = _endpoint_allowance.endpoint_id
        for update skip locked;
        if not found then
            return 0;
        end if;
    end if;
    select count(*) into v_in_flight
    from actionflow._delivery as d
    where d.endpoint_id = _endpoint_allowance.endpoint_id
        and d.next_attempt_at > as_of and d.next_attempt_at <= as_of + lease * 2
        and d.lease_token is not null;
    -- At most half of what the worker has left and this endpoint has taken: however many endpoints hang, there are
    -- slots for the next one.
    v_allowance := least(
        (wanted + v_in_flight + 1) / 2,
        coalesce(max_in_flight, (actionflow._setting_value('default_max_in_flight'))::int)) - v_in_flight;
    if rate_per_second is not null then
        -- At most one second's worth is saved up, and always room for one.
        v_tokens := least(greatest(rate_per_second, 1),
            v_tokens + rate_per_second * greatest(extract(epoch from as_of - v_refilled_at), 0));
        v_allowance := least(v_allowance, floor(v_tokens)::int);
        update actionflow._endpoint_bucket as b
        set tokens = v_tokens - greatest(v_allowance, 0), refilled_at = as_of
        where b.endpoint_id = _endpoint_allowance.endpoint_id;
    end if;
    return greatest(v_allowance, 0);
end
$$;

create function actionflow._claim_from_endpoint(
    endpoint_id bigint, is_ordered boolean, allowance int, token bigint, lease interval, as_of timestamptz
) returns bigint[]
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[];
begin
    -- By ctid: the rows are locked, so they stay where they are, and no statistics of a table that fills and empties all
    -- the time can talk the planner into scanning it.
    with due as (
        select d.ctid as tid
        from actionflow._delivery as d
        where d.endpoint_id = _claim_from_endpoint.endpoint_id
            and d.next_attempt_at <= as_of
            and (not is_ordered or d.order_key is null or not exists (
                select from actionflow._delivery as earlier
                where earlier.endpoint_id = d.endpoint_id and earlier.order_key = d.order_key and earlier.id < d.id))
        order by d.next_attempt_at, d.id
        limit allowance
        for update skip locked
    ), claimed as (
        update actionflow._delivery as d
        set lease_token = token,
            next_attempt_at = as_of + lease,
            -- Counted at the claim, not at the completion: a worker that dies has still used an attempt.
            attempts = d.attempts + 1,
            earlier_attempts = case
                when d.lease_token is not null then coalesce(d.earlier_attempts, '[]') || actionflow._attempt_json(
                    d.attempts, d.next_attempt_at, null, null, 'the worker was lost before it could say what happened', null)
                when d.attempted_at is not null then coalesce(d.earlier_attempts, '[]') || actionflow._attempt_json(
                    d.attempts, d.attempted_at, d.duration_ms, d.last_status, d.last_error, d.response_prefix)
            end,
            attempted_at = null
        from due
        where d.ctid = due.tid
        returning d.id
    )
    select coalesce(array_agg(c.id order by c.id), '{}') into v_ids from claimed as c;
    return v_ids;
end
$$;

create function actionflow.claim_deliveries(
    max_deliveries int,
    lease interval default '12 seconds',
    as_of timestamptz default pg_catalog.clock_timestamp()
) returns table (lease_token bigint, ids bigint[], next_claim_at timestamptz)
language plpgsql volatile parallel unsafe security definer
-- Statistics of a table that fills and empties all the time must not talk the planner out of walking the index of due
-- deliveries in its order: with a backlog of 40,000 the other plan took 42 ms instead of 1.
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set enable_sort = off
set search_path = pg_catalog, pg_temp
as $$
declare
    v_endpoint record;
    v_left int := least(max_deliveries, 10000);
    v_claimed bigint[];
    v_allowance int;
begin
    -- A claim that a crash forgets is a lease that ran out at once, so it need not wait for the disk. Not as a SET of the
    -- function, which would be over before the commit.
    perform set_config('synchronous_commit', 'off', true);
    -- Random, so that a token that a crash forgot is never given out again.
    lease_token := actionflow._random_bigint();
    ids := '{}';
    for v_endpoint in
        select e.id, e.is_ordered, e.max_in_flight, e.rate_per_second
        from actionflow._endpoint as e
        where e.is_enabled and e.deleted_at is null
            and exists (
                select from actionflow._delivery as d
                where d.endpoint_id = e.id and d.next_attempt_at <= as_of)
        order by random()
    loop
        exit when v_left <= 0;
        v_allowance := actionflow._endpoint_allowance(
            v_endpoint.id, v_endpoint.max_in_flight, v_endpoint.rate_per_second, v_left, lease, as_of);
        if v_allowance > 0 then
            v_claimed := actionflow._claim_from_endpoint(
                v_endpoint.id, v_endpoint.is_ordered, v_allowance, lease_token, lease, as_of);
            if v_endpoint.rate_per_second is not null and cardinality(v_claimed) < v_allowance then
                update actionflow._endpoint_bucket as b
                set tokens = b.tokens + v_allowance - cardinality(v_claimed)
                where b.endpoint_id = v_endpoint.id;
            end if;
            ids := ids || v_claimed;
            v_left := v_left - cardinality(v_claimed);
        end if;
    end loop;
    if cardinality(ids) = 0 then
        next_claim_at := actionflow._next_claim_at(as_of);
    end if;
    return next;
end
$$;

create function actionflow._next_claim_at(as_of timestamptz) returns timestamptz
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
return (
    select min(case
        -- Due, and nothing was claimed: the rate limit holds it (or its own in-flight limit, whose end wakes the worker).
        when due.at <= as_of and e.rate_per_second is not null then greatest(
            b.refilled_at + make_interval(secs => greatest(1 - b.tokens, 0) / e.rate_per_second),
            as_of + interval '1 millisecond')
        when due.at <= as_of then next_due.at
        else due.at
    end)
    from actionflow._endpoint as e
    left join actionflow._endpoint_bucket as b on b.endpoint_id = e.id
    cross join lateral (
        select d.next_attempt_at as at from actionflow._delivery as d
        where d.endpoint_id = e.id order by d.next_attempt_at, d.id limit 1
    ) as due
    left join lateral (
        select d.next_attempt_at as at from actionflow._delivery as d
        where d.endpoint_id = e.id and d.next_attempt_at > as_of order by d.next_attempt_at, d.id limit 1
    ) as next_due on true
    where e.is_enabled and e.deleted_at is null
);

-- The profiles of customers as the first watched table has them now. Ids that are no value of its id type have no row.
create function actionflow._profiles(user_ids text[]) returns table (user_id text, profile jsonb)
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_watched record;
begin
    select w.relation, w.id_column, w.profile into v_watched
    from actionflow._watched_table as w
    order by w.position
    limit 1;
    if not found then
        return;
    end if;
    return query execute format('select %s, %s from %s as t where %s',
        actionflow._id_sql(v_watched.relation, v_watched.id_column),
        actionflow._profile_sql(v_watched.relation, v_watched.profile), v_watched.relation,
        actionflow._has_id_sql(v_watched.relation, v_watched.id_column))
        using user_ids;
end
$$;

create function actionflow._endpoint_for_worker(endpoint_id bigint) returns jsonb
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
return (
    select jsonb_build_object(
        'name', e.name, 'headers', e.headers, 'timeout_ms', e.timeout_ms, 'success', e.success,
        'retry_seconds', e.retry_seconds, 'max_in_flight', e.max_in_flight, 'revision', e.revision,
        'answer_key', e.answer_key, 'format', e.format, 'set', e.set_options,
        'secrets', (
            select jsonb_agg(s.secret order by s.id desc)
            from actionflow._endpoint_secret as s
            where s.endpoint_id = e.id and (s.expires_at is null or s.expires_at > actionflow._now())))
    from actionflow._endpoint as e
    where e.id = $1
);

create function actionflow._only_email(profile jsonb) returns jsonb
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
return case when profile ? 'email' then jsonb_build_object('email', profile -> 'email') else '{}'::jsonb end;

-- What to send, for the holder of the lease. The endpoint, with its secrets, stands on its first row only. Of what an
-- endpoint answers to a private message nothing is kept: it may repeat the link.
create function actionflow.claimed_deliveries(lease_token bigint, ids bigint[])
returns table (id bigint, attempt int, retry int, url text, body text, endpoint_id bigint, endpoint jsonb,
    enrich_timeout_ms int, is_private boolean)
language plpgsql volatile parallel unsafe security definer
set enable_seqscan = off
set jit = off
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with held as materialized (
        select d.id, d.attempts, d.retries, d.endpoint_id, d.mode, d.user_id, d.profile_part, d.profile, d.body_head, d.body_tail,
            d.enrich_timeout_ms
        from actionflow._delivery as d
        where d.id = any(claimed_deliveries.ids) and d.lease_token = claimed_deliveries.lease_token
    ), profiles as materialized (
        select p.user_id, p.profile
        from actionflow._profiles(array(select distinct h.user_id from held as h where h.profile_part <> 'none')) as p
    ), endpoints as materialized (
        select f.endpoint_id, f.first_id, e.url, coalesce(e.test_url, e.url) as test_url,
            actionflow._endpoint_for_worker(f.endpoint_id) as endpoint
        from (select h.endpoint_id, min(h.id) as first_id from held as h group by h.endpoint_id) as f
        join actionflow._endpoint as e on e.id = f.endpoint_id
    )
    select h.id, h.attempts, h.retries,
        case when h.mode = 'test' then e.test_url else e.url end,
        concat(
            h.body_head,
            jsonb_build_object('id', h.user_id) || coalesce(h.profile,
                case when h.profile_part = 'email' then actionflow._only_email(p.profile) else p.profile end, '{}'),
            h.body_tail),
        h.endpoint_id,
        case when h.id = e.first_id then e.endpoint end,
        h.enrich_timeout_ms, h.profile_part = 'email'
    from held as h
    join endpoints as e on e.endpoint_id = h.endpoint_id
    left join profiles as p on h.profile_part <> 'none' and p.user_id = h.user_id
    order by h.id;
end
$$;

create function actionflow.renew_leases(lease_tokens bigint[], ids bigint[], lease interval default '12 seconds')
returns bigint[]
language plpgsql volatile parallel unsafe security definer
set enable_seqscan = off
set jit = off
set search_path = pg_catalog, pg_temp
as $$
declare
    v_renewed bigint[];
begin
    perform set_config('synchronous_commit', 'off', true);
    with renewed as (
        update actionflow._delivery as d
        set next_attempt_at = clock_timestamp() + lease
        from unnest(lease_tokens, ids) as r (lease_token, id)
        where d.id = r.id and d.lease_token = r.lease_token
        returning d.id
    )
    select coalesce(array_agg(r.id), '{}') into v_renewed from renewed as r;
    return v_renewed;
end
$$;

-- Gives back what was claimed and not sent: the attempt is not counted.
create function actionflow.release_deliveries(lease_tokens bigint[], ids bigint[]) returns bigint[]
language plpgsql volatile parallel unsafe security definer
set enable_seqscan = off
set jit = off
set search_path = pg_catalog, pg_temp
as $$
declare
    v_released bigint[];
begin
    with released as (
        update actionflow._delivery as d
        set lease_token = null, next_attempt_at = clock_timestamp(), attempts = d.attempts - 1
        from unnest(lease_tokens, ids) as r (lease_token, id)
        where d.id = r.id and d.lease_token = r.lease_token
        returning d.id
    )
    select coalesce(array_agg(r.id), '{}') into v_released from released as r;
    if cardinality(v_released) > 0 then
        perform actionflow._wake_worker();
    end if;
    return v_released;
end
$$;
