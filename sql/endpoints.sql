-- Endpoints: named HTTP targets, their secrets and their health.
-- Public: create_endpoint, update_endpoint, delete_endpoint, rotate_endpoint_secret, enable_endpoint, disable_endpoint.

create table actionflow._endpoint (
    id bigint generated always as identity primary key,
    name text not null,
    url text not null,
    test_url text,
    -- May hold credentials, so no view shows it.
    headers jsonb not null,
    timeout_ms int not null,
    success text not null constraint success_is_known check (success in ('200', '2xx')),
    retry_seconds int[] not null,
    max_in_flight int constraint max_in_flight_is_positive check (max_in_flight > 0),
    rate_per_second double precision constraint rate_is_positive check (rate_per_second > 0),
    is_ordered boolean not null,
    is_enabled boolean not null default true,
    disabled_reason text,
    -- Counts changes of what a worker needs to know; see _count_revision.
    revision bigint not null default 1,
    -- The key with which answers to enrich actions are signed.
    answer_key jsonb,
    -- json, or set: a Security Event Token.
    format text not null constraint format_is_known check (format in ('json', 'set')),
    set_options jsonb,
    -- So many failures in a row of enrich actions keep them away for so long.
    breaker_failures int not null constraint breaker_failures_is_positive check (breaker_failures > 0),
    breaker_seconds double precision not null constraint breaker_seconds_is_positive check (breaker_seconds > 0),
    created_at timestamptz not null default pg_catalog.now(),
    -- A deleted endpoint keeps its row, because the history names it.
    deleted_at timestamptz
);

create unique index _endpoint_name_idx on actionflow._endpoint (name) where deleted_at is null;

-- Workers keep an endpoint's settings until the revision is another one.
create function actionflow._count_revision() returns trigger
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    new.revision := old.revision + 1;
    return new;
end
$$;

create trigger count_revision before update on actionflow._endpoint
    for each row execute function actionflow._count_revision();

create table actionflow._endpoint_secret (
    id bigint generated always as identity primary key,
    endpoint_id bigint not null references actionflow._endpoint (id),
    secret text not null,
    created_at timestamptz not null default pg_catalog.now(),
    -- NULL for the current secret; a rotated one signs as well until then.
    expires_at timestamptz
);

create index _endpoint_secret_endpoint_idx on actionflow._endpoint_secret (endpoint_id);

-- The token bucket, apart from _endpoint so that claims do not invalidate every backend's cached endpoints.
create table actionflow._endpoint_bucket (
    endpoint_id bigint primary key references actionflow._endpoint (id),
    tokens double precision not null,
    refilled_at timestamptz not null
) with (fillfactor = 50);

create function actionflow._endpoint_named(name text) returns bigint
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    select e.id into v_id
    from actionflow._endpoint as e
    where e.name = _endpoint_named.name and e.deleted_at is null;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('endpoint "%s" does not exist', name),
            hint = 'Create it with actionflow.create_endpoint.';
    end if;
    return v_id;
end
$$;

-- What a Security Event Token needs, of the endpoint as it is saved.
create function actionflow._check_format(endpoint_id bigint) returns void
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_set jsonb;
    v_secret text;
begin
    select e.set_options into v_set from actionflow._endpoint as e where e.id = endpoint_id and e.format = 'set';
    if not found then
        return;
    end if;
    if v_set is null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'an endpoint of format "set" needs the option "set"',
            hint = 'Give it with "issuer" and "algorithm", such as {"issuer": "https://example.com", "algorithm": "HS256"}.';
    end if;
    select s.secret into v_secret
    from actionflow._endpoint_secret as s
    where s.endpoint_id = _check_format.endpoint_id and s.expires_at is null;
    if v_set ->> 'algorithm' = 'HS256' and octet_length(decode(substr(v_secret, length('whsec_') + 1), 'base64')) < 32 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a Security Event Token by HS256 needs a signing secret of at least 32 bytes',
            hint = 'Give a longer secret, or let actionflow.rotate_endpoint_secret make one.';
    end if;
end
$$;

create function actionflow.create_endpoint(name text, url text, options jsonb default '{}') returns text
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_options jsonb;
    v_id bigint;
    v_secret text;
