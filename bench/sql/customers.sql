-- The table that every contestant watches.
create table customers (
    id bigint generated always as identity primary key,
    email text not null,
    first_name text not null,
    last_name text not null,
    phone text not null,
    locale text not null,
    timezone text not null,
    plan text not null
);
