//! What has to happen with the end of a transaction that has queued something, and with the end of a session.

use std::cell::Cell;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, ffi::pg_guard_ffi_boundary};

use super::shared;

unsafe extern "C-unwind" {
    fn Async_Notify(channel: *const std::ffi::c_char, payload: *const std::ffi::c_char);
}

/// Where this backend's transaction stands; see `actionflow_core::wakeup` for the protocol.
#[derive(Clone, Copy, PartialEq)]
enum Progress {
    Idle,
    HasQueued,
    Committing,
}

thread_local! {
    static PROGRESS: Cell<Progress> = const { Cell::new(Progress::Idle) };
    static IS_ASLEEP: Cell<bool> = const { Cell::new(false) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the current transaction has queued something that a worker should see.
pub(crate) fn note_queued() {
    register();
    if PROGRESS.get() == Progress::Idle {
        PROGRESS.set(Progress::HasQueued);
    }
}

/// Announces the sleep of the worker at the other end of this session, until [`end_sleep`] or the session's end.
pub(crate) fn announce_sleep() {
    register();
    if let (false, Some(wakeup)) = (IS_ASLEEP.replace(true), shared::wakeup()) {
        wakeup.announce_sleep();
    }
}

/// The worker at the other end of this session is awake.
pub(crate) fn end_sleep() {
    if let (true, Some(wakeup)) = (IS_ASLEEP.replace(false), shared::wakeup()) {
        wakeup.end_sleep();
    }
}

/// Whether no transaction is between its decision not to notify and its visibility; true without shared memory,
/// because every transaction notifies then.
pub(crate) fn is_quiet() -> bool {
    shared::wakeup().is_none_or(actionflow_core::wakeup::Wakeup::is_quiet)
}

/// Waits on this backend's latch; obeys cancellation and the end of the server.
pub(crate) fn pause(milliseconds: i64) {
    let events = (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32;
    // SAFETY: MyLatch is this backend's own and valid while it runs.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events,
            milliseconds as _,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// Once per backend: a callback that is registered with every transaction makes a pooled session slower and slower.
fn register() {
    if IS_REGISTERED.replace(true) {
        return;
    }
    // Looked up now, because the callbacks below come when the catalog cannot be read any more.
    shared::wakeup();
    // SAFETY: functions of this library, which stays loaded for the backend's life.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
        pg_sys::before_shmem_exit(Some(session_ends), pg_sys::Datum::null());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PREPARE,
    };
    match (event, PROGRESS.get()) {
        (_, Progress::Idle) => {}
        (XACT_EVENT_PRE_COMMIT, Progress::HasQueued) => before_commit(),
        // A prepared transaction cannot notify; its rows are found by the worker's poll after COMMIT PREPARED.
        (XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE, progress) => {
            PROGRESS.set(Progress::Idle);
            if progress == Progress::Committing {
                leave_commit();
            }
        }
        _ => {}
    }
}

/// Runs before Postgres looks whether the transaction has notified, so a NOTIFY from here is still sent.
fn before_commit() {
    let must_notify = match shared::wakeup() {
        Some(wakeup) => {
            wakeup.enter_commit();
            PROGRESS.set(Progress::Committing);
            wakeup.must_notify()
        }
        None => true,
    };
    if must_notify {
        // SAFETY: commands/async.h, the same in 15 to 18; both strings are static. Inside a transaction that is still
        // in progress, which is what Async_Notify asks for.
        unsafe {
            pg_guard_ffi_boundary(|| Async_Notify(c"actionflow_delivery".as_ptr(), c"".as_ptr()))
        };
    }
}

fn leave_commit() {
    if let Some(wakeup) = shared::wakeup() {
        wakeup.leave_commit();
    }
}

/// Gives back what a session that ends in the middle would leave counted for ever.
#[pg_guard]
unsafe extern "C-unwind" fn session_ends(_code: i32, _argument: pg_sys::Datum) {
    if PROGRESS.replace(Progress::Idle) == Progress::Committing {
        leave_commit();
    }
    end_sleep();
}

/// The number of the current transaction, which has written already.
pub(crate) fn current() -> u32 {
    // SAFETY: an ordinary call inside a transaction.
    unsafe { pg_sys::GetTopTransactionId() }.into_inner()
}

/// How many triggers run around this one, itself included.
pub(crate) fn trigger_depth() -> i32 {
    // SAFETY: the function looks at no argument.
    unsafe { pgrx::direct_function_call::<i32>(pg_sys::pg_trigger_depth, &[]) }.unwrap_or(1)
}

/// When the client's current statement began.
pub(crate) fn statement_start() -> i64 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// Whether the transaction may write nothing, as on a standby.
pub(crate) fn is_read_only() -> bool {
    // SAFETY: a variable of the backend, and an ordinary call.
    unsafe { pg_sys::XactReadOnly || pg_sys::RecoveryInProgress() }
}
