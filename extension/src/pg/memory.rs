//! Memory for one row's worth of work.

use pgrx::memcxt::PgMemoryContexts;

/// A memory context that is emptied after every use.
pub(crate) struct Scratch(PgMemoryContexts);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(PgMemoryContexts::new("actionflow row"))
    }

    /// Runs `work` with this as the current context. What it returns must not point into Postgres' memory: no `Datum`.
    pub(crate) fn run<T: 'static>(&mut self, work: impl FnOnce() -> T) -> T {
        // SAFETY: the context is this value's own; nothing of it is used after the reset, as the caller promises.
        unsafe {
            let result = self.0.switch_to(|_| work());
            self.0.reset();
            result
        }
    }
}
