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
-- A login waits for the risk engine's answer; when there is none within 2 s, it is to prove more. crm hears of it after the commit.
select actionflow.create_flow('login', '{
    "actions": [
        {"name": "risk", "type": "enrich", "endpoint": "risk", "timeout_ms": 2000, "on_failure": "challenge"},
        {"name": "tell", "type": "notify", "endpoints": ["crm"]}
    ]
}');

select f.name, p.version
from (values ('welcome'), ('profile-changed'), ('goodbye'), ('thank-you'), ('login')) as f (name), actionflow.publish_flow(f.name) as p;

select actionflow.add_event_trigger('welcome', 'user-created');
select actionflow.add_event_trigger('profile-changed', 'user-updated');
select actionflow.add_event_trigger('goodbye', 'user-deleted');
select actionflow.add_event_trigger('thank-you', 'purchase');
select actionflow.add_event_trigger('login', 'login');

-- From here on, every change of the table counts.
select actionflow.watch_customers('customers');
