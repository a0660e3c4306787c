//! The transition tables of a statement-level trigger, read where they lie.

use std::ffi::CStr;

use pgrx::pg_sys::{self, ffi::pg_guard_ffi_boundary};

unsafe extern "C-unwind" {
    fn datum_image_eq(a: pg_sys::Datum, b: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

/// The statement that fired a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// One call of a statement-level trigger.
pub(crate) struct TriggerCall {
    data: *mut pg_sys::TriggerData,
}

/// A column of the table: its number and its name.
#[derive(Clone)]
pub(crate) struct Column {
    index: usize,
    pub(crate) name: String,
}

/// What a trigger is told of its call; `None` when the function was called in another way.
pub(super) fn trigger_data(fcinfo: pg_sys::FunctionCallInfo) -> Option<*mut pg_sys::TriggerData> {
    // SAFETY: only pgrx makes such pointers, to the running call; its context is a node or null.
    let data = unsafe { (*fcinfo).context };
    // SAFETY: every node begins with its tag.
    let is_trigger = !data.is_null() && unsafe { (*data).type_ } == pg_sys::NodeTag::T_TriggerData;
    is_trigger.then(|| data.cast())
}

impl TriggerCall {
    /// The call that a trigger function is in; `None` when it was called in another way than by a statement's trigger.
    ///
    /// `fcinfo` must be what pgrx has passed to that function, and the value must be gone when it returns.
    pub(crate) fn new(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        let data = trigger_data(fcinfo)?;
        // SAFETY: the tag says that it is TriggerData.
        let is_for_row = unsafe { (*data).tg_event } & pg_sys::TRIGGER_EVENT_ROW != 0;
        (!is_for_row).then_some(Self { data })
    }

    pub(crate) fn operation(&self) -> Operation {
        // SAFETY: `data` is valid during the call, as `new` demands.
        match unsafe { (*self.data).tg_event } & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
            _ => Operation::Truncate,
        }
    }

    /// The oid of the table that the trigger is on.
    pub(crate) fn relation(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open during the call.
        unsafe { (*(*self.data).tg_relation).rd_id }
    }

    /// The owner of the table.
    pub(crate) fn owner(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open during the call and has its catalog row in memory.
        unsafe { (*(*(*self.data).tg_relation).rd_rel).relowner }
    }

    /// Whether the table is partitioned: a statement on it fires the triggers of the table that it names.
    pub(crate) fn is_partitioned(&self) -> bool {
        // SAFETY: as in `owner`.
        unsafe {
            (*(*(*self.data).tg_relation).rd_rel)
                .relkind
                .cast_unsigned()
                == pg_sys::RELKIND_PARTITIONED_TABLE
        }
    }

    /// Makes the transition tables visible to the SPI connection that is open now.
    pub(crate) fn register_with_spi(&self) {
        // SAFETY: `data` is valid; an error code means that there is no SPI connection, which a query then reports.
        unsafe { pg_sys::SPI_register_trigger_data(self.data) };
    }

    /// All columns that are not dropped, in their order.
    pub(crate) fn columns(&self) -> Vec<Column> {
        let descriptor = self.descriptor();
        // SAFETY: the descriptor belongs to the open relation.
        let count = usize::try_from(unsafe { (*descriptor).natts }).unwrap_or_default();
        (0..count)
            .filter_map(|index| {
                // SAFETY: index is below natts.
                let attribute = unsafe { &*attribute_of(descriptor, index) };
                if attribute.attisdropped {
                    return None;
                }
                // SAFETY: a name is terminated by a zero byte.
                let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) };
                Some(Column {
                    index,
                    name: name.to_string_lossy().into_owned(),
                })
            })
            .collect()
    }

    /// Reads the rows before the statement.
    pub(crate) fn old_rows(&self) -> Option<Rows> {
        // SAFETY: `data` is valid; the store lives as long as the call.
        let store = unsafe { (*self.data).tg_oldtable };
        (!store.is_null()).then(|| Rows::open(store, self.descriptor()))
    }

    /// Reads the rows after the statement.
    pub(crate) fn new_rows(&self) -> Option<Rows> {
        // SAFETY: as in `old_rows`.
        let store = unsafe { (*self.data).tg_newtable };
        (!store.is_null()).then(|| Rows::open(store, self.descriptor()))
    }

    /// A cursor over no table, for rows that have been copied.
    pub(crate) fn blank_rows(&self) -> Rows {
        Rows::blank(std::ptr::null_mut(), self.descriptor())
    }

    fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open during the call.
        unsafe { (*(*self.data).tg_relation).rd_att }
    }
}

/// A cursor over one transition table; [`Rows::next`] moves it, the other functions look at the row under it.
///
/// There is deliberately no `Drop`: after an error, which unwinds through here, Postgres frees the slot with its context.
/// Without one, [`Rows::close`] gives it back.
pub(crate) struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
    descriptor: pg_sys::TupleDesc,
}

