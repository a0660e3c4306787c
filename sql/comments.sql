-- One sentence for every public object, in the words of its users.

comment on schema actionflow is 'Action flows: what follows when a customer changes.';

comment on function actionflow.set_setting(text, jsonb) is 'Changes a setting of actionflow; null sets it back to its default.';
comment on view actionflow.settings is 'Settings with their current values.';

comment on function actionflow.watch_customers(regclass, name, name[], text) is
    'Makes the rows of a table customers: inserts, updates and deletes become events.';
comment on function actionflow.unwatch_customers(regclass) is 'Removes the triggers that watch_customers has made.';
comment on function actionflow.add_test_user(text, text) is 'Lets test runs reach this customer.';
comment on function actionflow.remove_test_user(text) is 'Keeps test runs away from this customer again.';
comment on view actionflow.test_users is 'Customers whom test runs may reach.';
comment on view actionflow.watched_tables is 'Tables whose rows are customers.';

comment on function actionflow.create_flow(text, jsonb) is 'Creates a flow with a draft definition.';
comment on function actionflow.update_flow(text, jsonb) is 'Replaces the draft definition of a flow.';
comment on function actionflow.publish_flow(text, boolean) is 'Makes the draft the next version, which live starts use from now on.';
comment on function actionflow.archive_flow(text) is 'Ends a flow for good; its history stays.';
comment on function actionflow.flow_definition(text, integer) is 'The definition of a published version, or the draft.';
comment on function actionflow.start_flow(text, jsonb, text) is 'Starts a flow for customers; an invocation id that was used before starts nothing again.';
comment on function actionflow.start_flow_for(text, jsonb, jsonb) is
    'Starts a flow for a segment, for whom a rule matches or for picked customers, in the background; returns the id of the bulk job.';
comment on function actionflow.cancel_bulk_job(bigint) is 'Stops a bulk job; what it has started goes on.';
comment on view actionflow.bulk_jobs is 'Bulk jobs with their progress.';
comment on view actionflow.flows is 'Flows with their published version.';

comment on function actionflow.add_event_trigger(text, text, jsonb) is 'Starts a flow for the customer of every event of this name.';
comment on function actionflow.add_segment_trigger(text, text, text) is 'Starts a flow for customers who enter, or exit, a segment.';
comment on function actionflow.set_trigger_mode(bigint, text) is 'Switches a trigger to test, live or disabled.';
comment on function actionflow.remove_trigger(bigint) is 'Removes a trigger.';
comment on view actionflow.triggers is 'What starts each flow.';

comment on function actionflow.create_segment(text, jsonb, regclass) is 'Creates a segment and returns the number of its members, who have entered nothing.';
comment on function actionflow.update_segment(text, jsonb) is 'Gives a segment another rule; who enters or exits by it does so with events.';
comment on function actionflow.delete_segment(text, boolean) is 'Deletes a segment that no live trigger uses, or with force one that does.';
comment on function actionflow.preview_segment(text, jsonb) is 'Who would enter and exit a segment by another rule.';
comment on view actionflow.segments is 'Segments with their rules.';
comment on view actionflow.segment_members is 'Who is a member of which segment, and since when.';
comment on function actionflow.match_customers(jsonb, regclass) is 'The ids of the customers for whom a rule holds now.';
comment on function actionflow.count_customers(jsonb, regclass) is 'The number of customers for whom a rule holds now.';
comment on function actionflow.segment_sql(jsonb, regclass) is 'The SQL condition that a rule means for its table now.';
comment on function actionflow.tick(timestamptz) is 'Lets customers enter and exit whose time has come, and returns how many did.';
comment on function actionflow.tick_batch(integer, timestamptz) is 'One step of tick, for the worker.';

comment on function actionflow.create_endpoint(text, text, jsonb) is 'Creates an endpoint and returns its signing secret, which is not shown again.';
comment on function actionflow.update_endpoint(text, jsonb) is 'Changes options of an endpoint; null sets one back to its default.';
comment on function actionflow.delete_endpoint(text) is 'Deletes an endpoint that no flow uses, and cancels what is queued for it.';
comment on function actionflow.rotate_endpoint_secret(text, interval) is 'Makes a new signing secret and returns it; the old one signs as well until the grace period ends.';
comment on function actionflow.enable_endpoint(text) is 'Sends to an endpoint again, beginning with what has waited.';
comment on function actionflow.disable_endpoint(text) is 'Stops sending to an endpoint; deliveries wait.';
comment on view actionflow.endpoint_health is 'How each endpoint is doing: what waits, what has failed, and why.';

comment on function actionflow.emit_event(text, text, jsonb, text, timestamptz) is 'Records an event about a customer and starts the flows that it triggers.';
comment on view actionflow.events is 'Events that were kept because something could use them.';

