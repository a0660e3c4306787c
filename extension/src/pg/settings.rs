//! Doing the same whatever the session has set.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Settings that change what a text means to an input function.
const FIXED: [(&CStr, &CStr); 4] = [
    (c"array_nulls", c"on"),
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    (c"timezone", c"UTC"),
];

/// Statistics of a table that has just begun to fill must not talk the planner out of an index. Before version 18 a plan that
/// needs what is switched off counts as so dear that it would be compiled, for longer than it runs.
const BY_INDEX: [(&CStr, &CStr); 4] = [
    (c"jit", c"off"),
    (c"enable_seqscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
];

/// Runs `work` with settings under which a text means the same in every session.
pub(crate) fn fixed<T>(work: impl FnOnce() -> T) -> T {
    with(&FIXED, work)
}

/// Runs `work` with settings under which a query for a few rows is planned to look them up.
pub(crate) fn by_index<T>(work: impl FnOnce() -> T) -> T {
    with(&BY_INDEX, work)
}

/// Puts the session's settings back afterwards; after an error the transaction's abort does.
fn with<T>(settings: &[(&CStr, &CStr)], work: impl FnOnce() -> T) -> T {
    // SAFETY: ordinary calls inside a transaction; names and values are static.
    let level = unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        level
    };
    let result = work();
    // SAFETY: ends the level that was begun above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    result
}
