//! End-to-end tests, one module per behaviour: what users see happen over COMMIT and processes.
#![expect(
    clippy::panic,
    reason = "a helper of a test reports to the test runner by panicking"
)]

mod addresses;
mod asking;
mod bulk;
mod cdnow;
mod customers;
mod delivery;
mod docs;
mod dump;
mod enrich;
mod enrich_answers;
mod enrich_by_hand;
mod enrich_cache;
mod enrich_cluster;
mod enrich_crowd;
mod enrich_failures;
mod enrich_life;
mod enrich_privileges;
mod enrich_protection;
mod enrich_rendezvous;
mod enrich_row_tables;
mod enrich_rows;
mod enrich_signed;
mod enrich_sizes;
mod enrich_stage;
mod enrich_steps;
mod enrich_storm;
mod enrich_workers;
mod errors;
mod flows;
mod harness;
mod history;
mod identity_events;
mod keys;
mod limits;
mod modes;
mod privileges;
mod reliability;
mod retries;
mod scene;
mod schema_changes;
mod security_events;
mod segment_builds;
mod segment_clock;
mod segment_concurrency;
mod segment_isolation;
mod segment_properties;
mod segments;
mod steps;
mod surface;
mod tables;
mod triggers;
mod versions;
mod wakeup;
mod worker;
mod writers;