comment on view actionflow.runs is 'Runs: one customer going through one version of a flow.';
comment on function actionflow.cancel_run(bigint) is 'Ends a run and cancels its deliveries that have not been made.';
comment on function actionflow.explain_run(bigint) is 'Tells what a run has done and what it waits for.';

comment on view actionflow.deliveries is 'Deliveries: each is the obligation to make one successful HTTP request.';
comment on view actionflow.delivery_attempts is 'Every HTTP request that was made, and what came back.';
comment on view actionflow.dead_letters is 'Deliveries whose retries are used up; they can be replayed.';
comment on function actionflow.replay_delivery(bigint) is 'Queues a dead delivery again, with its whole retry schedule.';
comment on function actionflow.replay_dead_letters(text) is 'Queues all dead deliveries again, or those of one endpoint, and returns their number.';

comment on function actionflow.grant_app(name) is 'Lets a role start flows and emit events.';
comment on function actionflow.grant_reader(name) is 'Lets a role read flows, runs, deliveries and events, but no secret and no message.';
comment on function actionflow.grant_worker(name) is 'Lets a role do the work of the worker.';

comment on function actionflow.claim_deliveries(integer, interval, timestamptz) is 'For the worker: leases due deliveries.';
comment on function actionflow.claimed_deliveries(bigint, bigint[]) is 'For the worker: what to send for leased deliveries, with the endpoints'' secrets.';
comment on function actionflow.complete_deliveries(bigint[], bigint[], text[], bigint[], integer[], text[], timestamptz[], integer[], text[], text[]) is
    'For the worker: records what happened to attempts; whoever has lost the lease changes nothing.';
comment on function actionflow.renew_leases(bigint[], bigint[], interval) is 'For the worker: prolongs leases that it still holds.';
comment on function actionflow.release_deliveries(bigint[], bigint[]) is 'For the worker: gives back what it has not sent.';
comment on function actionflow.prepare_to_sleep() is 'For the worker: announces that it is about to sleep.';
comment on function actionflow.wake_up() is 'For the worker: says that it is awake.';
comment on function actionflow.run_bulk_jobs(integer) is
    'For the worker: starts flows for the next customers of the oldest bulk job and returns how many it looked at.';
comment on function actionflow.maintain() is 'For the worker, every minute: empties history that is too old.';
comment on function actionflow.queue_stats() is 'For the worker: how much is queued for each endpoint, and since when.';

comment on function actionflow.enrich_before_insert(regclass, text, jsonb) is
    'Makes every row ask by an event before it is inserted; the answer refuses it, leaves it out or fills it in.';
comment on function actionflow.stop_enrich_before_insert(regclass, text) is 'Removes the trigger that enrich_before_insert has made.';
comment on view actionflow.enrich_attempts is
    'Requests for which a transaction waited, as the worker saw them; whether that transaction committed is not known here.';
comment on function actionflow.take_enrichments(integer, integer) is 'For the worker: takes requests for which transactions wait.';
comment on function actionflow.answer_enrichments(bigint[], text[]) is 'For the worker: hands replies to the transactions that wait.';
comment on function actionflow.leave_enrichments() is 'For the worker: takes no more requests on this connection.';
comment on function actionflow.enrich_endpoint(bigint) is 'For the worker: an endpoint with its secrets.';
comment on function actionflow.record_enrichments(jsonb) is 'For the worker: records attempts at enrich actions.';

comment on function actionflow.add_webhook_trigger(text, jsonb) is
    'Gives a flow a URL to which webhooks are sent, in mode test, and returns its path, which is shown once.';
comment on function actionflow.update_webhook_trigger(bigint, jsonb, boolean) is
    'Changes options of a webhook trigger; null removes one. One that is live has to be set to test first, or forced.';
comment on function actionflow.rotate_webhook_path(bigint) is 'Gives a webhook trigger another URL and returns its path; the old one ends at once.';
comment on function actionflow.capture_webhook_sample(bigint) is
    'Keeps the next request to a webhook trigger in mode test, which then starts nothing, as its sample.';
comment on function actionflow.test_mapping(bigint, jsonb) is 'Tells what a mapping makes of a webhook trigger''s sample.';
comment on view actionflow.webhook_samples is 'Requests that were captured, without credentials.';
comment on view actionflow.webhook_rejections is 'The last requests that each webhook trigger has refused, and how many in all.';
comment on function actionflow.receive_webhook(text, text, jsonb, bytea, inet) is
    'Takes a request to a webhook''s URL, starts what it triggers, and returns the answer to the sender.';
comment on function actionflow.verify_signature(jsonb, jsonb, bytea, timestamptz, text) is 'Tells whether a request is signed as a configuration says.';
comment on function actionflow.signature_preset(text) is 'The signature configuration of a provider, to be completed with its secret.';
comment on function actionflow.map_payload(jsonb, jsonb, jsonb) is 'The trigger payload that a mapping makes of a webhook''s payload.';
