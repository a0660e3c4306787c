-- An endpoint that the receiver leaves waiting for half a minute, and a flow for the backlog.
select actionflow.create_endpoint(:name, :url, '{"timeout_ms": 35000}');
select actionflow.create_flow(
    :name,
    jsonb_build_object('actions', jsonb_build_array(
        jsonb_build_object('name', 'tell', 'type', 'notify', 'endpoints', jsonb_build_array(:name))
    ))
);
select * from actionflow.publish_flow(:name);
