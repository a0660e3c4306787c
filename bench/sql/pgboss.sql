-- What pg-boss's own insert does for a queue with `notify`: the row, and a NOTIFY on a channel derived from its schema.
create function deliver_customer() returns trigger
language plpgsql
as $$
begin
    insert into pgboss.job (name, data, policy)
    values ('deliver', delivery_payload(new), 'standard');
    perform pg_notify('pgboss_' || left(encode(sha224('pgboss'::bytea), 'hex'), 24), 'deliver');
    return null;
end
$$;

create trigger insert_deliver
after insert on customers
for each row execute function deliver_customer();
