//! The SQL files of a fresh install, in load order, and the Rust functions that they need before them.

use pgrx::extension_sql_file;

extension_sql_file!("../../sql/schema.sql", bootstrap);
extension_sql_file!("../../sql/settings.sql", requires = ["schema"]);
extension_sql_file!(
    "../../sql/customers.sql",
    requires = ["settings", customers::_customers_changed]
);
extension_sql_file!(
    "../../sql/history.sql",
    requires = ["customers", validation::_ring_partition]
);
extension_sql_file!("../../sql/runs.sql", requires = ["history", clock::_now]);
extension_sql_file!(
    "../../sql/endpoints.sql",
    requires = [
        "runs",
        validation::_endpoint_options,
        validation::_generate_secret,
        wakeup::_wake_worker
    ]
);
extension_sql_file!("../../sql/deliveries.sql", requires = ["endpoints"]);
extension_sql_file!(
    "../../sql/flows.sql",
    requires = [
        "deliveries",
        validation::_definition_endpoints,
        validation::_check_event_trigger_options
    ]
);
extension_sql_file!(
    "../../sql/webhooks.sql",
    requires = [
        "flows",
        webhook::trigger::_webhook_options,
        webhook::trigger::_generate_token
    ]
);
extension_sql_file!("../../sql/segment_tables.sql", requires = ["webhooks"]);
extension_sql_file!(
    "../../sql/segments.sql",
    requires = [
        "segment_tables",
        clock::_segments_now,
        segments::_bind_rule,
        segments::_json_moment,
        segment::build::_begin_build,
        segment::build::_decide_segment,
        segment::build::_cross,
        segment::due::_look_at_due
    ]
);
extension_sql_file!("../../sql/segment_changes.sql", requires = ["segments"]);
extension_sql_file!("../../sql/audiences.sql", requires = ["segment_changes"]);
extension_sql_file!(
    "../../sql/bulk.sql",
    requires = [
        "audiences",
        bulk::_bulk_request,
        bulk::_start_for_bulk,
        bulk::_start_existing
    ]
);
extension_sql_file!(
    "../../sql/claims.sql",
    requires = ["bulk", validation::_random_bigint]
);
extension_sql_file!(
    "../../sql/completions.sql",
    requires = ["claims", runs::_advance_runs]
);
extension_sql_file!(
    "../../sql/enrichments.sql",
    requires = [
        "completions",
        enrich::row::_enrich_row,
        enrich::row::_check_row_options
    ]
);
extension_sql_file!("../../sql/maintenance.sql", requires = ["enrichments"]);
extension_sql_file!(
    "../../sql/views.sql",
    requires = ["maintenance", enrich::gates::_gates]
);
extension_sql_file!(
    "../../sql/invalidation.sql",
    requires = [
        "views",
        catalog::_invalidate,
        segment::cache::_invalidate_segments
    ]
);
extension_sql_file!("../../sql/dump.sql", requires = ["invalidation"]);
extension_sql_file!(
    "../../sql/grants.sql",
    requires = [
        "dump",
        flows::start_flow,
        events::emit_event,
        webhook::receive::receive_webhook,
        enrich::serve::take_enrichments,
        enrich::serve::answer_enrichments,
        enrich::serve::leave_enrichments,
        wakeup::prepare_to_sleep,
        wakeup::wake_up
    ]
);
extension_sql_file!("../../sql/comments.sql", finalize);
