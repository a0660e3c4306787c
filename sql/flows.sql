-- Flows and their published versions; event triggers.
-- Public: create_flow, update_flow, publish_flow, archive_flow, flow_definition, add_event_trigger,
-- set_trigger_mode, remove_trigger.

create table actionflow._flow (
    id bigint generated always as identity primary key,
    name text not null constraint flow_name_is_unique unique,
    draft jsonb not null,
    has_draft boolean not null default true,
    published_version int,
    is_archived boolean not null default false,
    created_at timestamptz not null default pg_catalog.now(),
    updated_at timestamptz not null default pg_catalog.now()
);

create table actionflow._flow_version (
    flow_id bigint not null references actionflow._flow (id),
    version int not null,
    definition jsonb not null,
    published_at timestamptz not null default pg_catalog.now(),
    primary key (flow_id, version)
);

create table actionflow._trigger (
    id bigint generated always as identity primary key,
    flow_id bigint not null references actionflow._flow (id),
    kind text not null constraint kind_is_known check (kind in ('api', 'event', 'segment', 'webhook')),
    mode text not null constraint mode_is_known check (mode in ('test', 'live', 'disabled')),
    event text constraint event_trigger_names_its_event check ((kind = 'event') = (event is not null)),
    segment_id bigint constraint segment_trigger_names_its_segment check ((kind = 'segment') = (segment_id is not null)),
    crossing text constraint crossing_is_known check ((kind = 'segment') = (crossing is not null) and crossing in ('enter', 'exit')),
    options jsonb not null default '{}',
    created_at timestamptz not null default pg_catalog.now()
);

create function actionflow._keep_versions_immutable() returns trigger
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'a published version cannot be changed',
        hint = 'Update the draft with actionflow.update_flow and publish it as a new version.';
end
$$;

create trigger update_keep_immutable before update or delete on actionflow._flow_version
    for each row execute function actionflow._keep_versions_immutable();

create function actionflow._flow_named(name text) returns actionflow._flow
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow;
begin
    select f.id, f.name, f.draft, f.has_draft, f.published_version, f.is_archived, f.created_at, f.updated_at
    into v_flow
    from actionflow._flow as f
    where f.name = _flow_named.name;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('flow %s does not exist', coalesce('"' || name || '"', 'NULL')),
            hint = 'Create it with actionflow.create_flow.';
    end if;
    return v_flow;
end
$$;

create function actionflow._usable_flow_named(name text) returns actionflow._flow
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._flow_named(name);
begin
    if v_flow.is_archived then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('flow "%s" is archived', name),
            hint = 'Create a new flow; an archived one keeps its history only.';
    end if;
    return v_flow;
end
$$;

create function actionflow._check_endpoints_exist(definition jsonb) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_missing record;
begin
    select r.name, r.path into v_missing
    from actionflow._definition_endpoints(definition) as r
    where not exists (
        select from actionflow._endpoint as e where e.name = r.name and e.deleted_at is null)
    limit 1;
    if found then
        raise exception using
            errcode = 'undefined_object',
            message = format('endpoint "%s" does not exist', v_missing.name),
            detail = format('At path %s.', v_missing.path),
            hint = 'Create it with actionflow.create_endpoint.';
    end if;
end
$$;

create function actionflow.create_flow(name text, definition jsonb) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint;
begin
    perform actionflow._check_name('flow', name);
    perform actionflow._check_endpoints_exist(definition);
    insert into actionflow._flow as f (name, draft)
    values (create_flow.name, create_flow.definition)
    on conflict on constraint flow_name_is_unique do nothing
    returning f.id into v_id;
    if v_id is null then
        raise exception using
            errcode = 'duplicate_object',
            message = format('flow "%s" already exists', name),
            hint = 'Change its draft with actionflow.update_flow.';
    end if;
    insert into actionflow._trigger (flow_id, kind, mode) values (v_id, 'api', 'live');
end
$$;

create function actionflow.update_flow(name text, definition jsonb) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._usable_flow_named(name);
begin
    perform actionflow._check_endpoints_exist(definition);
    update actionflow._flow as f
    set draft = update_flow.definition, has_draft = true, updated_at = now()
    where f.id = v_flow.id;
end
$$;

create function actionflow.publish_flow(name text, start_existing boolean default false)
returns table (version int, existing_members bigint, started bigint)
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._usable_flow_named(name);
begin
    -- Locks the flow, so that two sessions publishing at once make two versions, not one.
    select f.published_version, f.draft into v_flow.published_version, v_flow.draft
    from actionflow._flow as f where f.id = v_flow.id for update;
    perform actionflow._check_endpoints_exist(v_flow.draft);
    version := coalesce(v_flow.published_version, 0) + 1;
    insert into actionflow._flow_version (flow_id, version, definition)
    values (v_flow.id, publish_flow.version, v_flow.draft);
    update actionflow._flow as f
    set published_version = publish_flow.version, has_draft = false, updated_at = now()
    where f.id = v_flow.id;
    select count(*) into existing_members from actionflow._existing_members(v_flow.id);
    started := case when start_existing then actionflow._start_existing(v_flow.name) else 0 end;
    return next;
end
$$;

create function actionflow.archive_flow(name text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._flow_named(name);
begin
    update actionflow._flow as f set is_archived = true, updated_at = now() where f.id = v_flow.id;
end
$$;

create function actionflow.flow_definition(name text, version int default null) returns jsonb
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._flow_named(name);
    v_definition jsonb := v_flow.draft;
begin
    if flow_definition.version is not null then
        select v.definition into v_definition
        from actionflow._flow_version as v
        where v.flow_id = v_flow.id and v.version = flow_definition.version;
        if not found then
            raise exception using
                errcode = 'undefined_object',
                message = format('flow "%s" has no version %s', name, version),
                hint = 'actionflow.flows shows the published version.';
        end if;
    end if;
    return v_definition;
end
$$;

create function actionflow.add_event_trigger(flow text, event text, options jsonb default '{}') returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_flow actionflow._flow := actionflow._usable_flow_named(flow);
    v_id bigint;
begin
    perform actionflow._check_name('event', event);
    perform actionflow._check_event_trigger_options(options);
    insert into actionflow._trigger as t (flow_id, kind, mode, event, options)
    values (v_flow.id, 'event', 'live', add_event_trigger.event, add_event_trigger.options)
    returning t.id into v_id;
    return v_id;
end
$$;

create function actionflow._removable_trigger(trigger_id bigint) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind text;
begin
    select t.kind into v_kind from actionflow._trigger as t where t.id = trigger_id;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('trigger %s does not exist', coalesce(trigger_id::text, 'NULL')),
            hint = 'actionflow.triggers lists the triggers.';
    end if;
    if v_kind = 'api' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'the api trigger of a flow is always there',
            hint = 'Archive the flow to stop it from being started.';
    end if;
end
$$;

create function actionflow.set_trigger_mode(trigger_id bigint, mode text) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if mode is null or mode not in ('test', 'live', 'disabled') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid trigger mode %s', coalesce(quote_literal(mode), 'NULL')),
            hint = 'Use one of: test, live, disabled.';
    end if;
    perform actionflow._removable_trigger(trigger_id);
    update actionflow._trigger as t set mode = set_trigger_mode.mode where t.id = trigger_id;
    perform actionflow._disarm_sample(trigger_id) where set_trigger_mode.mode <> 'test';
end
$$;

create function actionflow.remove_trigger(trigger_id bigint) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    perform actionflow._removable_trigger(trigger_id);
    delete from actionflow._trigger as t where t.id = trigger_id;
end
$$;
