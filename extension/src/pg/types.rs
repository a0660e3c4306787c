//! Values of any type, compared as Postgres compares them: with the operators of the type's default operator classes.

use std::cmp::Ordering;
use std::ffi::{CStr, CString};

use pgrx::pg_sys::{self, Datum, Oid};

use super::varlena;

/// A data type with a collation, and how its values compare.
#[derive(Debug)]
pub(crate) struct DataType {
    /// Never a domain's.
    pub(crate) oid: Oid,
    /// As it was declared: perhaps a domain, which a value has to fit.
    pub(crate) declared: Oid,
    collation: Oid,
    by_value: bool,
    length: i16,
    kernel: Kernel,
    entry: *mut pg_sys::TypeCacheEntry,
}

/// Comparisons that need no call into Postgres for the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    /// Ordered as a signed integer of so many bytes.
    Integer(u8),
    /// Equal when their bytes are; ordered by their bytes when the collation is C.
    Bytes {
        is_ordered: bool,
    },
    General,
}

/// What of a type's values matters to conditions beyond comparing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Date,
    Timestamp,
    TimestampTz,
    Jsonb,
    Array,
    Other,
}

/// A value that lives as long as this does, outside Postgres' memory contexts.
#[derive(Debug)]
pub(crate) struct Stored {
    datum: Datum,
    /// The bytes of a value that is passed by reference, aligned as Postgres wants them.
    _memory: Option<Box<[u64]>>,
}

impl Stored {
    pub(crate) fn datum(&self) -> Datum {
        self.datum
    }
}

const C_COLLATIONS: [u32; 2] = [950, 951];

