-- Requests signed as Stripe does: $1 the body of one, $2 the secret, $3 when all were signed, $4 how many.
insert into signed (headers, body)
select
    jsonb_build_object(
        'host', 'shop.example.com',
        'accept', '*/*; q=0.5, application/xml',
        'content-type', 'application/json; charset=utf-8',
        'content-length', length(body)::text,
        'user-agent', 'Stripe/1.0 (+https://stripe.com/docs/webhooks)',
        'stripe-signature',
        't=' || $3::text || ',v1=' || encode(hmac(convert_to($3::text || '.', 'UTF8') || body, $2::bytea, 'sha256'), 'hex')
    ),
    body
from (
    select convert_to(replace($1::text, 'evt_000000000000000000000001', 'evt_' || lpad(i::text, 24, '0')), 'UTF8') as body
    from generate_series(1, $4::int) as i
) as bodies
