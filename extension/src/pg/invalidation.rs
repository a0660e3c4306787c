//! Hearing of committed changes to configuration tables, through Postgres' own relation-cache invalidations.

use std::cell::Cell;
use std::thread::LocalKey;

use pgrx::{pg_guard, pg_sys};

/// What a backend keeps in memory, and the relation whose invalidation stands for all tables that it is read from.
pub(crate) struct Subject {
    state: &'static LocalKey<State>,
}

struct State {
    anchor: Cell<pg_sys::Oid>,
    is_stale: Cell<bool>,
}

impl State {
    const fn new() -> Self {
        Self {
            anchor: Cell::new(pg_sys::InvalidOid),
            is_stale: Cell::new(true),
        }
    }
}

thread_local! {
    static CATALOG_STATE: State = const { State::new() };
    static SEGMENTS_STATE: State = const { State::new() };
}

/// Flows, triggers, endpoints, watched tables, settings.
pub(crate) static CATALOG: Subject = Subject {
    state: &CATALOG_STATE,
};
/// Segments.
pub(crate) static SEGMENTS: Subject = Subject {
    state: &SEGMENTS_STATE,
};

/// Registers the callback, once per backend.
pub(crate) fn init() {
    // SAFETY: called from _PG_init; the callback is a function of this library, which stays loaded.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::null()) };
}

#[pg_guard]
extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    for subject in [&CATALOG, &SEGMENTS] {
        subject.state.with(|state| {
            // InvalidOid means that everything may have changed.
            if relation == state.anchor.get() || relation == pg_sys::InvalidOid {
                state.is_stale.set(true);
            }
        });
    }
}

impl Subject {
    /// Whether something may have changed since [`Subject::mark_fresh`].
    pub(crate) fn is_stale(&self) -> bool {
        self.state.with(|state| state.is_stale.get())
    }

    /// What was read is current until `anchor` is announced. To be called before reading, so that a change in between
    /// is not missed.
    pub(crate) fn mark_fresh(&self, anchor: pg_sys::Oid) {
        self.state.with(|state| {
            state.anchor.set(anchor);
            state.is_stale.set(false);
        });
    }

    /// Forgets what was read, when reading it has failed.
    pub(crate) fn mark_stale(&self) {
        self.state.with(|state| state.is_stale.set(true));
    }

    /// Announces with the commit, and in this session at once, that what hangs on `anchor` has changed.
    pub(crate) fn announce(&self, anchor: pg_sys::Oid) {
        self.mark_stale();
        // SAFETY: an ordinary call inside a transaction; errors are reported by the wrapper.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(anchor) };
    }
}