impl DataType {
    /// The type itself, or the one below a domain.
    pub(crate) fn new(oid: Oid, collation: Oid) -> Self {
        let flags = pg_sys::TYPECACHE_EQ_OPR
            | pg_sys::TYPECACHE_LT_OPR
            | pg_sys::TYPECACHE_GT_OPR
            | pg_sys::TYPECACHE_BTREE_OPFAMILY
            | pg_sys::TYPECACHE_EQ_OPR_FINFO
            | pg_sys::TYPECACHE_CMP_PROC_FINFO
            | pg_sys::TYPECACHE_HASH_PROC_FINFO;
        let declared = oid;
        // SAFETY: catalog look-ups inside a transaction; an entry of the type cache is never freed.
        let (oid, entry) = unsafe {
            let base = pg_sys::getBaseType(declared);
            (base, pg_sys::lookup_type_cache(base, flags as i32))
        };
        // SAFETY: as above.
        let (by_value, length) = unsafe { ((*entry).typbyval, (*entry).typlen) };
        Self {
            oid,
            declared,
            collation,
            by_value,
            length,
            kernel: kernel(oid, collation),
            entry,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.oid {
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID | pg_sys::NAMEOID => {
                Kind::Text
            }
            pg_sys::DATEOID => Kind::Date,
            pg_sys::TIMESTAMPOID => Kind::Timestamp,
            pg_sys::TIMESTAMPTZOID => Kind::TimestampTz,
            pg_sys::JSONBOID => Kind::Jsonb,
            // SAFETY: a catalog look-up.
            oid if unsafe { pg_sys::get_element_type(oid) } != pg_sys::InvalidOid => Kind::Array,
            _ => Kind::Other,
        }
    }

    /// The type of an array's elements.
    pub(crate) fn element(&self) -> Self {
        // SAFETY: a catalog look-up.
        Self::new(
            unsafe { pg_sys::get_element_type(self.oid) },
            self.collation,
        )
    }

    /// The name for people.
    pub(crate) fn display_name(&self) -> String {
        // SAFETY: gives a C string in the current memory context.
        unsafe {
            let name = pg_sys::format_type_be(self.declared);
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    pub(crate) fn is_composite(&self) -> bool {
        // SAFETY: the entry lives for ever.
        unsafe { (*self.entry).typtype as u8 == pg_sys::TYPTYPE_COMPOSITE }
    }

    /// Whether a JSON number may stand for a value.
    pub(crate) fn is_numeric(&self) -> bool {
        let (mut category, mut is_preferred) = (0, false);
        // SAFETY: a catalog look-up that writes to the two places given.
        unsafe { pg_sys::get_type_category_preferred(self.oid, &mut category, &mut is_preferred) };
        category as u8 == b'N'
    }

    pub(crate) fn has_equality(&self) -> bool {
        self.equality_operator() != pg_sys::InvalidOid
    }

    pub(crate) fn has_order(&self) -> bool {
        // SAFETY: the entry lives for ever.
        unsafe {
            (*self.entry).cmp_proc != pg_sys::InvalidOid
                && (*self.entry).lt_opr != pg_sys::InvalidOid
        }
    }

    pub(crate) fn equality_operator(&self) -> Oid {
        // SAFETY: the entry lives for ever.
        unsafe { (*self.entry).eq_opr }
    }

    /// The operator of the default btree class: 1 `<`, 2 `<=`, 4 `>=`, 5 `>`.
    pub(crate) fn order_operator(&self, strategy: i16) -> Oid {
        // SAFETY: the entry lives for ever; a catalog look-up.
        unsafe {
            let (family, input) = ((*self.entry).btree_opf, (*self.entry).btree_opintype);
            pg_sys::get_opfamily_member(family, input, input, strategy)
        }
    }

    /// The name for SQL, with its schema where it needs one.
    pub(crate) fn sql_name(&self) -> String {
        let flags = (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as _;
        // SAFETY: gives a C string in the current memory context.
        unsafe {
            let name = pg_sys::format_type_extended(self.oid, -1, flags);
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    /// The value that a text form stands for. Raises the type's own error when it stands for none.
    pub(crate) fn read(&self, text: &str) -> Stored {
        // A NUL is in no value that Postgres can hold, so nothing that was checked before has one.
        let text = CString::new(text).unwrap_or_default();
        let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        // SAFETY: the input function of the type gives a value of the type.
        let datum = unsafe {
            pg_sys::getTypeInputInfo(self.oid, &mut input, &mut parameter);
            pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), parameter, -1)
        };
        self.store(datum)
    }

    /// Copies a value out of Postgres' memory.
    fn store(&self, datum: Datum) -> Stored {
        if self.by_value {
            return Stored {
                datum,
                _memory: None,
            };
        }
        let pointer = datum.cast_mut_ptr::<u8>();
        let size = match self.length {
            // SAFETY: a value of variable length; input functions give it whole and uncompressed.
            -1 => unsafe { pgrx::varlena::varsize_any(pointer.cast()) },
            // SAFETY: a C string.
            -2 => unsafe { CStr::from_ptr(pointer.cast()) }.count_bytes() + 1,
            length => usize::try_from(length).unwrap_or_default(),
        };
        let mut memory = vec![0_u64; size.div_ceil(8)].into_boxed_slice();
        // SAFETY: both are at least `size` bytes long and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(pointer, memory.as_mut_ptr().cast::<u8>(), size) };
        Stored {
            datum: Datum::from(memory.as_mut_ptr()),
            _memory: Some(memory),
        }
    }

    pub(crate) fn equals(&self, a: Datum, b: Datum) -> bool {
        match self.kernel {
            Kernel::Integer(width) => integer(a, width) == integer(b, width),
            Kernel::Bytes { .. } => with_bytes(a, |a| with_bytes(b, |b| a == b)),
            // SAFETY: the type has equality, which is checked when the condition is bound; both are values of the type.
            Kernel::General => unsafe {
                let function = &raw mut (*self.entry).eq_opr_finfo;
                pg_sys::FunctionCall2Coll(function, self.collation, a, b).value() != 0
            },
        }
    }

    pub(crate) fn compare(&self, a: Datum, b: Datum) -> Ordering {
        match self.kernel {
            Kernel::Integer(width) => integer(a, width).cmp(&integer(b, width)),
            Kernel::Bytes { is_ordered: true } => with_bytes(a, |a| with_bytes(b, |b| a.cmp(b))),
            // SAFETY: the type has an order, which is checked when the condition is bound; both are values of the type.
            Kernel::Bytes { .. } | Kernel::General => unsafe {
                let function = &raw mut (*self.entry).cmp_proc_finfo;
                let order = pg_sys::FunctionCall2Coll(function, self.collation, a, b);
                (order.value() as i32).cmp(&0)
            },
        }
    }

    /// A number that equal values share; `None` for a type without a hash function.
    pub(crate) fn hash(&self, value: Datum) -> Option<u64> {
        match self.kernel {
            Kernel::Integer(width) => Some(integer(value, width).cast_unsigned()),
            Kernel::Bytes { .. } => Some(with_bytes(value, hash_bytes)),
            // SAFETY: the entry lives for ever; a value of the type.
            Kernel::General => unsafe {
                if (*self.entry).hash_proc == pg_sys::InvalidOid {
                    return None;
                }
                let function = &raw mut (*self.entry).hash_proc_finfo;
                Some(pg_sys::FunctionCall1Coll(function, self.collation, value).value() as u64)
            },
        }
    }

    /// Whether an array has an element of another one (`&&`).
    pub(crate) fn overlaps(&self, array: Datum, other: Datum) -> bool {
        // SAFETY: both are arrays of this type.
        unsafe {
            pg_sys::OidFunctionCall2Coll(
                Oid::from(pg_sys::F_ARRAYOVERLAP),
                self.collation,
                array,
                other,
            )
            .value()
                != 0
        }
    }

    /// Whether an array has every element of another one (`@>`).
    pub(crate) fn contains(&self, array: Datum, other: Datum) -> bool {
        // SAFETY: both are arrays of this type.
        unsafe {
            pg_sys::OidFunctionCall2Coll(
                Oid::from(pg_sys::F_ARRAYCONTAINS),
                self.collation,
                array,
                other,
            )
            .value()
                != 0
        }
    }

    /// Calls `look` with the text of a value of a text type; `bpchar` without the blanks that do not count.
    pub(crate) fn with_text<T>(&self, value: Datum, look: impl FnOnce(&[u8]) -> T) -> T {
        match self.oid {
            pg_sys::NAMEOID => {
                // SAFETY: a name is terminated by a zero byte.
                look(unsafe { CStr::from_ptr(value.cast_mut_ptr()) }.to_bytes())
            }
            pg_sys::BPCHAROID => with_bytes(value, |bytes| {
                let length = bytes
                    .iter()
                    .rposition(|byte| *byte != b' ')
                    .map_or(0, |last| last + 1);
                look(&bytes[..length])
            }),
            _ => with_bytes(value, look),
        }
    }

    /// Microseconds since 1970 of a date or timestamp; a value without a zone is UTC. Infinity is the greatest number.
    pub(crate) fn moment(&self, value: Datum) -> i64 {
        const EPOCH_US: i64 = 946_684_800_000_000;
        let since_2000 = match self.oid {
            pg_sys::DATEOID => match integer(value, 4) {
                days if days == i64::from(i32::MIN) => i64::MIN,
                days if days == i64::from(i32::MAX) => i64::MAX,
                days => days.saturating_mul(86_400_000_000),
            },
            _ => integer(value, 8),
        };
        match since_2000 {
            i64::MIN | i64::MAX => since_2000,
            moment => moment.saturating_add(EPOCH_US),
        }
    }
}

fn kernel(oid: Oid, collation: Oid) -> Kernel {
    match oid {
        pg_sys::BOOLOID => Kernel::Integer(1),
        pg_sys::INT2OID => Kernel::Integer(2),
        pg_sys::INT4OID | pg_sys::DATEOID => Kernel::Integer(4),
        pg_sys::INT8OID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Kernel::Integer(8),
        pg_sys::BYTEAOID => Kernel::Bytes { is_ordered: true },
        pg_sys::TEXTOID | pg_sys::VARCHAROID if is_deterministic(collation) => Kernel::Bytes {
            is_ordered: C_COLLATIONS.contains(&collation.to_u32()),
        },
        _ => Kernel::General,
    }
}

/// Whether texts are equal only when their bytes are.
fn is_deterministic(collation: Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

fn integer(value: Datum, width: u8) -> i64 {
    let value = value.value();
    match width {
        1 => i64::from(value as u8),
        2 => i64::from(value as i16),
        4 => i64::from(value as i32),
        _ => value as i64,
    }
}

/// FNV-1a: short keys, and nobody who sends values gains from collisions more than a slower look-up.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn with_bytes<T>(value: Datum, look: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: a value of variable length, which lives at least as long as this call.
    look(unsafe { varlena::bytes(value) })
}

/// `operator(schema.name)`, or the bare name of one that everybody finds.
pub(crate) fn operator_name(schema: &str, name: &str) -> String {
    if schema == "pg_catalog" {
        name.to_owned()
    } else {
        format!("operator({}.{name})", pgrx::spi::quote_identifier(schema))
    }
}
