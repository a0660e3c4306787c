-- Where requests go. Each call returns the endpoint's signing secret, once; the receiver needs it.
-- Variable: receiver, the base URL.

select 'crm', actionflow.create_endpoint('crm', :'receiver' || '/crm');
-- The receiver answers 503 to its first requests, so that retries are seen soon.
select 'newsletter', actionflow.create_endpoint('newsletter', :'receiver' || '/newsletter', '{"retry_seconds": [1, 2, 4]}');
select 'loyalty', actionflow.create_endpoint('loyalty', :'receiver' || '/loyalty');
select 'risk', actionflow.create_endpoint('risk', :'receiver' || '/risk');
