-- Ordinary statements of an application: nothing in them knows of actionflow.

insert into customers (id, email, first_name)
values
    (10001, 'ada.10001@example.com', 'Ada'),
    (10002, 'grace.10002@example.com', 'Grace'),
    (10003, 'edsger.10003@example.com', 'Edsger'),
    (10004, 'barbara.10004@example.com', 'Barbara'),
    (10005, 'alan.10005@example.com', 'Alan');

update customers set plan = 'gold' where spent > 1000;

delete from customers where id in (select c.id from customers as c where c.purchases = 1 order by c.id desc limit 3);
