//! Shared memory: the wake-up counters of every database of the cluster.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use actionflow_core::wakeup::Wakeup;
use pgrx::{PGRXSharedMemory, PgAtomic, PgLwLock, pg_guard, pg_shmem_init, pg_sys};

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
        Self(std::array::from_fn(|_| DatabaseSlot {
            database: AtomicU32::new(0),
            wakeup: Wakeup::default(),
        }))
    }
}

// SAFETY: the only one of this name.
static SHARED: PgAtomic<Shared> = unsafe { PgAtomic::new(c"actionflow_wakeup") };
// SAFETY: the only one of this name.
static ALLOCATION: PgLwLock<u32> = unsafe { PgLwLock::new(c"actionflow_databases") };
static IS_PRELOADED: AtomicBool = AtomicBool::new(false);

/// Whether the server starts, and loads this library for all backends.
pub(crate) fn is_preloading() -> bool {
    // SAFETY: a variable that Postgres sets before it loads the library.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Asks for the memory, which Postgres gives only while it starts.
pub(crate) fn init() {
    if is_preloading() {
        IS_PRELOADED.store(true, SeqCst);
        pg_shmem_init!(SHARED);
        pg_shmem_init!(ALLOCATION);
    }
}

thread_local! {
    static MINE: OnceCell<Option<&'static Wakeup>> = const { OnceCell::new() };
}

/// The counters of the current database; `None` without preloading, or when too many databases use them.
///
/// The first call of a backend may read the catalog, so it has to come inside a transaction that is in progress.
pub(crate) fn wakeup() -> Option<&'static Wakeup> {
    MINE.with(|mine| {
        *mine.get_or_init(|| {
            if IS_PRELOADED.load(SeqCst) {
                find_slot()
            } else {
                None
            }
        })
    })
}

/// The slot of this database, a free one, or that of a database that has been dropped.
fn find_slot() -> Option<&'static Wakeup> {
    // SAFETY: set before any user code runs in a backend.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    // Two backends must not take two slots for one database: each would look at its own counters.
    let _lock = ALLOCATION.exclusive();
    let slots = &SHARED.get().0;
    let owned_by = |owner: u32| {
        slots
            .iter()
            .find(move |slot| slot.database.load(SeqCst) == owner)
    };
    let abandoned = || {
        slots
            .iter()
            .find(|slot| slot.wakeup.snapshot() == (0, 0) && !exists(slot.database.load(SeqCst)))
    };
    let slot = owned_by(database)
        .or_else(|| owned_by(0))
        .or_else(abandoned)?;
    slot.database.store(database, SeqCst);
    Some(&slot.wakeup)
}

fn exists(database: u32) -> bool {
    // SAFETY: a catalog look-up inside a transaction; the name, when there is one, is memory of the current context.
    !unsafe { pg_sys::get_database_name(pg_sys::Oid::from(database)) }.is_null()
}
