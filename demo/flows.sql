-- What happens, and when.

select actionflow.create_flow('welcome', '{
    "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm", "newsletter"]}]
}');
select actionflow.create_flow('profile-changed', '{
    "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]
}');
select actionflow.create_flow('goodbye', '{
    "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]
}');
-- An event trigger's variables are the event's properties.
select actionflow.create_flow('thank-you', '{
    "variables": {"amount": {"required": true}, "discs": {"default": 1}},
    "actions": [{"name": "points", "type": "notify", "endpoints": ["loyalty"]}]
}');

select f.name, p.version
from (values ('welcome'), ('profile-changed'), ('goodbye'), ('thank-you')) as f (name), actionflow.publish_flow(f.name) as p;

select actionflow.add_event_trigger('welcome', 'user-created');
select actionflow.add_event_trigger('profile-changed', 'user-updated');
select actionflow.add_event_trigger('goodbye', 'user-deleted');
select actionflow.add_event_trigger('thank-you', 'purchase');

-- From here on, every change of the table counts.
select actionflow.watch_customers('customers');