/// A row that has been copied out of its transition table.
pub(crate) struct StoredRow(pg_sys::MinimalTuple);

impl Rows {
    fn open(store: *mut pg_sys::Tuplestorestate, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: the store is valid during the call; both callers pass one of the trigger's.
        unsafe { pg_sys::tuplestore_rescan(store) };
        Self::blank(store, descriptor)
    }

    fn blank(store: *mut pg_sys::Tuplestorestate, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: the descriptor is valid during the call.
        let slot =
            unsafe { pg_sys::MakeSingleTupleTableSlot(descriptor, &pg_sys::TTSOpsMinimalTuple) };
        Self {
            store,
            slot,
            descriptor,
        }
    }

    pub(crate) fn close(self) {
        // SAFETY: made by `open` and used by nobody else.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
    }

    /// Moves to the next row; false at the end.
    pub(crate) fn next(&mut self) -> bool {
        // SAFETY: the slot is of the kind that the store needs; all columns are read so that `value` may index them.
        unsafe {
            let found = pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot);
            if found && i32::from((*self.slot).tts_nvalid) < (*self.descriptor).natts {
                pg_sys::slot_getsomeattrs_int(self.slot, (*self.descriptor).natts);
            }
            found
        }
    }

    /// The text form of a column; `None` when it is NULL.
    pub(crate) fn text(&self, column: &Column) -> Option<String> {
        let value = self.value(column)?;
        let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: the value is of the attribute's type, whose output function gives a C string in the current context.
        unsafe {
            pg_sys::getTypeOutputInfo(
                self.attribute(column).atttypid,
                &mut output,
                &mut is_varlena,
            );
            let text = pg_sys::OidOutputFunctionCall(output, value);
            let mut owned = CStr::from_ptr(text).to_string_lossy().into_owned();
            pg_sys::pfree(text.cast());
            // As a cast to text does: these blanks are no part of the value.
            if self.attribute(column).atttypid == pg_sys::BPCHAROID {
                owned.truncate(owned.trim_end_matches(' ').len());
            }
            Some(owned)
        }
    }

    /// Whether a column has the same value, bit by bit, in the row of the other cursor.
    pub(crate) fn has_same(&self, other: &Self, column: &Column) -> bool {
        match (self.value(column), other.value(column)) {
            (None, None) => true,
            (Some(mine), Some(theirs)) => {
                let attribute = self.attribute(column);
                let (by_value, length) = (attribute.attbyval, i32::from(attribute.attlen));
                // SAFETY: utils/datum.h, the same in 15 to 18; both values are of this attribute's type. It reads
                // toasted values, so that a value that is only stored in another way counts as the same.
                unsafe { pg_guard_ffi_boundary(|| datum_image_eq(mine, theirs, by_value, length)) }
            }
            _ => false,
        }
    }

    /// Copies the current row, to be looked at again with [`Rows::load`].
    pub(crate) fn copy(&self) -> StoredRow {
        // SAFETY: the slot holds a row; the copy is memory of the call's context, like the slot.
        StoredRow(unsafe { pg_sys::ExecCopySlotMinimalTuple(self.slot) })
    }

    /// Puts a copied row under the cursor.
    pub(crate) fn load(&mut self, row: &StoredRow) {
        // SAFETY: the row comes from `copy` on the same table; the slot does not own it.
        unsafe {
            pg_sys::ExecStoreMinimalTuple(row.0, self.slot, false);
            pg_sys::slot_getsomeattrs_int(self.slot, (*self.descriptor).natts);
        }
    }

    fn attribute(&self, column: &Column) -> &pg_sys::FormData_pg_attribute {
        // SAFETY: a Column is made by `columns` from the same descriptor.
        unsafe { &*attribute_of(self.descriptor, column.index) }
    }

    /// The value of a column in the current row, valid until the cursor moves.
    pub(crate) fn value(&self, column: &Column) -> Option<pg_sys::Datum> {
        // SAFETY: `next` and `load` have read all columns, and the index is below their number.
        unsafe {
            let is_null = *(*self.slot).tts_isnull.add(column.index);
            (!is_null).then(|| *(*self.slot).tts_values.add(column.index))
        }
    }
}

/// The description of a column. Version 18 keeps it in another place than earlier ones.
///
/// # Safety
/// The descriptor must be valid and have more than `index` columns.
unsafe fn attribute_of(
    descriptor: pg_sys::TupleDesc,
    index: usize,
) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: the caller's promise.
    #[cfg(feature = "pg18")]
    return unsafe { pg_sys::TupleDescAttr(descriptor, index as i32) };
    // SAFETY: the caller's promise; the columns follow the descriptor's header.
    #[cfg(not(feature = "pg18"))]
    return unsafe { (*descriptor).attrs.as_ptr().add(index) };
}
