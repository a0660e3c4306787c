-- What the mapping `fields` makes of a payment, by operators of jsonb. It checks nothing.
select count(
    jsonb_build_object(
        'targetUserIds', jsonb_build_array(payload #> '{data,object,metadata,customer_id}'),
        'flowInvocationId', payload -> 'id',
        'variables', jsonb_build_object(
            'amount', payload #> '{data,object,amount}',
            'currency', payload #> '{data,object,currency}',
            'email', payload #> '{data,object,receipt_email}',
            'source', 'payments'
        ),
        'metadata', jsonb_build_object('type', payload -> 'type')
    )
)
from payloads
