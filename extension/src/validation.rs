//! What SQL asks of core before it writes: are these options, this definition, usable?

use actionflow_core::endpoint;
use actionflow_core::flow::Definition;
use actionflow_core::json_size::json_bytes;
use actionflow_core::retention;
use actionflow_core::signature::Secret;
use pgrx::JsonB;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::Value;

use crate::error::Error;
use crate::pg::clock;

/// Payloads, event properties and definitions: far above what a message should carry, far below what hurts.
const MAX_JSON_BYTES: usize = 1024 * 1024;

/// Refuses JSON over the limit.
pub(crate) fn check_size(what: &'static str, json: &Value) -> Result<(), Error> {
    match json_bytes(json, MAX_JSON_BYTES) {
        Some(_) => Ok(()),
        None => Err(Error::TooLarge { what, limit_mib: 1 }),
    }
}

/// Refuses JSON over the limit by what it takes in the database.
pub(crate) fn check_stored_size(what: &'static str, bytes: usize) -> Result<(), Error> {
    if bytes <= MAX_JSON_BYTES {
        Ok(())
    } else {
        Err(Error::TooLarge { what, limit_mib: 1 })
    }
}

/// Endpoint names that a definition uses, with their paths; an error when the definition is malformed.
#[pg_extern(immutable, parallel_safe)]
pub(crate) fn _definition_endpoints(
    definition: Option<JsonB>,
) -> Result<TableIterator<'static, (name!(name, String), name!(path, String))>, ErrorReport> {
    let definition = definition.ok_or(Error::Null("definition"))?;
    check_size("the flow definition", &definition.0)?;
    let definition = Definition::parse(&definition.0).map_err(Error::from)?;
    let endpoints: Vec<_> = definition
        .actions
        .into_iter()
        .flat_map(|action| action.endpoints)
        .collect();
    Ok(TableIterator::new(endpoints))
}

/// The options as given, or an error when they are malformed.
#[pg_extern(immutable, parallel_safe)]
pub(crate) fn _endpoint_options(options: Option<JsonB>) -> Result<JsonB, ErrorReport> {
    let options = options.ok_or(Error::Null("options"))?;
    endpoint::check_options(&options.0).map_err(Error::from)?;
    Ok(options)
}

/// Options of an event trigger: none yet beside the default mapping.
#[pg_extern(immutable, parallel_safe)]
pub(crate) fn _check_event_trigger_options(options: Option<JsonB>) -> Result<(), ErrorReport> {
    let options = options.ok_or(Error::Null("options"))?;
    Ok(actionflow_core::flow::check_event_trigger_options(&options.0).map_err(Error::from)?)
}

/// A new signing secret, in the text form of Standard Webhooks.
#[pg_extern(volatile, parallel_unsafe)]
pub(crate) fn _generate_secret() -> Result<String, ErrorReport> {
    Ok(Secret::text_form(&random::<32>()?))
}

#[pg_extern(volatile, parallel_unsafe)]
pub(crate) fn _random_bigint() -> Result<i64, ErrorReport> {
    Ok(i64::from_ne_bytes(random()?))
}

/// Which partition of a ring a moment (seconds since 1970) belongs to.
#[pg_extern(immutable, strict, parallel_safe)]
pub(crate) fn _ring_partition(retention_days: i32, at_seconds: i64) -> i16 {
    retention::ring_partition(retention_days, at_seconds)
}

/// Random bytes for secrets, tokens and leases.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    clock::random_bytes().ok_or_else(|| Error::Internal("no random numbers".to_owned()))
}
