//! The one clock of everything that decides by time, so that `actionflow.now` can move all of it at once.

use actionflow_core::message;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::{guc, pg};

/// Seconds from 1970 to 2000, where Postgres' own count begins.
const POSTGRES_EPOCH_SECONDS: i64 = 946_684_800;

/// The clock for SQL.
///
/// In Rust, because calling it loads the library: until then anybody may set `actionflow.now`, and the library throws
/// away what somebody without the right has set.
#[pg_extern(stable, parallel_safe)]
pub(crate) fn _now() -> Result<TimestampWithTimeZone, ErrorReport> {
    Ok(now()?)
}

/// The transaction's time, or the one that `actionflow.now` sets.
pub(crate) fn now() -> Result<TimestampWithTimeZone, Error> {
    let Some(text) = guc::now() else {
        return Ok(pg::clock::transaction_start());
    };
    let moved =
        Spi::get_one_with_args::<TimestampWithTimeZone>("select $1::timestamptz", &[text.into()])?;
    moved.ok_or_else(|| Error::Internal("the clock has no time".to_owned()))
}

fn unix_microseconds(moment: TimestampWithTimeZone) -> i64 {
    pg_sys::TimestampTz::from(moment).saturating_add(POSTGRES_EPOCH_SECONDS * 1_000_000)
}

pub(crate) fn unix_seconds(moment: TimestampWithTimeZone) -> i64 {
    unix_microseconds(moment).div_euclid(1_000_000)
}

pub(crate) fn iso(moment: TimestampWithTimeZone) -> String {
    message::timestamp(unix_microseconds(moment))
}
