-- The same question asked by the backend itself, beside the same row.
create function http_post(url text, body text) returns text
language c volatile strict parallel unsafe
as :module, 'http_post';

create function http_post_once(url text, body text) returns text
language c volatile strict parallel unsafe
as :module, 'http_post_once';

create sequence login_event_id_seq;

-- One partition of the table in which emit_event records its events; that writes straight into the partition, too.
create table login_event (
    id bigint not null,
    name text not null,
    user_id text not null,
    properties jsonb not null,
    mode text not null,
    flow_id bigint,
    run_id bigint,
    depth int not null,
    occurred_at timestamptz not null,
    created_at timestamptz not null,
    ring smallint not null
);

create index login_event_id_idx on login_event (id);

-- The body that actionflow sends for a login: the same keys, the same size.
create function login_payload(event_id bigint, user_id text, properties jsonb) returns json
language sql stable parallel safe
as $$
    select json_build_object(
        'type', 'login',
        'timestamp', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'data', json_build_object(
            'mode', 'live',
            'flow', 'login-check',
            'version', 1,
            'run_id', event_id::text,
            'flow_invocation_id', gen_random_uuid(),
            'action', 'risk',
            'user', json_build_object('id', user_id),
            'variables', json_build_object(),
            'event', json_build_object('id', event_id::text, 'name', 'login', 'properties', properties),
            'notificationDetail', json_build_object(),
            'metadata', json_build_object()
        )
    )
$$;

create function check_login(user_id text, properties jsonb, keeps_connection boolean) returns jsonb
language plpgsql volatile parallel unsafe
as $$
declare
    event_id bigint := nextval('login_event_id_seq');
    body text := login_payload(event_id, user_id, properties);
begin
    insert into login_event (id, name, user_id, properties, mode, depth, occurred_at, created_at, ring)
    values (event_id, 'login', user_id, properties, 'live', 0, now(), now(), 1);
    if keeps_connection then
        return http_post(:url, body)::jsonb;
    end if;
    return http_post_once(:url, body)::jsonb;
end
$$;
