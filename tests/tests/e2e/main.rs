//! End-to-end tests, one module per behaviour: what users see happen over COMMIT and processes.
#![expect(
    clippy::panic,
    reason = "a helper of a test reports to the test runner by panicking"
)]

mod addresses;
mod bulk;
mod cdnow;
mod customers;
mod delivery;
mod docs;
mod dump;
mod errors;
mod flows;
mod harness;
mod history;
mod limits;
mod modes;
mod privileges;
mod reliability;
mod retries;
mod scene;
mod schema_changes;
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
