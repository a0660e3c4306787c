-- Customers by a rule, without a segment.
-- Public: match_customers, count_customers, segment_sql.

create function actionflow.segment_sql(rule jsonb, relation regclass default null) returns text
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    select actionflow._bind(rule, r.relation, null, quote_literal(actionflow._segments_now()), 'actionflow._known_event') ->> 'predicate'
    from actionflow._segment_relation(segment_sql.relation) as r (relation);
end;

create function actionflow._matching_sql(rule jsonb, relation regclass) returns text
language sql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
begin atomic
    select format('select %s from %s where %s', b.bound ->> 'id', r.relation, b.bound ->> 'predicate')
    from actionflow._segment_relation(_matching_sql.relation) as r (relation)
    cross join lateral actionflow._bind(rule, r.relation, null, '$1', 'actionflow._known_event') as b (bound);
end;

create function actionflow.match_customers(rule jsonb, relation regclass default null) returns setof text
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format('select m.id from (%s) as m (id) where m.id is not null',
        actionflow._matching_sql(rule, relation))
    using actionflow._segments_now();
end
$$;

create function actionflow.count_customers(rule jsonb, relation regclass default null) returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    execute format('select count(m.id) from (%s) as m (id)', actionflow._matching_sql(rule, relation))
    into v_count using actionflow._segments_now();
    return v_count;
end
$$;
