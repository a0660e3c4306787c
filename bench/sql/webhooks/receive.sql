\set id random(1, 9000000000000000000)
select status
from actionflow.receive_webhook(
    :token,
    'POST',
    jsonb_build_array(
        jsonb_build_array('host', '127.0.0.1:8080'),
        jsonb_build_array('content-type', 'application/json'),
        jsonb_build_array('content-length', '1024'),
        jsonb_build_array('user-agent', 'GitHub-Hookshot/044aadd'),
        jsonb_build_array('x-github-event', 'payment'),
        jsonb_build_array('x-github-delivery', '72d3162e-cc78-11e3-' || :id::text),
        jsonb_build_array('x-hub-signature-256', :signature)
    ),
    decode(:body, 'hex'),
    '127.0.0.1'
)
