//! How a worker goes to sleep without missing a commit; the protocol is in `actionflow_core::wakeup`.

use pgrx::prelude::*;

use crate::pg::transaction;

/// How long one call waits for commits that are under way. Longer than a flush usually takes; the worker looks at the
/// queue again anyway when it was not enough.
const MAX_WAIT_MS: u32 = 50;

/// Announces that the worker at this connection is about to sleep. True: it may, after one more look at the queue.
#[pg_extern(volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn prepare_to_sleep() -> bool {
    transaction::announce_sleep();
    for _ in 0..MAX_WAIT_MS {
        if transaction::is_quiet() {
            return true;
        }
        transaction::pause(1);
    }
    transaction::is_quiet()
}

/// Says that the worker at this connection is awake; it must look at the queue afterwards.
#[pg_extern(volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
pub(crate) fn wake_up() {
    transaction::end_sleep();
}

/// Lets the worker look at the queue after this transaction's commit.
#[pg_extern(volatile, parallel_unsafe)]
pub(crate) fn _wake_worker() {
    transaction::note_queued();
}
