//! The transaction's time, and random numbers.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

/// When the current transaction started, as `now()` says.
pub(crate) fn transaction_start() -> TimestampWithTimeZone {
    // SAFETY: reads a variable of the backend; a surface function always runs inside a transaction.
    let micros = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
    from_micros(micros)
}

/// The wall clock, as `clock_timestamp()` says.
pub(crate) fn wall_clock() -> TimestampWithTimeZone {
    // SAFETY: reads the operating system's clock, nothing else.
    let micros = unsafe { pg_sys::GetCurrentTimestamp() };
    from_micros(micros)
}

fn from_micros(micros: pg_sys::TimestampTz) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(micros)
        .unwrap_or_else(|_| TimestampWithTimeZone::positive_infinity())
}

/// Random bytes from the server's cryptographically strong source; `None` when it has failed.
pub(crate) fn random_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the buffer has the length that is passed.
    let is_filled = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) };
    is_filled.then_some(bytes)
}
