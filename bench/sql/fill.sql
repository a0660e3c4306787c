insert into customers (email, first_name, last_name, phone, locale, timezone, plan)
select 'ana.lovelace@example.com', 'Ana', 'Lovelace', '+44 20 7946 0123', 'en-GB', 'Europe/London', 'pro'
from generate_series(1, $1::int)
