-- A login as an application makes it: it asks first, and writes what it has to write afterwards.
-- Variable: ip, where the login comes from.

begin;
select a.answer, a.answer ->> 'action' = 'block' as is_blocked
from actionflow.emit_event('login', '42', jsonb_build_object('ip', :'ip')) as a (answer) \gset
\if :is_blocked
    -- The event is gone with it, and crm hears nothing; the attempt stays in the log.
    rollback;
\else
    commit;
\endif
\echo :answer
