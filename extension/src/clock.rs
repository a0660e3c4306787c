//! The one clock of everything that decides by time, so that `actionflow.now` can move all of it at once.

use actionflow_core::message;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::pg::snapshot;
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
    let moved: Option<TimestampWithTimeZone> =
        snapshot::value("select $1::pg_catalog.timestamptz", &[text.into()])?;
    moved.ok_or_else(|| Error::Internal("the clock has no time".to_owned()))
}

/// The wall clock in microseconds since 1970, or the moment that `actionflow.now` sets: for what must not be as old as a long
/// transaction.
pub(crate) fn wall_now() -> Result<i64, Error> {
    Ok(match guc::now() {
        None => unix_microseconds(pg::clock::wall_clock()),
        Some(_) => unix_microseconds(now()?),
    })
}

/// What segments take for now. Not the transaction's time, which in a long transaction lies before crossings that have been
/// made since.
pub(crate) fn segments_now() -> Result<i64, Error> {
    wall_now()
}

/// The clock of segments once locks have been waited for: whoever held them may have emitted events later than `now`, which
/// have happened all the same.
pub(crate) fn segments_now_after_waiting(now: i64) -> Result<i64, Error> {
    Ok(segments_now()?.max(now))
}

/// The clock of segments for SQL.
#[pg_extern(volatile, parallel_safe)]
pub(crate) fn _segments_now() -> Result<TimestampWithTimeZone, ErrorReport> {
    Ok(from_unix_microseconds(segments_now()?))
}

/// Outside what Postgres can hold: infinity.
pub(crate) fn from_unix_microseconds(moment: i64) -> TimestampWithTimeZone {
    let micros = moment.saturating_sub(POSTGRES_EPOCH_SECONDS * 1_000_000);
    TimestampWithTimeZone::try_from(micros).unwrap_or_else(|_| {
        if moment < 0 {
            TimestampWithTimeZone::negative_infinity()
        } else {
            TimestampWithTimeZone::positive_infinity()
        }
    })
}

pub(crate) fn unix_microseconds(moment: TimestampWithTimeZone) -> i64 {
    pg_sys::TimestampTz::from(moment).saturating_add(POSTGRES_EPOCH_SECONDS * 1_000_000)
}

pub(crate) fn unix_seconds(moment: TimestampWithTimeZone) -> i64 {
    unix_microseconds(moment).div_euclid(1_000_000)
}

pub(crate) fn iso(moment: TimestampWithTimeZone) -> String {
    message::timestamp(unix_microseconds(moment))
}
