-- Settings and names: what every other file builds on.
-- Public: set_setting, view settings.

-- Defaults belong to the extension and are not dumped; what somebody has set is, and goes over them.
create table actionflow._setting_default (
    name text primary key,
    value jsonb not null
);

insert into actionflow._setting_default (name, value) values
    ('record_all_events', 'false'),
    ('max_flow_depth', '8'),
    ('idempotency_retention', '"90 days"'),
    ('retention', '{"events": 90, "runs": 30, "deliveries": 30, "dead_letters": 90}'),
    ('default_max_in_flight', '512'),
    ('enrich_budget_ms', '5000');

create table actionflow._setting (
    name text primary key,
    value jsonb not null
);

create view actionflow.settings as
select d.name, coalesce(s.value, d.value) as value
from actionflow._setting_default as d
left join actionflow._setting as s on s.name = d.name;

create function actionflow._setting_value(name text) returns jsonb
language sql stable strict parallel safe
set search_path = pg_catalog, pg_temp
return (select s.value from actionflow.settings as s where s.name = $1);

create function actionflow._check_setting_exists(name text) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from actionflow._setting_default as d where d.name = _check_setting_exists.name) then
        raise exception using
            errcode = 'undefined_object',
            message = format('setting "%s" does not exist', name),
            hint = 'select name from actionflow.settings; lists them.';
    end if;
end
$$;

create function actionflow._check_setting(name text, value jsonb) returns void
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ok boolean := false;
    v_expected text;
    v_range int4range;
    v_unit text := '';
begin
    perform actionflow._check_setting_exists(name);
    case name
        when 'record_all_events' then
            v_expected := 'true or false';
            v_ok := jsonb_typeof(value) = 'boolean';
        when 'max_flow_depth' then
            v_range := int4range(1, 64, '[]');
        when 'default_max_in_flight' then
            v_range := int4range(1, 10000, '[]');
        when 'enrich_budget_ms' then
            v_range := int4range(10, 300000, '[]');
            v_unit := ' of milliseconds';
        when 'idempotency_retention' then
            v_expected := 'a duration of at least one hour, such as "90 days"';
            begin
                v_ok := jsonb_typeof(value) = 'string' and (value #>> '{}')::interval >= interval '1 hour';
            exception when invalid_datetime_format or datetime_field_overflow then
                v_ok := false;
            end;
        when 'retention' then
            v_expected := 'an object with days (1 to 3650) under "events", "runs", "deliveries", "dead_letters"';
            v_ok := jsonb_typeof(value) = 'object'
                and value ?& array['events', 'runs', 'deliveries', 'dead_letters']
                and (select count(*) = 4 and bool_and(d.v ~ '^[0-9]{1,4}$' and d.v::int between 1 and 3650)
                     from jsonb_each_text(value) as d (k, v));
    end case;
    if v_range is not null then
        v_expected := format('a whole number%s from %s to %s', v_unit, lower(v_range), upper(v_range) - 1);
        v_ok := jsonb_typeof(value) = 'number' and value #>> '{}' ~ '^[0-9]{1,9}$' and (value #>> '{}')::int <@ v_range;
    end if;
    if v_ok is not true then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid value for setting "%s"', name),
            hint = format('Give %s.', v_expected);
    end if;
end
$$;

create function actionflow.set_setting(name text, value jsonb) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if set_setting.value is null then
        perform actionflow._check_setting_exists(set_setting.name);
        delete from actionflow._setting as s where s.name = set_setting.name;
        return;
    end if;
    perform actionflow._check_setting(set_setting.name, set_setting.value);
    insert into actionflow._setting as s (name, value)
    values (set_setting.name, set_setting.value)
    on conflict on constraint _setting_pkey do update set value = excluded.value;
end
$$;

-- Names appear in URLs, JSON and logs: printable, no surrounding blanks, no slash.
create function actionflow._check_name(kind text, name text) returns void
language plpgsql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if name is null or length(name) not between 1 and 100
        or name ~ '[[:cntrl:]/]' or name <> btrim(name) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('invalid %s name %s', kind, coalesce(quote_literal(left(name, 120)), 'NULL')),
            hint = 'Use 1 to 100 printable characters without "/" and without blanks at either end.';
    end if;
end
$$;
