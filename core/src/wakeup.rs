//! When a committing transaction must notify, so that it need not always do so and no worker sleeps over work.
//!
//! NOTIFY takes a database-wide lock that is held through the commit's flush, so it is sent only while a worker sleeps.
//! A worker announces its sleep and then looks at the queue once more. That look can miss a transaction that read
//! "nobody sleeps" before the announcement and whose rows are not visible yet; therefore a transaction counts itself as
//! committing before it reads, until its rows are visible, and a worker may sleep only after it has seen that count at
//! zero after its announcement. `tests/wakeup.rs` explores all interleavings. Sequentially consistent operations only:
//! the argument is about the order of a write here and a read there.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// The two counters of one database, made to live in shared memory.
#[derive(Debug, Default)]
pub struct Wakeup {
    sleepers: AtomicU32,
    committing: AtomicU32,
}

impl Wakeup {
    /// Counters with the given values: how many workers sleep, and how many transactions commit.
    #[must_use]
    pub const fn new(sleepers: u32, committing: u32) -> Self {
        Self {
            sleepers: AtomicU32::new(sleepers),
            committing: AtomicU32::new(committing),
        }
    }

    /// Both values, for inspection.
    #[must_use]
    pub fn snapshot(&self) -> (u32, u32) {
        (self.sleepers.load(SeqCst), self.committing.load(SeqCst))
    }

    /// A transaction that has queued something is about to commit. Must come before [`Self::must_notify`].
    pub fn enter_commit(&self) {
        self.committing.fetch_add(1, SeqCst);
    }

    /// Whether the committing transaction has to notify.
    #[must_use]
    pub fn must_notify(&self) -> bool {
        self.sleepers.load(SeqCst) > 0
    }

    /// The transaction's rows are visible, or it has been rolled back.
    pub fn leave_commit(&self) {
        self.committing.fetch_sub(1, SeqCst);
    }

    /// A worker is going to sleep. Must come before [`Self::is_quiet`] and the last look at the queue.
    pub fn announce_sleep(&self) {
        self.sleepers.fetch_add(1, SeqCst);
    }

    /// Whether no transaction can still be between its decision not to notify and its visibility.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.committing.load(SeqCst) == 0
    }

    /// A worker is awake again; it must look at the queue before it announces its next sleep.
    pub fn end_sleep(&self) {
        self.sleepers.fetch_sub(1, SeqCst);
    }
}
