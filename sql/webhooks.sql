-- Webhook triggers: their URLs and configuration, samples of what arrives, and what was refused.
-- Public: add_webhook_trigger, update_webhook_trigger, rotate_webhook_path, capture_webhook_sample, test_mapping, webhook_samples,
-- webhook_rejections.

create table actionflow._webhook (
    trigger_id bigint primary key references actionflow._trigger (id) on delete cascade,
    -- SHA-256 of the token in the URL, which itself is in no table.
    token_hash bytea not null constraint webhook_token_is_unique unique,
    -- With secrets, so no view shows it; _trigger.options is the same without.
    options jsonb not null
);

-- At most one a trigger: a request that is waited for, or one that came.
create table actionflow._webhook_sample (
    trigger_id bigint primary key references actionflow._webhook (trigger_id) on delete cascade,
    armed_at timestamptz not null,
    captured_at timestamptz,
    method text,
    headers jsonb,
    body bytea,
    -- Why the signature did not fit; NULL when it did, or none is asked for.
    signature_error text
);

-- The last 16 refusals of each trigger and status. A fixed number of rows, so that no flood of bad requests fills the disk.
create table actionflow._webhook_rejection (
    trigger_id bigint not null references actionflow._webhook (trigger_id) on delete cascade,
    status int not null,
    slot int not null,
    total bigint not null,
    rejected_at timestamptz not null,
    reason text not null,
    field text,
    method text,
    content_type text,
    body_bytes int not null,
    remote_addr inet,
    primary key (trigger_id, status, slot)
) with (fillfactor = 50);

create function actionflow._webhook_hash(token text) returns bytea
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
return sha256(convert_to(token, 'UTF8'));

create function actionflow._check_webhook_exists(trigger_id bigint) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from actionflow._webhook as w where w.trigger_id = _check_webhook_exists.trigger_id) then
        raise exception using
            errcode = 'undefined_object',
            message = format('webhook trigger %s does not exist', coalesce(trigger_id::text, 'NULL')),
            hint = 'actionflow.triggers lists the triggers; add one with actionflow.add_webhook_trigger.';
    end if;
end
$$;

create function actionflow.add_webhook_trigger(flow text, options jsonb default '{}') returns table (trigger_id bigint, path text)
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._usable_flow_named(flow);
    v_options record;
    v_token text := actionflow._generate_token();
begin
    select o.stored, o.shown into v_options from actionflow._webhook_options('{}', coalesce(options, '{}')) as o;
    insert into actionflow._trigger as t (flow_id, kind, mode, options)
    values (v_flow.id, 'webhook', 'test', v_options.shown)
    returning t.id into trigger_id;
    insert into actionflow._webhook (trigger_id, token_hash, options)
    values (add_webhook_trigger.trigger_id, actionflow._webhook_hash(v_token), v_options.stored);
    path := '/v1/webhooks/' || v_token;
    return next;
end
$$;

create function actionflow.update_webhook_trigger(trigger_id bigint, options jsonb, force boolean default false) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_mode text;
    v_old jsonb;
    v_options record;
begin
    perform actionflow._check_webhook_exists(trigger_id);
    -- Locked, so that nobody makes it live meanwhile.
    select t.mode into v_mode from actionflow._trigger as t where t.id = update_webhook_trigger.trigger_id for update;
    if v_mode = 'live' and force is not true then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('trigger %s is live', trigger_id),
            hint = 'Set it to test with actionflow.set_trigger_mode and try the change there, or pass force => true.';
    end if;
    select w.options into v_old from actionflow._webhook as w where w.trigger_id = update_webhook_trigger.trigger_id;
    select o.stored, o.shown, o.credentials into v_options from actionflow._webhook_options(v_old, options) as o;
    -- A sample is often captured before it is known which header is the secret.
    update actionflow._webhook_sample as s
    set headers = (
        select coalesce(jsonb_agg(h.pair order by h.position), '[]')
        from jsonb_array_elements(s.headers) with ordinality as h (pair, position)
        where lower(h.pair ->> 0) <> all(v_options.credentials))
    where s.trigger_id = update_webhook_trigger.trigger_id and s.headers is not null;
    update actionflow._webhook as w set options = v_options.stored where w.trigger_id = update_webhook_trigger.trigger_id;
    update actionflow._trigger as t set options = v_options.shown where t.id = update_webhook_trigger.trigger_id;
end
$$;

