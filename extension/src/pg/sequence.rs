//! Ids out of sequences, without a query each.

use pgrx::pg_sys::{self, ffi::pg_guard_ffi_boundary};

unsafe extern "C-unwind" {
    fn nextval_internal(relid: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// The next value of a sequence of the extension's.
///
/// Permissions are not checked: the caller's right to the surface function is what counts.
pub(crate) fn next_value(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: commands/sequence.h, the same in 15 to 18; raises an ordinary error when the oid is no sequence, which the
    // boundary turns into a Rust panic that pgrx reports.
    unsafe { pg_guard_ffi_boundary(|| nextval_internal(sequence, false)) }
}
