//! Whether the current statement has to end: asked from code that Postgres must not jump out of.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `work`, during which [`is_due`] becomes true when so much time has passed.
///
/// A cancelled query, a statement that has timed out or a terminated session raises its error once `work` has returned.
pub(crate) fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    DEADLINE.set(Instant::now().checked_add(limit));
    let result = work();
    DEADLINE.set(None);
    pgrx::check_for_interrupts!();
    result
}

/// Whether the work is to end now: its time is over, or somebody wants the statement or the session to end.
pub(crate) fn is_due() -> bool {
    // SAFETY: flags of the backend, which signal handlers set.
    let is_wanted = unsafe {
        std::ptr::read_volatile(&raw const pg_sys::QueryCancelPending) != 0
            || std::ptr::read_volatile(&raw const pg_sys::ProcDiePending) != 0
    };
    is_wanted
        || DEADLINE
            .get()
            .is_some_and(|deadline| Instant::now() >= deadline)
}
