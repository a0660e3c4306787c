//! actionflow inside Postgres: the SQL surface.
//!
//! A surface function turns SQL values into those of `actionflow-core`, makes one call, and turns the result back. What
//! flows, payloads and messages mean is in `actionflow-core`; the shape of the data is in `sql/`; whatever needs `unsafe`
//! is under `pg/`. From a row change to the queue: `customers` reads the transition tables and makes events, `engine`
//! turns events and calls into runs and deliveries, `store` writes them with one statement a table.
//!
//! `segment` decides who enters and exits a segment by what `customers` and `engine` see, and by the clock; `bulk` starts flows
//! for many. `webhook` takes requests from outside and starts what they trigger.
//!
//! `catalog` keeps flows, triggers and endpoints in the backend's memory until a commit invalidates them; `wakeup`
//! decides with the commit whether a worker has to be notified.

mod bulk;
mod catalog;
mod changes;
mod clock;
mod customers;
mod engine;
mod enrich;
mod error;
mod event;
mod events;
mod flows;
mod guc;
mod pg;
mod prepared;
mod run;
mod runs;
mod segment;
mod segments;
mod sql;
mod start_keys;
mod store;
mod validation;
mod wakeup;
mod webhook;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

pgrx::pg_module_magic!(name, version);

#[pgrx::pg_guard]
extern "C-unwind" fn _PG_init() {
    guc::init();
    pg::invalidation::init();
    pg::shared::init();
    pg::ring::init();
}

#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'actionflow'"]
    }
}
