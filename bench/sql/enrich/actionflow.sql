-- A flow that asks the endpoint about each login, and waits for what it says.
create extension actionflow;
select actionflow.create_endpoint('risk-engine', :url, '{}');
select actionflow.create_flow(
    'login-check',
    '{"actions": [{"name": "risk", "type": "enrich", "endpoint": "risk-engine", "timeout_ms": 2000, "on_failure": "allow"}]}'
);
select actionflow.add_event_trigger('login-check', 'login');
select * from actionflow.publish_flow('login-check');
