//! Arguments of a function as Postgres passes them, for functions that are called for every row of a large query.

use pgrx::datum::FromDatum;
use pgrx::fcinfo;
use pgrx::pg_sys::{self, Datum};

use super::varlena;

/// One call of a function that is declared with its own SQL.
pub(crate) struct Call(pg_sys::FunctionCallInfo);

impl Call {
    /// `fcinfo` must be what pgrx has passed to the function, and the value must be gone when it returns.
    pub(crate) fn new(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        Self(fcinfo)
    }

    /// An argument, counted from 0; `None` for NULL. `T` must be the type that the SQL declares there.
    pub(crate) fn argument<T: FromDatum>(&self, index: usize) -> Option<T> {
        // SAFETY: valid during the call; the declaration says how many arguments there are and of which types.
        unsafe { fcinfo::pg_getarg(self.0, index) }
    }

    /// The same as it lies there.
    pub(crate) fn datum(&self, index: usize) -> Option<Datum> {
        // SAFETY: as above.
        unsafe { fcinfo::pg_getarg_datum(self.0, index) }
    }

    /// The bytes of an argument of variable length, where they lie; `None` for NULL.
    pub(crate) fn bytes(&self, index: usize) -> Option<&[u8]> {
        // SAFETY: arguments live during the call; the declaration says that this one is of variable length.
        self.datum(index)
            .map(|value| unsafe { varlena::bytes(value) })
    }

    /// Announces that an argument of variable length is read soon.
    pub(crate) fn prefetch(&self, index: usize) {
        if let Some(value) = self.datum(index) {
            // SAFETY: as above.
            unsafe { varlena::prefetch(value) };
        }
    }
}
