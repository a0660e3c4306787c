-- Plays purchases in as they happened, in the order of their dates, one transaction each.
-- Variable: purchases, how many.

select format(
    'select actionflow.emit_event(%L, %L, %L, occurred_at => %L)',
    'purchase',
    c.customer_id,
    jsonb_build_object('amount', c.amount, 'discs', c.discs),
    c.bought_on
)
from cdnow as c
join customers as k on k.id = c.customer_id
order by c.bought_on, c.customer_id, c.amount
limit :purchases
\gexec
