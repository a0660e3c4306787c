-- Least privilege: nothing for PUBLIC, and three sets of rights that a superuser hands to roles of their own.
-- Public: grant_app, grant_reader, grant_worker.

create function actionflow._grant(role name, relations text[], functions text[]) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text;
begin
    execute format('grant usage on schema actionflow to %I', role);
    foreach v_name in array relations loop
        execute format('grant select on actionflow.%I to %I', v_name, role);
    end loop;
    for v_name in
        select p.oid::regprocedure::text
        from pg_proc as p
        where p.pronamespace = 'actionflow'::regnamespace and p.proname = any(functions)
    loop
        execute format('grant execute on function %s to %I', v_name, role);
    end loop;
end
$$;

create function actionflow.grant_app(role name) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    select actionflow._grant(role, '{flows,bulk_jobs}', '{start_flow,start_flow_for,emit_event}');
end;

create function actionflow.grant_reader(role name) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    select actionflow._grant(role,
        '{settings,test_users,watched_tables,flows,triggers,segments,segment_members,bulk_jobs,events,runs,deliveries,delivery_attempts,dead_letters,enrich_attempts,endpoint_health,webhook_rejections}',
        '{explain_run,_gates}');
end;

create function actionflow.grant_worker(role name) returns void
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    select actionflow._grant(role, '{}',
        '{claim_deliveries,claimed_deliveries,complete_deliveries,renew_leases,release_deliveries,prepare_to_sleep,wake_up,take_enrichments,answer_enrichments,leave_enrichments,enrich_endpoint,record_enrichments,tick_batch,run_bulk_jobs,maintain,queue_stats,receive_webhook}');
end;

do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid from pg_proc as p where p.pronamespace = 'actionflow'::regnamespace
    loop
        execute format('revoke all on function %s from public', v_function);
    end loop;
end
$$;
