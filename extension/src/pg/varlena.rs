//! Values of variable length, where they lie.

use pgrx::pg_sys::{self, Datum};
use pgrx::varlena::{varatt_is_1b_e, varatt_is_4b_c, varlena_to_byte_slice};

/// The bytes behind the length. One that is compressed or stored elsewhere is brought into the current memory context; for any
/// other, nothing of Postgres is called, which would cost more than what most functions do with the bytes.
///
/// # Safety
/// The datum must be a value of variable length, and live as long as the bytes are used.
pub(super) unsafe fn bytes<'a>(value: Datum) -> &'a [u8] {
    let mut pointer = value.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: a whole value, as the caller says.
    unsafe {
        if varatt_is_1b_e(pointer) || varatt_is_4b_c(pointer) {
            pointer = pg_sys::pg_detoast_datum_packed(pointer);
        }
        varlena_to_byte_slice(pointer)
    }
}

/// Has the processor fetch the beginning of a value while something else is done: a row that a query reads is seldom in its
/// caches. It fetches the rest by itself when it sees how the value is read.
///
/// # Safety
/// The datum must be a value of variable length.
pub(super) unsafe fn prefetch(value: Datum) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const CACHE_LINE: usize = 64;
        const MAX_BYTES: usize = 2048;
        let pointer = value.cast_mut_ptr::<pg_sys::varlena>();
        // SAFETY: a whole value, as the caller says; every processor of this kind has the instruction, and it changes nothing.
        unsafe {
            let length = pgrx::varlena::varsize_any(pointer).min(MAX_BYTES);
            for line in (0..length).step_by(CACHE_LINE) {
                _mm_prefetch::<_MM_HINT_T0>(pointer.cast::<i8>().add(line));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
