//! The ring of Enrich in shared memory: who calls which step is in `crate::enrich`, what a step does in
//! `actionflow_core::rendezvous`.

use std::cell::{RefCell, UnsafeCell};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use actionflow_core::rendezvous::{Gate, Header, Receiver, Ring, Slot};
use pgrx::shmem::PgSharedMemoryInitialization;
use pgrx::{pg_guard, pg_shmem_init, pg_sys};

use super::shared;
use crate::guc;

/// Small enough that an ordinary request wastes little, large enough that the largest has hundreds and not thousands.
pub(crate) const BLOCK_SIZE: usize = 8 * 1024;
/// Connections of all databases that may take requests.
const RECEIVERS: usize = 64;
/// Endpoints of all databases whose gates are kept; those beyond have none.
const GATES: usize = 1024;

/// Where the client's socket is in `FeBeWaitSet`.
const SOCKET: i32 = 0;

unsafe extern "C-unwind" {
    /// libpq/libpq.h, the same in 15 to 18: the socket, the backend's latch, the end of the server.
    static FeBeWaitSet: *mut pg_sys::WaitEventSet;
}

/// The gate of an endpoint of a database.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct GateEntry {
    pub(crate) database: u32,
    pub(crate) endpoint_id: i64,
    pub(crate) gate: Gate,
    /// Requests since the server started that were refused here, or that no worker took: no attempt was made for them.
    pub(crate) refused: u64,
}

/// Where the parts lie.
#[derive(Clone, Copy)]
struct Parts {
    lock: *mut pg_sys::LWLock,
    /// Callers sleep here while there is no room.
    room: *mut pg_sys::ConditionVariable,
    header: *mut Header,
    slots: *mut Slot,
    slot_count: usize,
    links: *mut u32,
    block_count: usize,
    receivers: *mut Receiver,
    gates: *mut GateEntry,
    blocks: *mut u8,
}

struct RingMemory(UnsafeCell<Option<Parts>>);

// SAFETY: written once, before the backend runs any user code; a backend has one thread that comes here.
unsafe impl Sync for RingMemory {}

static MEMORY: RingMemory = RingMemory(UnsafeCell::new(None));
static IS_PRELOADED: AtomicBool = AtomicBool::new(false);
const NAME: &std::ffi::CStr = c"actionflow_enrich";

/// Asks for the memory, which Postgres gives only while it starts.
pub(crate) fn init() {
    if shared::is_preloading() {
        IS_PRELOADED.store(true, SeqCst);
        pg_shmem_init!(MEMORY = ());
    }
}

/// Whether there is a ring at all.
pub(crate) fn is_there() -> bool {
    IS_PRELOADED.load(SeqCst)
}

fn counts() -> (usize, usize) {
    let slots = guc::enrich_slots();
    let blocks = (slots * guc::enrich_slot_bytes()).div_ceil(BLOCK_SIZE);
    (slots, blocks.max(slots))
}

/// Lays the parts out from `base`, each on a cache line of its own; returns the size as well.
fn layout(base: usize) -> (Parts, usize) {
    const LINE: usize = 128;
    let (slot_count, block_count) = counts();
    let mut end = base;
    let mut place = |bytes: usize| {
        let start = end.next_multiple_of(LINE);
        end = start + bytes;
        start
    };
    let parts = Parts {
        lock: std::ptr::null_mut(),
        room: place(size_of::<pg_sys::ConditionVariable>()) as *mut pg_sys::ConditionVariable,
        header: place(size_of::<Header>()) as *mut Header,
        slots: place(slot_count * size_of::<Slot>()) as *mut Slot,
        slot_count,
        links: place(block_count * size_of::<u32>()) as *mut u32,
        block_count,
        receivers: place(RECEIVERS * size_of::<Receiver>()) as *mut Receiver,
        gates: place(GATES * size_of::<GateEntry>()) as *mut GateEntry,
        blocks: place(block_count * BLOCK_SIZE) as *mut u8,
    };
    (parts, end - base + LINE)
}

