-- A table as a shop has it, filled with the 2,357 real customers of the CDNOW sample. Nothing of actionflow here yet.

create table cdnow (
    customer_id bigint not null,
    bought_on date not null,
    discs int not null,
    amount numeric(8, 2) not null
);

-- Columns of fixed width; the first one is the customer's number in the full data set.
create temporary table cdnow_line (line text not null);
\copy cdnow_line from 'CDNOW_sample.txt'

insert into cdnow (customer_id, bought_on, discs, amount)
select field[2]::bigint, field[3]::date, field[4]::int, field[5]::numeric
from cdnow_line, regexp_split_to_array(trim(line), '\s+') as field;

create table customers (
    id bigint primary key,
    email text not null,
    first_name text not null,
    plan text not null default 'basic',
    purchases int not null default 0,
    spent numeric(10, 2) not null default 0,
    customer_since date not null default current_date
);

-- The data set has no names: these are made up.
insert into customers (id, email, first_name, purchases, spent, customer_since)
select
    c.customer_id,
    format('%s.%s@example.com', lower(n.first_name), c.customer_id),
    n.first_name,
    count(*),
    sum(c.amount),
    min(c.bought_on)
from cdnow as c
join lateral (
    select (array['Ana', 'Bo', 'Chidi', 'Dara', 'Emre', 'Fatima', 'Goran', 'Hana', 'Ivo', 'Jun', 'Kofi', 'Lena'])[1 + c.customer_id % 12]
) as n (first_name) on true
group by c.customer_id, n.first_name;
