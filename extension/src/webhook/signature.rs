//! `verify_signature` and `signature_preset`.

use std::cell::RefCell;

use actionflow_core::signature::{self, Config, Request};
use pgrx::JsonB;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::remembered::Remembered;
use crate::clock;
use crate::error::Error;
use crate::pg::call::Call;
use crate::pg::jsonb;
use crate::pg::jsonb_reader::header_pairs;

thread_local! {
    static CONFIGS: RefCell<Remembered<Config>> = RefCell::default();
}

/// Whether a request is signed as the configuration says, by whoever has the secret.
///
/// Headers are an object whose values are texts or arrays of texts, or an array of name and value pairs. False for whatever the
/// request holds that does not fit, and without a secret. `method` is for configurations that sign it. Immutable: the time is an
/// argument.
///
/// # Errors
/// 22023 the configuration is malformed; 22004 it or the time is NULL.
#[pg_extern(sql = "create function actionflow.verify_signature(
    config jsonb, headers jsonb, body bytea, now timestamptz default pg_catalog.clock_timestamp(), method text default 'POST')
returns boolean language c immutable parallel safe as 'MODULE_PATHNAME', '@FUNCTION_NAME@';")]
pub(crate) fn verify_signature(fcinfo: pg_sys::FunctionCallInfo) -> Result<bool, ErrorReport> {
    let call = Call::new(fcinfo);
    call.prefetch(1);
    call.prefetch(2);
    let config = call.datum(0).ok_or(Error::Null("config"))?;
    let now: TimestampWithTimeZone = call.argument(3).ok_or(Error::Null("now"))?;
    let config =
        CONFIGS.with_borrow_mut(|known| known.get(config, |json| Ok(Config::parse(json)?)))?;
    let (Some(headers), Some(body)) = (call.datum(1), call.bytes(2)) else {
        return Ok(false);
    };
    let method = call.bytes(4).unwrap_or(b"POST");
    Ok(jsonb::with_bytes(headers, |headers| {
        let request = Request {
            // A method that is no text is no word either, which is what a configuration that signs it asks for.
            method: str::from_utf8(method).unwrap_or_default(),
            headers: &header_pairs(headers, |name| config.reads_header(name)),
            body,
            now: clock::unix_microseconds(now),
        };
        config.verify(&request).is_ok()
    }))
}

/// The signature configuration of a provider, to be completed with its secret.
///
/// # Errors
/// 22023 no such provider.
#[pg_extern(immutable, parallel_safe)]
pub(crate) fn signature_preset(provider: Option<&str>) -> Result<JsonB, ErrorReport> {
    let provider = provider.ok_or(Error::Null("provider"))?;
    let preset = signature::preset(provider)
        .ok_or_else(|| Error::NoSuchPreset(provider.chars().take(100).collect()))?;
    Ok(JsonB(preset))
}