impl PgSharedMemoryInitialization for RingMemory {
    type Value = ();

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: called from the hook in which both may be called.
        unsafe {
            pg_sys::RequestAddinShmemSpace(layout(0).1);
            pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
        }
    }

    unsafe fn on_shmem_startup(&'static self, (): ()) {
        // SAFETY: called from the hook in which shared memory is set up; nobody else uses the memory before it is.
        unsafe {
            let mut is_found = false;
            let base = pg_sys::ShmemInitStruct(NAME.as_ptr(), layout(0).1, &mut is_found);
            let (mut parts, _) = layout(base as usize);
            parts.lock = &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock;
            if !is_found {
                // As bytes first: what lies there need not be a value of any of these types.
                std::ptr::write_bytes(base.cast::<u8>(), 0, layout(0).1);
                pg_sys::ConditionVariableInit(parts.room);
                for gate in 0..GATES {
                    parts.gates.add(gate).write(GateEntry::default());
                }
                ring(&parts).clear();
            }
            *self.0.get() = Some(parts);
        }
    }
}

/// # Safety
/// The memory is set up, and nobody else uses it: its lock is held, or the server starts.
unsafe fn ring(parts: &Parts) -> Ring<'static> {
    // SAFETY: by the caller; the layout gives each part its size.
    unsafe {
        Ring {
            header: &mut *parts.header,
            slots: std::slice::from_raw_parts_mut(parts.slots, parts.slot_count),
            links: std::slice::from_raw_parts_mut(parts.links, parts.block_count),
            receivers: std::slice::from_raw_parts_mut(parts.receivers, RECEIVERS),
            block_size: BLOCK_SIZE,
        }
    }
}

fn parts() -> Parts {
    // SAFETY: see MEMORY.
    unsafe { *MEMORY.0.get() }.expect("the ring is used only where it is there")
}