begin
    perform actionflow._check_name('endpoint', name);
    if url is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'an endpoint needs a URL',
            hint = 'Use an absolute http or https URL.';
    end if;
    -- Checked as given; null means the default, as in update_endpoint.
    v_options := actionflow._endpoint_options(coalesce(options, '{}'));
    v_options := actionflow._endpoint_options(
        '{"headers": {}, "timeout_ms": 5000, "success": "200", "retry_seconds": [30, 60, 120, 300, 900],
          "format": "json", "breaker_failures": 5, "breaker_seconds": 10}'::jsonb
            || jsonb_strip_nulls(v_options) || jsonb_build_object('url', url));
    v_secret := coalesce(v_options ->> 'secret', actionflow._generate_secret());
    insert into actionflow._endpoint as e (
        name, url, test_url, headers, timeout_ms, success, retry_seconds,
        max_in_flight, rate_per_second, is_ordered, answer_key, format, set_options, breaker_failures, breaker_seconds)
    select create_endpoint.name, o.url, o.test_url, o.headers, o.timeout_ms, o.success, o.retry_seconds,
        o.max_in_flight, o.rate_per_second, coalesce(o.ordered, false),
        o.answer_key, o.format, o.set, o.breaker_failures, o.breaker_seconds
    from jsonb_to_record(v_options) as o (
        url text, test_url text, headers jsonb, timeout_ms int, success text, retry_seconds int[],
        max_in_flight int, rate_per_second double precision, ordered boolean,
        answer_key jsonb, format text, set jsonb, breaker_failures int, breaker_seconds double precision)
    on conflict do nothing
    returning e.id into v_id;
    if v_id is null then
        raise exception using
            errcode = 'duplicate_object',
            message = format('endpoint "%s" already exists', name),
            hint = 'Change it with actionflow.update_endpoint.';
    end if;
    insert into actionflow._endpoint_secret (endpoint_id, secret) values (v_id, v_secret);
    perform actionflow._check_format(v_id);
    insert into actionflow._endpoint_bucket (endpoint_id, tokens, refilled_at) values (v_id, 1, now());
    return v_secret;
end
$$;

create function actionflow.update_endpoint(name text, options jsonb) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := actionflow._endpoint_named(name);
    v_options jsonb := actionflow._endpoint_options(options);
begin
    -- A key that is given as null goes back to its default.
    update actionflow._endpoint as e
    set url = coalesce(v_options ->> 'url', e.url),
        test_url = case when options ? 'test_url' then v_options ->> 'test_url' else e.test_url end,
        headers = case when options ? 'headers' then coalesce(nullif(v_options -> 'headers', 'null'), '{}') else e.headers end,
        timeout_ms = case when options ? 'timeout_ms' then coalesce((v_options ->> 'timeout_ms')::int, 5000) else e.timeout_ms end,
        success = case when options ? 'success' then coalesce(v_options ->> 'success', '200') else e.success end,
        retry_seconds = case
            when jsonb_typeof(v_options -> 'retry_seconds') = 'array'
                then array(select r.v::int from jsonb_array_elements_text(v_options -> 'retry_seconds') as r (v))
            when options ? 'retry_seconds' then '{30,60,120,300,900}'
            else e.retry_seconds end,
        max_in_flight = case when options ? 'max_in_flight' then (v_options ->> 'max_in_flight')::int else e.max_in_flight end,
        rate_per_second = case when options ? 'rate_per_second'
            then (v_options ->> 'rate_per_second')::double precision else e.rate_per_second end,
        is_ordered = case when options ? 'ordered' then coalesce((v_options ->> 'ordered')::boolean, false) else e.is_ordered end,
        answer_key = case when options ? 'answer_key' then nullif(v_options -> 'answer_key', 'null') else e.answer_key end,
        format = case when options ? 'format' then coalesce(v_options ->> 'format', 'json') else e.format end,
        set_options = case when options ? 'set' then nullif(v_options -> 'set', 'null') else e.set_options end,
        breaker_failures = case when options ? 'breaker_failures'
            then coalesce((v_options ->> 'breaker_failures')::int, 5) else e.breaker_failures end,
        breaker_seconds = case when options ? 'breaker_seconds'
            then coalesce((v_options ->> 'breaker_seconds')::double precision, 10) else e.breaker_seconds end
    where e.id = v_id;
    if v_options ->> 'secret' is not null then
        delete from actionflow._endpoint_secret as s where s.endpoint_id = v_id;
        insert into actionflow._endpoint_secret (endpoint_id, secret) values (v_id, v_options ->> 'secret');
    end if;
    perform actionflow._check_format(v_id);
    perform actionflow._wake_worker();
