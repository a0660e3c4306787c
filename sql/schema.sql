-- The schema, which nobody else may have prepared.
-- create extension takes a schema of that name as it finds it: its owner could put functions beside these, which superusers
-- and the worker would then call. A restored dump has made it before, empty and with its owner of before.

do $$
declare
    v_schema pg_namespace;
begin
    select n.* into v_schema from pg_namespace as n where n.nspname = 'actionflow';
    if exists (
        select from pg_roles as r
        where r.oid = v_schema.nspowner and not r.rolsuper and r.rolname <> current_user
    ) or exists (
        select from aclexplode(v_schema.nspacl) as a
        where a.privilege_type = 'CREATE' and a.grantee <> v_schema.nspowner
    ) or exists (
        select from pg_depend as d
        where d.refclassid = 'pg_namespace'::regclass and d.refobjid = v_schema.oid and d.classid <> 'pg_extension'::regclass
    ) then
        raise exception using
            errcode = 'duplicate_schema',
            message = 'schema "actionflow" exists, and is not empty or not yours alone',
            hint = 'Drop it, because create extension makes it anew; when restoring a dump, own it: alter schema actionflow owner to ...';
    end if;
end
$$;
