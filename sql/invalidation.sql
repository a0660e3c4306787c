-- Every backend keeps flows, triggers, endpoints, watched tables and settings in memory. A change of any of them sends
-- an invalidation with the commit, and only then are they read again.

create function actionflow._catalog() returns jsonb
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
return jsonb_build_object(
    'settings', (select jsonb_object_agg(s.name, s.value) from actionflow.settings as s),
    'flows', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', f.id, 'name', f.name, 'is_archived', f.is_archived, 'draft', f.draft,
            'version', f.published_version, 'definition', v.definition)), '[]')
        from actionflow._flow as f
        left join actionflow._flow_version as v on v.flow_id = f.id and v.version = f.published_version),
    'triggers', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', t.id, 'flow_id', t.flow_id, 'event', t.event, 'mode', t.mode, 'options', t.options,
            'segment_id', t.segment_id, 'crossing', t.crossing) order by t.id), '[]')
        from actionflow._trigger as t
        join actionflow._flow as f on f.id = t.flow_id
        where t.kind in ('event', 'segment') and t.mode <> 'disabled' and not f.is_archived),
    'endpoints', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'id', e.id, 'name', e.name, 'ordered', e.is_ordered, 'is_enabled', e.is_enabled, 'revision', e.revision,
            'url', e.url, 'test_url', e.test_url, 'max_in_flight', e.max_in_flight, 'breaker_failures', e.breaker_failures,
            'breaker_us', (e.breaker_seconds * 1000000)::bigint)), '[]')
        from actionflow._endpoint as e
        where e.deleted_at is null),
    'watched', (
        select coalesce(jsonb_agg(jsonb_build_object(
            'relid', r.relid::bigint, 'root', r.relation::oid::bigint, 'name', r.relation::text, 'id_column', r.id_column, 'revoked_when', r.revoked_when,
            'id_sql', actionflow._id_sql(r.relation, r.id_column),
            'has_id_sql', actionflow._has_id_sql(r.relation, r.id_column),
            'profile_sql', actionflow._profile_sql(r.relation, r.profile))), '[]')
        from actionflow._watched_relation as r),
    'event_table', 'actionflow._event'::regclass::oid::bigint,
    'sequences', jsonb_build_object(
        'event', 'actionflow._event_id_seq'::regclass::oid::bigint,
        'run', 'actionflow._run_id_seq'::regclass::oid::bigint,
        'delivery', 'actionflow._delivery_id_seq'::regclass::oid::bigint)
);

do $$
declare
    v_table text;
begin
    foreach v_table in array array[
        '_setting', '_flow', '_flow_version', '_trigger', '_webhook', '_endpoint', '_watched_table']
    loop
        execute format('create trigger change_invalidate after insert or update or delete or truncate on actionflow.%I
            for each statement execute function actionflow._invalidate()', v_table);
    end loop;
end
$$;

-- Apart from the rest, because there may be thousands, and only those that have changed are read again.
create trigger change_invalidate after insert or update or delete or truncate on actionflow._segment
    for each statement execute function actionflow._invalidate_segments();
