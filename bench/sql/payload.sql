-- The body that actionflow sends for a new customer, built for the peers: the same keys, the same size.
create function delivery_payload(customer customers) returns json
language sql stable parallel safe
as $$
    select json_build_object(
        'type', 'user-created',
        'timestamp', to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'data', json_build_object(
            'mode', 'live',
            'flow', 'welcome',
            'version', 1,
            'run_id', customer.id::text,
            'flow_invocation_id', gen_random_uuid(),
            'action', 'tell',
            'user', json_build_object(
                'id', customer.id::text,
                'email', customer.email,
                'first_name', customer.first_name,
                'last_name', customer.last_name,
                'phone', customer.phone,
                'locale', customer.locale,
                'timezone', customer.timezone
            ),
            'variables', json_build_object(),
            'event', json_build_object(
                'id', customer.id::text,
                'name', 'user-created',
                'properties', json_build_object()
            ),
            'notificationDetail', json_build_object(),
            'metadata', json_build_object()
        )
    )
$$;