/// Runs steps under the lock. They must be short and call nothing of Postgres.
pub(crate) fn locked<T>(steps: impl FnOnce(&mut Ring<'_>, &mut [GateEntry]) -> T) -> T {
    let parts = parts();
    // SAFETY: the lock is held while the memory is used; an error would release it with the transaction.
    unsafe {
        pg_sys::LWLockAcquire(parts.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let gates = std::slice::from_raw_parts_mut(parts.gates, GATES);
        let result = steps(&mut ring(&parts), gates);
        pg_sys::LWLockRelease(parts.lock);
        result
    }
}

/// Copies bytes into blocks, which must be this backend's by the state of their slot, and enough.
pub(crate) fn write(blocks: &[u32], mut bytes: &[u8]) {
    let parts = parts();
    for block in blocks {
        let (now, later) = bytes.split_at(bytes.len().min(BLOCK_SIZE));
        // SAFETY: a block of the ring, which nobody else uses in this state.
        unsafe {
            let target = parts.blocks.add(*block as usize * BLOCK_SIZE);
            std::ptr::copy_nonoverlapping(now.as_ptr(), target, now.len());
        }
        bytes = later;
    }
}

/// Copies so many bytes out of blocks, which must be this backend's by the state of their slot.
pub(crate) fn read(blocks: &[u32], length: usize) -> Vec<u8> {
    let parts = parts();
    let mut bytes = Vec::with_capacity(length);
    for block in blocks {
        let wanted = (length - bytes.len()).min(BLOCK_SIZE);
        // SAFETY: as in `write`.
        bytes.extend_from_slice(unsafe {
            std::slice::from_raw_parts(parts.blocks.add(*block as usize * BLOCK_SIZE), wanted)
        });
    }
    bytes
}

/// This backend's latch, for [`wake`] in another one. The memory that it lies in is at the same address in all of them.
pub(crate) fn my_latch() -> u64 {
    // SAFETY: set before any user code runs in a backend.
    unsafe { &raw mut (*pg_sys::MyProc).procLatch as u64 }
}

/// Wakes a backend; harmless when it has gone meanwhile.
pub(crate) fn wake(latch: u64) {
    // SAFETY: made by `my_latch`, in a process table that lives as long as the server.
    unsafe { pg_sys::SetLatch(latch as *mut pg_sys::Latch) };
}

/// Sleeps until this backend is woken, and no longer than `time`. Obeys cancellation and the end of the server.
pub(crate) fn sleep(time: Duration) {
    super::transaction::pause(milliseconds(time));
}

/// As [`sleep`], and ends the session when the client has gone, which Postgres itself would notice too late.
pub(crate) fn sleep_while_connected(time: Duration) {
    // SAFETY: set before any user code runs in a backend; only one that has a client has it.
    let events = unsafe { FeBeWaitSet };
    // SAFETY: as above.
    if events.is_null() || !unsafe { pg_sys::WaitEventSetCanReportClosed() } {
        return sleep(time);
    }
    // The set with which Postgres waits for the client's messages, because a new one for each wait would cost five system calls.
    // SAFETY: a backend's own latch and events. Whoever else waits by this set says first for what of the socket, as is done here.
    unsafe {
        pg_sys::ModifyWaitEvent(
            events,
            SOCKET,
            pg_sys::WL_SOCKET_CLOSED,
            std::ptr::null_mut(),
        );
        let mut happened = std::mem::zeroed::<pg_sys::WaitEvent>();
        pg_sys::WaitEventSetWait(
            events,
            milliseconds(time) as _,
            &mut happened,
            1,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        if happened.events & pg_sys::WL_POSTMASTER_DEATH != 0 {
            pg_sys::proc_exit(1);
        }
        if happened.events & pg_sys::WL_SOCKET_CLOSED != 0 {
            pg_sys::ClientConnectionLost = 1;
            pg_sys::InterruptPending = 1;
        }
    }
    pgrx::check_for_interrupts!();
}

/// Rounded up: a sleep that ends early would be taken for a time-out.
fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Says that there may be room again.
pub(crate) fn announce_room() {
    // SAFETY: set up with the memory.
    unsafe { pg_sys::ConditionVariableBroadcast(parts().room) };
}

/// Tries until it succeeds, each time that there may be room; `None` when the time is up. Obeys cancellation.
pub(crate) fn when_there_is_room<T>(
    mut left: impl FnMut() -> Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> Option<T> {
    // SAFETY: prepared before the first look, so that no announcement is missed; an abort cancels the sleep.
    unsafe {
        pg_sys::ConditionVariablePrepareToSleep(parts().room);
        let result = loop {
            if let Some(result) = attempt() {
                break Some(result);
            }
            let left = left();
            if left.is_zero() {
                break None;
            }
            pg_sys::ConditionVariableTimedSleep(
                parts().room,
                milliseconds(left) as _,
                pg_sys::PG_WAIT_EXTENSION,
            );
        };
        pg_sys::ConditionVariableCancelSleep();
        result
    }
}

thread_local! {
    static AT_SESSION_END: RefCell<Vec<fn()>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` when the session ends, before it gives its shared memory back. To be registered once.
pub(crate) fn at_session_end(work: fn()) {
    let is_first = AT_SESSION_END.with_borrow_mut(|list| {
        list.push(work);
        list.len() == 1
    });
    if is_first {
        // SAFETY: a function of this library, which stays loaded for the backend's life.
        unsafe { pg_sys::before_shmem_exit(Some(session_ends), pg_sys::Datum::null()) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn session_ends(_code: i32, _argument: pg_sys::Datum) {
    for work in AT_SESSION_END.take() {
        work();
    }
}

/// The number of the current database.
pub(crate) fn database() -> u32 {
    // SAFETY: set before any user code runs in a backend.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}
