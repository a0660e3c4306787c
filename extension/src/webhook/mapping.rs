//! `map_payload`, and what mappings in a backend must not do to it.

use std::cell::RefCell;
use std::time::Duration;

use actionflow_core::mapping::{self, Mapping, Request, Wanted};
use actionflow_core::payload::TriggerPayload;
use actionflow_core::webhook::{self, Refusal};
use pgrx::pg_sys::Datum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::Value;

use super::remembered::Remembered;
use crate::error::Error;
use crate::pg::call::Call;
use crate::pg::jsonb_reader::header_pairs;
use crate::pg::jsonb_writer::Written;
use crate::pg::{jsonb, stop};
use crate::validation::{check_size, check_stored_size};

const PAYLOAD: &str = "the payload";
/// What takes more than this in the database has over 1 MiB as text: jsonb takes at most 12 bytes for one of text, and some.
const MAX_STORED_BYTES: usize = 32 << 20;

/// How long a mapping may take.
const TIME_LIMIT: Duration = Duration::from_millis(100);

thread_local! {
    static MAPPINGS: RefCell<Remembered<Mapping>> = RefCell::default();
}

/// The trigger payload that a mapping makes of a webhook's payload, checked.
///
/// Headers are for mappings in JavaScript. Stable, not immutable: a mapping that takes too long is an error.
///
/// # Errors
/// 22023 the mapping is malformed or has failed, or what it makes is no trigger payload; 22004 it or the payload is NULL.
#[pg_extern(
    sql = "create function actionflow.map_payload(mapping jsonb, payload jsonb, headers jsonb default '{}')
returns jsonb language c stable parallel safe as 'MODULE_PATHNAME', '@FUNCTION_NAME@';"
)]
pub(crate) fn map_payload(fcinfo: pg_sys::FunctionCallInfo) -> Result<Written, ErrorReport> {
    let call = Call::new(fcinfo);
    let mapping = call.datum(0).ok_or(Error::Null("mapping"))?;
    let payload = call.datum(1).ok_or(Error::Null("payload"))?;
    check_size_of(payload)?;
    let mapping = MAPPINGS.with_borrow_mut(|known| known.get(mapping, parse));
    // The payload's mistakes come first.
    let wanted = mapping
        .as_ref()
        .map_or(&Wanted::All, |known| known.wanted());
    let payload = jsonb::to_json_of(payload, wanted).ok_or(Error::TooDeep)?;
    let mapping = mapping?;
    let map = |headers: &[(&str, &str)]| {
        let headers = webhook::without_credentials(headers, &[]);
        map(&mapping, &payload, "POST", &headers)
    };
    let mapped = match call.datum(2).filter(|_| mapping.reads_request()) {
        None => map(&[]),
        Some(headers) => {
            jsonb::with_bytes(headers, |headers| map(&header_pairs(headers, |_| true)))
        }
    };
    let json = mapped.map_err(Error::from)?.into_json();
    Ok(Written::new(&json)
        .ok_or_else(|| Error::Internal("the payload does not fit into jsonb".to_owned()))?)
}

/// Refuses a payload over the limit by its text, as for webhooks. What takes little room in the database is not written to see.
fn check_size_of(payload: Datum) -> Result<(), Error> {
    let stored = jsonb::size(payload);
    if check_stored_size(PAYLOAD, stored).is_ok() || stored > MAX_STORED_BYTES {
        return check_stored_size(PAYLOAD, stored);
    }
    check_size(PAYLOAD, &jsonb::to_json(payload).ok_or(Error::TooDeep)?)
}

fn parse(mapping: &Value) -> Result<Mapping, Error> {
    Ok(Mapping::parse(mapping)?)
}

/// What a mapping makes of a payload, or why it makes nothing.
pub(super) fn map(
    mapping: &Mapping,
    payload: &Value,
    method: &str,
    headers: &[(&str, &str)],
) -> Result<TriggerPayload, Unmapped> {
    let request = Request { method, headers };
    let mapped = stop::within(TIME_LIMIT, || {
        mapping.apply(payload, &request, stop::is_due)
    })?;
    Ok(mapping::checked_payload(&mapped)?)
}

/// Why a payload starts nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unmapped {
    #[error(transparent)]
    Failed(#[from] mapping::Failure),
    #[error(transparent)]
    Unusable(#[from] actionflow_core::input::Error),
}

impl From<Unmapped> for Error {
    fn from(unmapped: Unmapped) -> Self {
        match unmapped {
            Unmapped::Failed(failure) => Self::Mapping(failure),
            Unmapped::Unusable(error) => Self::Input(error),
        }
    }
}

impl From<Unmapped> for Refusal {
    fn from(unmapped: Unmapped) -> Self {
        match unmapped {
            Unmapped::Failed(failure) => failure.into(),
            Unmapped::Unusable(error) => webhook::unusable(&error),
        }
    }
}
