create extension actionflow;
select actionflow.create_endpoint(
    'crm',
    :url,
    jsonb_build_object('secret', :secret)
);
select actionflow.create_flow(
    'welcome',
    '{"actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]}'
);
select * from actionflow.publish_flow('welcome');
select actionflow.watch_customers('customers');
select actionflow.add_event_trigger('welcome', 'user-created');
