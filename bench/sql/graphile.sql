create function deliver_customer() returns trigger
language plpgsql
as $$
begin
    perform graphile_worker.add_job('deliver', delivery_payload(new));
    return null;
end
$$;

create trigger insert_deliver
after insert on customers
for each row execute function deliver_customer();
