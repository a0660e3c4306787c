select count(*)
from actionflow.start_flow(
    $1::text,
    (select jsonb_build_object('targetUserIds', jsonb_agg(i::text)) from generate_series(1, $2::int) as i)
)
where status = 'started'
