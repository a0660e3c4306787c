//! The extension's settings that live in Postgres' own configuration.

use std::ffi::CString;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::pg::shared;

/// Moves the clock of everything that decides by time, for tests, replays and backtests; empty: the real clock.
/// Superusers only, because whoever moves the clock decides what is due and what expires.
static NOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Requests of Enrich that may be under way at once, in all databases of the cluster.
static ENRICH_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(256);

/// Shared memory for each of them, in kB. It is one store: a larger request takes more, a smaller one leaves some.
static ENRICH_SLOT_SIZE: GucSetting<i32> = GucSetting::<i32>::new(64);

pub(crate) fn init() {
    GucRegistry::define_string_guc(
        c"actionflow.now",
        c"The time that actionflow takes for now.",
        c"A timestamp; empty for the real clock.",
        &NOW,
        GucContext::Suset,
        GucFlags::default(),
    );
    if shared::is_preloading() {
        define_ring();
    }
}

/// What only a start of the server can change.
fn define_ring() {
    GucRegistry::define_int_guc(
        c"actionflow.enrich_slots",
        c"How many requests of Enrich may be under way at once.",
        c"In all databases together; a caller beyond them waits.",
        &ENRICH_SLOTS,
        16,
        16_384,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"actionflow.enrich_slot_size",
        c"Shared memory for requests and answers of Enrich, for each slot.",
        c"It is one store for all slots: a large message takes more than its share.",
        &ENRICH_SLOT_SIZE,
        16,
        4_096,
        GucContext::Postmaster,
        GucFlags::UNIT_KB,
    );
}

pub(crate) fn enrich_slots() -> usize {
    usize::try_from(ENRICH_SLOTS.get()).unwrap_or_default()
}

pub(crate) fn enrich_slot_bytes() -> usize {
    usize::try_from(ENRICH_SLOT_SIZE.get()).unwrap_or_default() * 1024
}

/// The time set by `actionflow.now`, as text.
pub(crate) fn now() -> Option<String> {
    NOW.get()
        .and_then(|text| text.into_string().ok())
        .filter(|text| !text.is_empty())
}
