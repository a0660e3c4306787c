//! Queries that are prepared once, and the choice of what they see: what is committed now, at every isolation level, too.
//!
//! Not through pgrx's SPI: once a transaction has written, that runs every query as one that may write, and such a query sees
//! what the transaction's isolation level lets it see.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::datum::{DatumWithOid, FromDatum};
use pgrx::pg_sys::{self, Datum};
use pgrx::spi::Spi;

use super::settings;
use crate::error::Error;

thread_local! {
    /// How many queries of this session are under way, one inside the other: a query over the tables of people may run their
    /// functions, and those may come here.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PLANS: RefCell<HashMap<String, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
}

/// Queries are few, except those over the tables of people, which may come and go.
const MAX_PLANS: usize = 1_000;

/// What a query has found; it lasts as long as the SPI connection that is open.
pub(crate) struct Found {
    table: *mut pg_sys::SPITupleTable,
    count: usize,
}

/// One row of it.
pub(crate) struct FoundRow {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

/// Whether the transaction sees the database as it was when it began.
pub(crate) fn is_frozen() -> bool {
    // SAFETY: a variable of the backend.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Runs a query with a snapshot of now, as foreign-key checks do. To be called inside an SPI connection.
///
/// After an error the transaction's abort gives the snapshot back.
pub(crate) fn latest(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<Found, Error> {
    // SAFETY: inside a transaction; what is pushed is popped.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let found = run(sql, arguments, true);
    // SAFETY: as above.
    unsafe { pg_sys::PopActiveSnapshot() };
    found
}

/// Runs a query that may lock what it finds, with a snapshot that the transaction's isolation level allows: at READ
/// COMMITTED one of now. To be called inside an SPI connection.
pub(crate) fn allowed(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<Found, Error> {
    run(sql, arguments, false)
}

/// The first column of the first row that a query finds now; `None` for NULL and for no row.
///
/// Not `Spi::get_one`, which gives the transaction a number, as if it wrote.
pub(crate) fn value<T: FromDatum>(
    sql: &str,
    arguments: &[DatumWithOid<'_>],
) -> Result<Option<T>, Error> {
    Spi::connect(|_| {
        let found = latest(sql, arguments)?;
        Ok(found.rows().next().and_then(|row| row.get(1)))
    })
}

fn run(sql: &str, arguments: &[DatumWithOid<'_>], is_read_only: bool) -> Result<Found, Error> {
    let plan = plan(sql, arguments)?;
    let mut values: Vec<Datum> = arguments
        .iter()
        .map(|argument| {
            argument
                .datum()
                .map_or(Datum::null(), |datum| datum.sans_lifetime())
        })
        .collect();
    let nulls: Vec<std::ffi::c_char> = arguments
        .iter()
        .map(|argument| {
            if argument.datum().is_some() {
                b' '
            } else {
                b'n'
            }
            .cast_signed()
        })
        .collect();
    let _inside = Inside::enter();
    // SAFETY: inside a transaction and an SPI connection; values and nulls are as many as the plan has parameters.
    let (code, table, count) = settings::by_index(|| unsafe {
        let code =
            pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), is_read_only, 0);
        (code, pg_sys::SPI_tuptable, pg_sys::SPI_processed)
    });
    if code != pg_sys::SPI_OK_SELECT as i32 {
        return Err(Error::Internal(format!("a query failed with code {code}")));
    }
    Ok(Found {
        table,
        count: usize::try_from(count).unwrap_or_default(),
    })
}

fn plan(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<pg_sys::SPIPlanPtr, Error> {
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(sql).copied()) {
        return Ok(plan);
    }
    let broken = || Error::Internal("a query cannot be prepared".to_owned());
    let text = CString::new(sql).map_err(|_| broken())?;
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(DatumWithOid::oid).collect();
    let count = i32::try_from(types.len()).map_err(|_| broken())?;
    // SAFETY: inside an SPI connection; the plan is kept for the life of the backend.
    let plan = unsafe {
        // One plan for all arguments: they are lists of a few ids, and planning anew would cost more than the query.
        let options = pg_sys::CURSOR_OPT_GENERIC_PLAN as i32;
        let plan = pg_sys::SPI_prepare_cursor(text.as_ptr(), count, types.as_mut_ptr(), options);
        if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
            return Err(broken());
        }
        plan
    };
    PLANS.with_borrow_mut(|plans| {
        if plans.len() >= MAX_PLANS && DEPTH.get() == 0 {
            for (_, plan) in plans.drain() {
                // SAFETY: kept above, and used by nobody.
                unsafe { pg_sys::SPI_freeplan(plan) };
            }
        }
        plans.insert(sql.to_owned(), plan);
    });
    Ok(plan)
}

/// A query that is under way.
struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = FoundRow> {
        let (table, count) = (self.table, self.count);
        (0..count).map(move |index| {
            // SAFETY: the table has so many rows and lives as long as the SPI connection.
            unsafe {
                FoundRow {
                    tuple: *(*table).vals.add(index),
                    descriptor: (*table).tupdesc,
                }
            }
        })
    }
}

impl FoundRow {
    /// A column's value, counted from 1; `None` for NULL. `T` must be what the query selects there.
    pub(crate) fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        let mut is_null = false;
        // SAFETY: the row is of this description; a column that it does not have is NULL.
        unsafe {
            let datum = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null);
            T::from_datum(datum, is_null)
        }
    }

    /// A column's value as it lies in the row.
    pub(crate) fn datum(&self, column: i32) -> Option<Datum> {
        let mut is_null = false;
        // SAFETY: as above.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null) };
        (!is_null).then_some(datum)
    }
}