create function actionflow.rotate_webhook_path(trigger_id bigint) returns text
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_token text := actionflow._generate_token();
begin
    perform actionflow._check_webhook_exists(trigger_id);
    update actionflow._webhook as w set token_hash = actionflow._webhook_hash(v_token)
    where w.trigger_id = rotate_webhook_path.trigger_id;
    return '/v1/webhooks/' || v_token;
end
$$;

create function actionflow.capture_webhook_sample(trigger_id bigint) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_mode text;
begin
    perform actionflow._check_webhook_exists(trigger_id);
    select t.mode into v_mode from actionflow._trigger as t where t.id = capture_webhook_sample.trigger_id for share;
    if v_mode <> 'test' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('trigger %s is %s', trigger_id, v_mode),
            hint = 'The request that is captured starts nothing; set the trigger to test first, with actionflow.set_trigger_mode.';
    end if;
    insert into actionflow._webhook_sample as s (trigger_id, armed_at)
    values (capture_webhook_sample.trigger_id, actionflow._now())
    on conflict on constraint _webhook_sample_pkey do update
    set armed_at = excluded.armed_at, captured_at = null, method = null, headers = null, body = null, signature_error = null;
end
$$;

-- A sample is waited for in mode test only, and nobody expects one that was asked for before the trigger was live.
create function actionflow._disarm_sample(trigger_id bigint) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    delete from actionflow._webhook_sample as s where s.trigger_id = _disarm_sample.trigger_id and s.captured_at is null;
end;

create function actionflow._capture(
    trigger_id bigint, method text, headers jsonb, body bytea, signature_error text) returns boolean
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    update actionflow._webhook_sample as s
    set captured_at = actionflow._now(), method = _capture.method, headers = _capture.headers, body = _capture.body,
        signature_error = _capture.signature_error
    where s.trigger_id = _capture.trigger_id and s.captured_at is null;
    return found;
end
$$;

create function actionflow._note_rejection(
    trigger_id bigint, status int, reason text, field text, method text, content_type text, body_bytes int, remote_addr inet) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    with kept as (
        select count(*)::int as rows
        from actionflow._webhook_rejection as r
        where r.trigger_id = _note_rejection.trigger_id and r.status = _note_rejection.status
    ), oldest as (
        -- But not one that somebody else is overwriting: refusals at the same time do not wait for each other.
        select r.slot
        from actionflow._webhook_rejection as r
        where r.trigger_id = _note_rejection.trigger_id and r.status = _note_rejection.status
        order by r.rejected_at, r.total, r.slot
        for update skip locked
        limit 1
    )
    insert into actionflow._webhook_rejection as r (
        trigger_id, status, slot, total, rejected_at, reason, field, method, content_type, body_bytes, remote_addr)
    select w.trigger_id, _note_rejection.status,
        case when k.rows < 16 then k.rows else coalesce((select o.slot from oldest as o), 0) end,
        1, actionflow._now(), _note_rejection.reason,
        _note_rejection.field, _note_rejection.method, _note_rejection.content_type, _note_rejection.body_bytes,
        _note_rejection.remote_addr
    -- Locked, because the trigger may be removed at this moment; then there is nobody left to tell.
    from (select w.trigger_id from actionflow._webhook as w where w.trigger_id = _note_rejection.trigger_id for key share) as w
    cross join kept as k
    on conflict on constraint _webhook_rejection_pkey do update
    set total = r.total + 1, rejected_at = excluded.rejected_at, reason = excluded.reason, field = excluded.field,
        method = excluded.method, content_type = excluded.content_type, body_bytes = excluded.body_bytes,
        remote_addr = excluded.remote_addr;
end;

-- For whoever configures a trigger; a body may hold personal data, so readers do not see it.
create view actionflow.webhook_samples as
select s.trigger_id, f.name as flow, s.armed_at, s.captured_at, s.method, s.headers, s.body, s.signature_error
from actionflow._webhook_sample as s
join actionflow._trigger as t on t.id = s.trigger_id
join actionflow._flow as f on f.id = t.flow_id;

create view actionflow.webhook_rejections as
select r.trigger_id, f.name as flow, r.rejected_at, r.status, r.reason, r.field, r.method, r.content_type, r.body_bytes,
    r.remote_addr, (sum(r.total) over (partition by r.trigger_id, r.status))::bigint as total
from actionflow._webhook_rejection as r
join actionflow._trigger as t on t.id = r.trigger_id
join actionflow._flow as f on f.id = t.flow_id;
