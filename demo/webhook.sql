-- A URL for a shop's webhooks, signed as Standard Webhooks defines it. Prints the trigger's id and the path.
-- Variable: secret, which the shop signs with.

select actionflow.create_flow('order', '{
    "variables": {"amount": {"required": true}},
    "actions": [{"name": "tell", "type": "notify", "endpoints": ["crm"]}]
}') \g /dev/null
select actionflow.publish_flow('order') \g /dev/null
select trigger_id, path
from actionflow.add_webhook_trigger('order', jsonb_build_object(
    'signature', jsonb_build_object('preset', 'standard-webhooks', 'secret', :'secret'),
    'mapping', jsonb_build_object(
        'kind', 'fields',
        'targetUserIds', '$.customer.id',
        'variables', jsonb_build_object('amount', '$.total')
    )
)) \gset
-- It was made in mode test.
select actionflow.set_trigger_mode(:trigger_id, 'live') \g /dev/null
\echo :trigger_id :path
