-- How many memberships of the replay's segments differ from those counted afresh at the moment $1.
with purchase as materialized (
    select user_id, occurred_at, (properties ->> 'dollar_value')::numeric as dollars
    from actionflow.events
    where name = 'purchase' and occurred_at <= $1::text::timestamptz
),
expected as (
    select 'frequent' as segment, user_id
    from purchase
    where occurred_at > $1::text::timestamptz - interval '2160 hours'
    group by user_id
    having count(*) >= 3
    union all
    select 'lapsed', user_id
    from purchase
    group by user_id
    having max(occurred_at) <= $1::text::timestamptz - interval '4320 hours'
    union all
    select 'spender', user_id
    from purchase
    where occurred_at > $1::text::timestamptz - interval '720 hours'
    group by user_id
    having sum(dollars) > 100
),
member as (
    select segment, user_id
    from actionflow.segment_members
)
select count(*)
from (
    (select segment, user_id from expected except all select segment, user_id from member)
    union all
    (select segment, user_id from member except all select segment, user_id from expected)
) as difference
