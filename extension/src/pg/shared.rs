//! Shared memory: the wake-up counters of every database of the cluster.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use actionflow_core::wakeup::Wakeup;
use pgrx::{PGRXSharedMemory, PgAtomic, pg_guard, pg_shmem_init, pg_sys};

/// Databases with actionflow in one cluster; the next one gets a plain NOTIFY with every transaction.
const DATABASES: usize = 64;

struct DatabaseSlot {
    database: AtomicU32,
    wakeup: Wakeup,
}

struct Shared([DatabaseSlot; DATABASES]);

// SAFETY: atomics only, no pointers: the same bytes mean the same in every backend.
unsafe impl PGRXSharedMemory for Shared {}

impl Default for Shared {
    fn default() -> Self {
        Self(std::array::from_fn(|_| DatabaseSlot { database: AtomicU32::new(0), wakeup: Wakeup::default() }))
    }
}

// SAFETY: the only one of this name.
static SHARED: PgAtomic<Shared> = unsafe { PgAtomic::new(c"actionflow_wakeup") };
static IS_PRELOADED: AtomicBool = AtomicBool::new(false);

/// Asks for the memory, which Postgres gives only while it starts.
pub(crate) fn init() {
    // SAFETY: a variable that Postgres sets before it loads the library.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        IS_PRELOADED.store(true, SeqCst);
        pg_shmem_init!(SHARED);
    }
}

/// The counters of the current database; `None` without preloading, or when too many databases use them.
pub(crate) fn wakeup() -> Option<&'static Wakeup> {
    if !IS_PRELOADED.load(SeqCst) {
        return None;
    }
    // SAFETY: set before any user code runs in a backend.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    for slot in &SHARED.get().0 {
        let owner = slot.database.load(SeqCst);
        let is_mine = owner == database
            || (owner == 0
                && slot
                    .database
                    .compare_exchange(0, database, SeqCst, SeqCst)
                    .map_or_else(|taken_by| taken_by == database, |_| true));
        if is_mine {
            return Some(&slot.wakeup);
        }
    }
    None
}
