//! Hearing of committed changes to the configuration tables, through Postgres' own relation-cache invalidations.

use std::cell::Cell;

use pgrx::{pg_guard, pg_sys};

thread_local! {
    static WATCHED: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    static IS_STALE: Cell<bool> = const { Cell::new(true) };
}

/// Registers the callback, once per backend.
pub(crate) fn init() {
    // SAFETY: called from _PG_init; the callback is a function of this library, which stays loaded.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null()) };
}

#[pg_guard]
extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    // InvalidOid means that everything may have changed.
    if relation == WATCHED.get() || relation == pg_sys::InvalidOid {
        IS_STALE.set(true);
    }
}

/// Whether something may have changed since [`mark_fresh`].
pub(crate) fn is_stale() -> bool {
    IS_STALE.get()
}

/// What was read is current until `relation` is announced. To be called before reading, so that a change in between
/// is not missed.
pub(crate) fn mark_fresh(relation: pg_sys::Oid) {
    WATCHED.set(relation);
    IS_STALE.set(false);
}

/// Forgets what was read, when reading it has failed.
pub(crate) fn mark_stale() {
    IS_STALE.set(true);
}

/// Announces with the commit, and in this session at once, that what hangs on `relation` has changed.
pub(crate) fn announce(relation: pg_sys::Oid) {
    IS_STALE.set(true);
    // SAFETY: an ordinary call inside a transaction; errors are reported by the wrapper.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}
