//! The extension's settings that live in Postgres' own configuration.

use std::ffi::CString;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Moves the clock of everything that decides by time, for tests, replays and backtests; empty: the real clock.
/// Superusers only, because whoever moves the clock decides what is due and what expires.
static NOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

pub(crate) fn init() {
    GucRegistry::define_string_guc(
        c"actionflow.now",
        c"The time that actionflow takes for now.",
        c"A timestamp; empty for the real clock.",
        &NOW,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// The time set by `actionflow.now`, as text.
pub(crate) fn now() -> Option<String> {
    NOW.get()
        .and_then(|text| text.into_string().ok())
        .filter(|text| !text.is_empty())
}
