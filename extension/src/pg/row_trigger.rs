//! One row on its way into a table, as a BEFORE INSERT trigger sees it.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_catalog::pg_proc::PgProc;
use pgrx::pg_sys::{self, Datum};

use super::transition::trigger_data;

/// One call of a BEFORE INSERT trigger for a row.
pub(crate) struct RowCall {
    data: *mut pg_sys::TriggerData,
    function: pg_sys::Oid,
}

impl RowCall {
    /// The call that a trigger function is in; `None` when it was called in another way.
    ///
    /// `fcinfo` must be what pgrx has passed to that function, and the value must be gone when it returns.
    pub(crate) fn new(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        let data = trigger_data(fcinfo)?;
        // SAFETY: the tag says that it is TriggerData; the call's function is known to it.
        let (event, function) = unsafe { ((*data).tg_event, (*(*fcinfo).flinfo).fn_oid) };
        let timing = pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE;
        let is_before_insert = event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_INSERT
            && event & timing == timing;
        is_before_insert.then_some(Self { data, function })
    }

    /// The owner of the trigger function, which is the extension's.
    pub(crate) fn function_owner(&self) -> Option<pg_sys::Oid> {
        PgProc::new(self.function).map(|function| function.proowner())
    }

    /// What the trigger was created with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        // SAFETY: valid during the call; as many texts as the trigger says.
        unsafe {
            let trigger = (*self.data).tg_trigger;
            (0..usize::try_from((*trigger).tgnargs).unwrap_or_default())
                .map(|index| {
                    let text = CStr::from_ptr(*(*trigger).tgargs.add(index));
                    text.to_string_lossy().into_owned()
                })
                .collect()
        }
    }

    /// The row, as a value of the table's row type.
    pub(crate) fn row(&self) -> DatumWithOid<'_> {
        // SAFETY: the relation is open and the row valid during the call; the value is a copy of this type.
        unsafe {
            let descriptor = (*(*self.data).tg_relation).rd_att;
            let value = pg_sys::heap_copy_tuple_as_datum((*self.data).tg_trigtuple, descriptor);
            DatumWithOid::new(value, (*descriptor).tdtypeid)
        }
    }

    /// What to return for the row as it is.
    pub(crate) fn unchanged(&self) -> i64 {
        // SAFETY: valid during the call.
        unsafe { (*self.data).tg_trigtuple as i64 }
    }

    /// What to return for another row, a value of the table's row type.
    ///
    /// To be called inside the SPI connection that has made it.
    pub(crate) fn changed(&self, row: Datum) -> i64 {
        // SAFETY: a composite value is a tuple header with its length; the copies outlive the SPI connection.
        unsafe {
            let value = pg_sys::SPI_datumTransfer(row, false, -1);
            let header = pg_sys::pg_detoast_datum(value.cast_mut_ptr())
                .cast::<pg_sys::HeapTupleHeaderData>();
            let mut tuple = pg_sys::HeapTupleData {
                t_len: (header.cast::<u32>().read_unaligned()) >> 2,
                t_data: header,
                ..Default::default()
            };
            let relation = (*self.data).tg_relation;
            tuple.t_tableOid = (*relation).rd_id;
            pg_sys::SPI_copytuple(&mut tuple) as i64
        }
    }
}
