create extension actionflow;
select actionflow.watch_customers('customers');