end
$$;

create function actionflow.rotate_endpoint_secret(name text, grace interval default '24 hours') returns text
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := actionflow._endpoint_named(name);
    v_secret text := actionflow._generate_secret();
begin
    if grace is null or grace < interval '0' or grace > interval '90 days' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'the grace period must be between 0 and 90 days',
            hint = 'The old secret goes on signing, beside the new one, until the grace period ends.';
    end if;
    -- Locks the endpoint: two rotations at once must not leave two current secrets.
    perform from actionflow._endpoint as e where e.id = v_id for update;
    delete from actionflow._endpoint_secret as s
    where s.endpoint_id = v_id and s.expires_at <= actionflow._now();
    if (select count(*) from actionflow._endpoint_secret as s where s.endpoint_id = v_id) >= 10 then
        raise exception using
            errcode = 'program_limit_exceeded',
            message = format('endpoint "%s" has 10 secrets that are still valid', name),
            hint = 'Wait until an old one expires, or set one with actionflow.update_endpoint, which ends all others.';
    end if;
    update actionflow._endpoint_secret as s
    set expires_at = actionflow._now() + grace
    where s.endpoint_id = v_id and s.expires_at is null;
    insert into actionflow._endpoint_secret (endpoint_id, secret) values (v_id, v_secret);
    -- Counts the revision, so that workers hear of it.
    update actionflow._endpoint as e set name = e.name where e.id = v_id;
    return v_secret;
end
$$;

-- Disables endpoints that have answered 410. Nothing is written for nobody: even an update of no row makes every session read
-- the configuration again.
create function actionflow._disable_gone(endpoint_ids bigint[]) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if cardinality(endpoint_ids) > 0 then
        update actionflow._endpoint as e
        set is_enabled = false, disabled_reason = 'answered 410 Gone'
        where e.is_enabled and e.id = any(endpoint_ids);
    end if;
end
$$;

create function actionflow.enable_endpoint(name text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := actionflow._endpoint_named(name);
begin
    update actionflow._endpoint as e set is_enabled = true, disabled_reason = null where e.id = v_id;
    perform actionflow._wake_worker();
end
$$;

create function actionflow.disable_endpoint(name text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := actionflow._endpoint_named(name);
begin
    update actionflow._endpoint as e set is_enabled = false, disabled_reason = 'disabled by hand' where e.id = v_id;
end
$$;

create function actionflow.delete_endpoint(name text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := actionflow._endpoint_named(name);
    v_flow text;
    v_waiting_runs bigint[];
begin
    select f.name into v_flow
    from actionflow._flow as f
    left join actionflow._flow_version as v on v.flow_id = f.id and v.version = f.published_version
    where not f.is_archived
        and exists (
            select from unnest(array_remove(array[f.draft, v.definition], null)) as d (definition)
            cross join lateral actionflow._definition_endpoints(d.definition) as r
            where r.name = delete_endpoint.name)
    limit 1;
    if found then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('endpoint "%s" is used by flow "%s"', name, v_flow),
            hint = 'Publish the flow without the endpoint, or archive it.';
    end if;
    select array_agg(distinct d.run_id) into v_waiting_runs
    from actionflow._delivery as d
    where d.endpoint_id = v_id and d.is_awaited;
    perform actionflow._cancel_deliveries(d.id)
    from actionflow._delivery as d
    where d.endpoint_id = v_id;
    -- A run of an older version may wait for what is cancelled here; it fails.
    perform actionflow._advance_runs(v_waiting_runs, null);
    update actionflow._endpoint as e set deleted_at = now(), is_enabled = false where e.id = v_id;
    delete from actionflow._endpoint_secret as s where s.endpoint_id = v_id;
    delete from actionflow._endpoint_bucket as b where b.endpoint_id = v_id;
end
$$;
