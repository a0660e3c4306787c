-- A second flow, which has nothing to do, and a signed webhook for it and for the one with a notify. Returns the paths.
select actionflow.create_flow('note', '{"actions": []}');
select * from actionflow.publish_flow('note');
create table requests (id bigint generated always as identity primary key, body bytea not null);
create table webhooks as
select flow, trigger_id, path
from unnest(array['note', 'welcome']) as flow, actionflow.add_webhook_trigger(flow, :options);
select actionflow.set_trigger_mode(trigger_id, 'live') from webhooks;
